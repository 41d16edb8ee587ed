"""The settings: what is accepted is usable, what is not is refused in one line with its remedy."""

from __future__ import annotations

import contextlib
import os
import stat
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from bridge.credentials import MATRIX_PASSWORD, MATRIX_PICKLE_KEY, CredentialFiles, mastodon_token
from bridge.platform import Misconfigured
from bridge.settings import DEFAULT_FILE, Settings, load, names
from models.bundled import MODEL_PATH
from policies.room import Voice

if TYPE_CHECKING:
    from pathlib import Path

MATRIX = '[matrix]\nhomeserver = "https://matrix.example.org/"\nuser = "@hearth:example.org"\n'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("HEARTH_", "CREDENTIALS_DIRECTORY")):
            monkeypatch.delenv(name)


def _load(text: str) -> Settings:
    DEFAULT_FILE.write_text(text, encoding="utf-8")
    return load()


def _refused(text: str) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        _load(text)
    return caught.value


# -- where they come from --------------------------------------------------------------------------


def test_without_a_file_the_defaults_stand_and_matrix_is_asked_for() -> None:
    """No file is needed to chat; what runs on Matrix says what to write and where."""
    settings = load()
    assert settings.source is None
    assert settings.model_path == MODEL_PATH
    assert settings.room_policy.askers == frozenset()
    with pytest.raises(Misconfigured, match=r"hearth.toml: .*\[matrix\]"):
        settings.need_matrix()


TWO = """
[[mastodon]]
instance = "https://one.example/"
user = "@hearth@one.example"
allow = ["*"]
[[mastodon]]
instance = "http://127.0.0.1:3000"
user = "@hearth@127.0.0.1:3000"
allow = ["@ada@two.example"]
"""


def test_several_accounts_on_mastodon_stand_for_themselves() -> None:
    """Each has its instance, its askers and its token's file; Matrix is not needed beside them."""
    settings = _load(TWO)
    settings.need_account()
    one, two = settings.mastodon
    assert one.instance == "https://one.example"
    assert settings.mastodon_policy(one).askers == {"*"}
    assert settings.mastodon_policy(two).admits("@ada@two.example")
    assert not settings.mastodon_policy(two).admits("@ben@two.example")
    assert mastodon_token(two.user) == "mastodon-token-hearth@127.0.0.1_3000"


@pytest.mark.parametrize(
    ("said", "meant", "words"),
    [
        ('user = "@hearth@one.example"', 'user = "@hearth:one.example"', "mastodon.0.user"),
        ('user = "@hearth@one.example"', 'usr = "@hearth@one.example"', "did you mean user?"),
        ("https://one.example/", "one.example", "mastodon.0.instance"),
    ],
)
def test_a_mistake_in_an_account_is_told(said: str, meant: str, words: str) -> None:
    """The account is named by its number, and the guess is right."""
    assert words in str(_refused(TWO.replace(said, meant)))


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    """A typing error in `--config` never falls back to the defaults."""
    with pytest.raises(Misconfigured, match=r"elsewhere.toml: no such file"):
        load(tmp_path / "elsewhere.toml")


def test_the_named_file_wins_over_the_variable_and_the_variable_over_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--config`, then `$HEARTH_CONFIG`, then `./hearth.toml`."""
    for name in ("here", "variable", "named"):
        (tmp_path / f"{name}.toml").write_text(f'community = "{name}"\n')
    (tmp_path / "here.toml").rename(DEFAULT_FILE)
    assert load().community == "here"
    monkeypatch.setenv("HEARTH_CONFIG", str(tmp_path / "variable.toml"))
    assert load().community == "variable"
    assert load(tmp_path / "named.toml").community == "named"


def test_the_environment_wins_over_the_file_field_by_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable replaces one setting and leaves its neighbours in the same table alone."""
    monkeypatch.setenv("HEARTH_MATRIX__HOMESERVER", "http://localhost:8008")
    monkeypatch.setenv("HEARTH_MATRIX__ALLOW", '["example.org", "@ada:elsewhere.net"]')
    matrix = _load(MATRIX).need_matrix()
    assert matrix.homeserver == "http://localhost:8008"
    assert matrix.user == "@hearth:example.org"
    assert matrix.allow == ("example.org", "@ada:elsewhere.net")


def test_relative_paths_belong_to_the_settings_file(tmp_path: Path) -> None:
    """A unit that starts elsewhere finds the same folders as the operator who wrote the file."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "a.toml").write_text(
        'data_dir = "data"\n[model]\npath = "m.gguf"\n[chat]\npersona = "./p.toml"\n'
    )
    settings = load(home / "a.toml")
    assert settings.journal_path == home / "data" / "hearth.db"
    assert settings.model_path == home / "m.gguf"
    assert settings.persona_path == home / "p.toml"


# -- what they mean --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [('"1h"', 3600), ('"30m"', 1800), ('"90s"', 90), ('"2d"', 172_800), ("45", 45), ('"1.5h"', 5400)],
)
def test_durations_are_written_as_people_say_them(written: str, meant: int) -> None:
    """A number is seconds; a unit is one letter."""
    settings = _load(f"{MATRIX}max_age = {written}\n")
    assert settings.need_matrix().max_age == timedelta(seconds=meant)


@pytest.mark.parametrize(("written", "meant"), [('"4GB"', 4 << 30), ('"512MB"', 512 << 20), ("1000", 1000)])
def test_sizes_are_written_as_people_say_them(written: str, meant: int) -> None:
    """Units of memory are powers of 1024."""
    assert _load(f"[model]\nmemory_limit = {written}\n").model.memory_limit == meant


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "bundled"),
        ('[model]\npath = "echo"', "echo"),
        ('[model]\npath = "m.gguf"', "file"),
        ('[model]\nbase_url = "http://x/v1"\nname = "m"', "remote"),
    ],
)
def test_settings_choose_exactly_one_model(text: str, kind: str) -> None:
    """A model is the bundled one, the echo, a file or a server; only files have a path."""
    settings = _load(text)
    assert settings.model.kind == kind
    assert (settings.model_path is not None) == (kind in {"bundled", "file"})


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("", "bundled", "hearth-ear"),
        ('[speech]\nmodel = "echo"', "echo", "echo"),
        ('[speech]\nmodel = "off"', "off", ""),
        ('[speech]\nmodel = "whisper-small.en"', "folder", "whisper-small.en"),
        ('[speech]\nbase_url = "http://x/v1"\nname = "m"', "remote", "m"),
    ],
)
def test_settings_choose_at_most_one_speech_model(text: str, kind: str, name: str) -> None:
    """It is the bundled one, the echo, a folder, a server, or none; only folders have a path."""
    settings = _load(text)
    assert (settings.speech.kind, settings.speech_name) == (kind, name)
    assert (settings.speech_path is not None) == (kind in {"bundled", "folder"})


def test_a_speech_server_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults of a table do not count as a second choice beside a variable."""
    monkeypatch.setenv("HEARTH_SPEECH__BASE_URL", "http://x/v1")
    monkeypatch.setenv("HEARTH_SPEECH__NAME", "m")
    assert _load('[speech]\nlanguage = "de"').speech.kind == "remote"


def test_voice_is_listened_to_when_asked_unless_said_otherwise() -> None:
    """The policy of every room has what the settings say of voice."""
    assert load().room_policy.voice is Voice.ASKED
    assert _load('[policy]\nvoice = "all"').room_policy.voice is Voice.ALL


def test_askers_are_those_who_may_invite_unless_said_otherwise() -> None:
    """`policy.askers` defaults to `matrix.allow`, and an empty list of its own stays empty."""
    assert _load(MATRIX + 'allow = ["example.org"]').room_policy.admits("@ada:example.org")
    assert not _load(MATRIX + 'allow = ["example.org"]').room_policy.admits("@eve:elsewhere.net")
    assert not _load(MATRIX + 'allow = ["*"]\n[policy]\naskers = []').room_policy.admits("@ada:example.org")


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "remedy"),
    [
        ('[matrix]\nhomserver = "https://x"\nuser = "@a:b"', "matrix.homserver", "did you mean homeserver?"),
        ('homeserver = "https://x"', "homeserver", "did you mean matrix.homeserver?"),
        ("[modle]\ncontext = 1024", "modle", "did you mean model?"),
        ("[model]\nzzz = 1", "model.zzz", "unknown setting; remove"),
        ('[matrix]\nuser = "@a:b"', "matrix.homeserver", "missing"),
        ('[matrix]\nhomeserver = "example.org"\nuser = "@a:b"', "matrix.homeserver", "with its scheme"),
        ('[matrix]\nhomeserver = "https://x"\nuser = "hearth"', "matrix.user", "a full address"),
        (MATRIX + 'max_age = "soon"', "matrix.max_age", "write a duration"),
        (MATRIX + "max_age = 0", "matrix.max_age", "greater than"),
        (MATRIX + 'allow = ["all of them"]', "matrix.allow.0", '"*"'),
        ('[model]\nmemory_limit = "lots"', "model.memory_limit", "write a size"),
        ('[model]\npath = "a"\nbase_url = "http://x"\nname = "m"', "model", "keep one"),
        ('[model]\nbase_url = "http://x"', "model", "needs name"),
        ('[model]\nname = "m"', "model", "belongs to base_url"),
        ('[speech]\nmodel = "a"\nbase_url = "http://x"\nname = "m"', "speech", "keep one"),
        ('[speech]\nbase_url = "http://x"', "speech", "needs name"),
        ('[speech]\nname = "m"', "speech", "belongs to base_url"),
        ('[speech]\nmodel = ""', "speech", 'write "off"'),
        ('[speech]\nlanguage = "German"', "speech.language", "as its code"),
        ('[speech]\nlangage = "de"', "speech.langage", "did you mean language?"),
        ("[speech]\nmax_minutes = 0", "speech.max_minutes", "greater than"),
        ('[policy]\nvoice = "loud"', "policy.voice", "'off', 'asked', 'named' or 'all'"),
        (MATRIX + f'max_age = "{"9" * 400}"', "matrix.max_age", "write less"),
        (f'[model]\nmemory_limit = "{"9" * 400}"', "model.memory_limit", "write less"),
        ("retention_days = 0", "retention_days", "greater than"),
        ("[matrix", "hearth.toml", "not valid TOML"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_with_path_and_remedy(
    text: str, path: str, remedy: str
) -> None:
    """Every refusal names the setting and the file, says what to do, and fits in one line."""
    error = _refused(text)
    assert error.path.split(" (")[0] == path
    assert "hearth.toml" in error.path
    assert remedy in error.remedy
    assert "\n" not in str(error)


def test_several_mistakes_are_counted() -> None:
    """The operator knows that correcting one line is not the end."""
    assert "(and 1 more)" in _refused("[model]\ncontex = 1\nthread = 1\n").remedy


def test_a_file_that_is_not_text_is_refused_in_one_line() -> None:
    """Bytes that are no UTF-8 are the operator's to correct, not a crash."""
    DEFAULT_FILE.write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match="not valid TOML"):
        load()


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("HEARTH_MATRX__HOMESERVER", "https://x", "did you mean HEARTH_MATRIX__HOMESERVER?"),
        ("HEARTH_RETENTION_DAY", "3", "did you mean HEARTH_RETENTION_DAYS?"),
        ("HEARTH_MODEL__CONTEX", "1024", "did you mean context?"),
        ("HEARTH_MODEL__CONTEXT", "much", "valid integer"),
        ("HEARTH_MATRIX__ALLOW", "example.org", "as JSON"),
    ],
)
def test_variables_are_held_to_the_same_rules(
    variable: str, value: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in the environment is refused, not passed over; it names the variable or what it holds."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(Misconfigured) as caught:
        load()
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_variable_at_fault_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file is right and the environment is not, the environment is blamed."""
    monkeypatch.setenv("HEARTH_RETENTION_DAYS", "-1")
    with pytest.raises(Misconfigured, match=r"retention_days \(HEARTH_RETENTION_DAYS\)"):
        _load("retention_days = 30")


@given(st.text(max_size=40))
def test_no_text_breaks_the_reading_of_values(text: str) -> None:
    """Any text for a duration, an address or a size is read or refused as a value, never a crash."""
    for field in ("max_age", "homeserver", "user"):
        values = {"homeserver": "http://x", "user": "@a:b"} | {field: text}
        with contextlib.suppress(ValidationError):
            assert Settings(matrix=values).need_matrix().max_age > timedelta(0)  # type: ignore[arg-type]  # raw, as in TOML


def test_what_was_checked_at_the_start_cannot_be_changed() -> None:
    """Settings are frozen, all the way down."""
    settings = load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.retention_days = 1
    with pytest.raises(ValidationError, match="frozen"):
        settings.model.context = 1


def test_every_setting_says_what_it_means() -> None:
    """What the documentation is made from is complete."""
    assert all(meaning.endswith((".", "`.")) for _, meaning, _ in names())


# -- secrets ---------------------------------------------------------------------------------------


def test_systemd_credentials_win_and_are_never_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`$CREDENTIALS_DIRECTORY` is read first; what we make goes to our own folder."""
    system = tmp_path / "system"
    system.mkdir()
    (system / MATRIX_PASSWORD).write_text("from systemd\n")
    own = tmp_path / "hearth-data" / "credentials"
    own.mkdir(parents=True)
    (own / MATRIX_PASSWORD).write_text("our own\n")
    settings = load()
    ours = settings.credentials().get(MATRIX_PASSWORD)
    assert ours is not None
    assert ours.get_secret_value() == "our own"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(system))
    files = settings.credentials()
    theirs = files.get(MATRIX_PASSWORD)
    assert theirs is not None
    assert theirs.get_secret_value() == "from systemd"
    assert files.put(MATRIX_PICKLE_KEY, SecretStr("x")).parent == own


def test_the_pickle_key_is_made_once_and_only_for_us(tmp_path: Path) -> None:
    """The same key comes back, from a file of mode 600; every folder made for it is of mode 700."""
    folder = tmp_path / "hearth-data" / "credentials"
    files = CredentialFiles(read=(folder,), write=folder)
    made = files.pickle_key()
    assert len(made.get_secret_value()) == 64
    assert files.pickle_key() == made
    assert stat.S_IMODE((folder / MATRIX_PICKLE_KEY).stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {0o700}
    assert list(folder.iterdir()) == [folder / MATRIX_PICKLE_KEY]
    assert made.get_secret_value() not in repr(made)


def test_an_empty_secret_is_refused_not_taken_for_none(tmp_path: Path) -> None:
    """Going on without a secret that somebody meant to set would make a new device."""
    (tmp_path / MATRIX_PASSWORD).write_text("\n")
    with pytest.raises(Misconfigured, match="is empty"):
        CredentialFiles(read=(tmp_path,), write=tmp_path).get(MATRIX_PASSWORD)


def test_a_secret_that_others_may_read_is_found(tmp_path: Path) -> None:
    """`hearth check` can say which files are too open."""
    secret = tmp_path / MATRIX_PASSWORD
    secret.write_text("x")
    secret.chmod(0o640)
    files = CredentialFiles(read=(tmp_path,), write=tmp_path)
    assert files.too_open() == [secret]
    secret.chmod(0o600)
    assert files.too_open() == []


def test_a_folder_that_cannot_be_written_is_said_with_its_path(tmp_path: Path) -> None:
    """Where a secret cannot be kept, the operator hears where."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(Misconfigured, match="cannot be written"):
        CredentialFiles(read=(), write=blocked / "credentials").put("x", SecretStr("y"))
