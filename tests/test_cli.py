"""The command line: teaches by its help, says one line with the remedy, ends with a status that means it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result

from bots.conversation import Person, Place
from bridge import cli
from bridge.homeserver import HomeserverError
from bridge.journal import Admission, Journal, Outcome, Settlement
from bridge.platform import (
    Batch,
    Broken,
    Event,
    EventKind,
    Misconfigured,
    PlaceFacts,
    Refused,
    Retryable,
)
from models.client import (
    ModelBusy,
    ModelError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from policies.document import Standing
from policies.room import Trust
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

DEADLINE = 60.0
TURNS_HEADER = "turn\tasked\tstate\toutcome\tcode\tasker\tplace\tbot\tattempts\tdeaths"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    for name in list(os.environ):
        if name.startswith(("HEARTH_", "CREDENTIALS_DIRECTORY")):
            monkeypatch.delenv(name)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))


def _hearth(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, as a shell would run it."""
    return subprocess.run(
        [sys.executable, "-m", "bridge", *arguments],
        input=said,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def _inside(*arguments: str) -> Result:
    """The command in this process: quick, for those that do not set up the log."""
    return CliRunner().invoke(cli.main, list(arguments), prog_name="hearth")


def _settings(text: str = "") -> Path:
    file = Path("hearth.toml").absolute()
    file.write_text(f'data_dir = "data"\n{text}\n[model]\npath = "echo"\n', encoding="utf-8")
    return file


# -- help and errors -------------------------------------------------------------------------------


def _paths(group: click.Group, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [before]
    for name, command in group.commands.items():
        path = (*before, name)
        found += _paths(command, path) if isinstance(command, click.Group) else [path]
    return found


@pytest.mark.parametrize("path", _paths(cli.main), ids=" ".join)
def test_help_is_there_for_every_command(path: Sequence[str]) -> None:
    """`--help` and `-h` work everywhere, without settings, and show an example or the commands."""
    for flag in ("--help", "-h"):
        result = _inside(*path, flag)
        assert result.exit_code == 0
        assert " ".join(("hearth", *path)) in result.output.partition("\n")[0]
        assert "-h, --help" in result.output


def test_the_version_is_that_of_the_distribution() -> None:
    """`hearth --version` says what a bug report needs."""
    assert _inside("--version").output.split()[0] == "hearth"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Misconfigured("matrix.user", "set it"), 78),
        (ModelMisconfigured("m.gguf", "is no model"), 78),
        (Refused("M_FORBIDDEN", "ask for an invitation"), 77),
        (Retryable("the homeserver is down"), 75),
        (ModelBusy("too many"), 75),
        (ModelUnavailable("gone"), 75),
        (ModelTimeout("slow"), 75),
        (ModelError("odd"), 75),
        (HomeserverError("Synapse is not installed"), 69),
        (Broken("too large"), 65),
        (ModelRefused("context_length_exceeded", "too long"), 65),
        (sqlite3.OperationalError("database or disk is full"), 74),
        (PermissionError(13, "Permission denied"), 74),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_known_errors_are_one_line_and_a_status_of_their_own(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error that we know shows a traceback, and scripts can tell the kinds apart."""

    def fails(ctx: click.Context) -> None:
        del ctx
        raise error

    monkeypatch.setattr(cli, "_settings", fails)
    result = _inside("run")
    assert result.exit_code == status
    assert result.stderr.startswith("hearth: ")
    assert str(error) in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_defect_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What we do not know keeps its traceback: a bug report needs it."""

    def fails(ctx: click.Context) -> None:
        del ctx
        raise KeyError("bug")

    monkeypatch.setattr(cli, "_settings", fails)
    result = _inside("run")
    assert isinstance(result.exception, KeyError)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["run"], 78, "no settings file here"),
        (["--config", "elsewhere.toml", "run"], 78, "elsewhere.toml: no such file"),
        (["turns", "list"], 78, "there is no journal yet"),
        (["turns", "show", "many"], 2, "not a valid integer"),
        (["turns", "list", "--state", "lost"], 2, "'lost' is not one of"),
        (["dance"], 2, "No such command 'dance'"),
    ],
)
def test_mistakes_of_the_operator_say_what_to_do(arguments: list[str], status: int, words: str) -> None:
    """Each mistake ends with its own status and words, and makes no files."""
    result = _inside(*arguments)
    assert result.exit_code == status
    assert words in result.stderr
    assert list(Path().iterdir()) == []


def test_wrong_settings_stop_every_command_with_the_same_line() -> None:
    """A typing error in the settings is said with a guess, whatever was asked for."""
    Path("hearth.toml").write_text("retention_day = 3\n")
    for arguments in (["run"], ["chat", "hi"], ["turns", "list"], ["models", "serve"]):
        done = _inside(*arguments)
        assert done.exit_code == 78
        assert done.stderr.count("\n") == 1
        assert "did you mean retention_days?" in done.stderr


# -- chat and turns --------------------------------------------------------------------------------


def test_chat_answers_one_question_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without settings nothing is kept: neither here nor in the folder for temporary files."""
    monkeypatch.setenv("HEARTH_MODEL__PATH", "echo")
    done = _hearth("chat", "Where is the key?")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Where is the key?") == 1
    assert list(Path().iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_chat_in_a_pipe_answers_each_line_in_order_and_turns_shows_what_became_of_them() -> None:
    """Piped lines are answered one by one; the journal of the terminal has a turn for each."""
    _settings()
    done = _hearth("chat", said="one\n!help\n\nthree\n")
    assert (done.returncode, done.stderr) == (0, "")
    first, helped, third = (done.stdout.find(words) for words in ("one", "!forget", "three"))
    assert 0 <= first < helped < third
    _settings().write_text('data_dir = "data/console"\n')
    listed = _inside("turns", "list").stdout.splitlines()
    assert listed[0] == TURNS_HEADER
    assert [line.split("\t")[0] for line in listed[1:]] == ["3", "2", "1"]
    assert all("\tsettled\tanswered\tallowed\t" in line for line in listed[1:])
    assert "one" not in "".join(listed), "turns never shows words"
    shown = _inside("turns", "show", "2").stdout
    assert "bot          steward\n" in shown
    assert "\tanswer\tsent\t" in shown
    assert len(_inside("turns", "list", "--limit", "1").stdout.splitlines()) == 2
    assert _inside("turns", "list", "--state", "parked").stdout.splitlines() == [TURNS_HEADER]


def test_what_is_parked_is_shown_as_stuck_and_can_be_retried() -> None:
    """`turns stuck` fails while something is stuck, `turns retry` frees it, once."""
    _settings()
    assert _hearth("chat", "Hello").returncode == 0
    _settings().write_text('data_dir = "data/console"\n')
    assert _inside("turns", "stuck").exit_code == 0
    with sqlite3.connect("data/console/hearth.db") as db:
        db.execute("UPDATE turns SET state = 'parked', outcome = 'failed'")
    db.close()
    stuck = _inside("turns", "stuck")
    assert stuck.exit_code == 1
    assert "\tparked\tfailed\t" in stuck.stdout
    assert _inside("turns", "retry", "1").exit_code == 0
    assert "\tpending\t" in _inside("turns", "list").stdout
    again = _inside("turns", "retry", "1")
    assert again.exit_code == 1
    assert "Nothing of turn 1 is parked" in again.stdout
    assert _inside("turns", "show", "99").exit_code == 1


def test_a_journal_that_is_none_is_refused() -> None:
    """A file that SQLite cannot read is said with its path and a remedy."""
    _settings()
    Path("data").mkdir()
    Path("data/hearth.db").write_bytes(b"not a database, whatever its name says" * 100)
    done = _inside("turns", "list")
    assert done.exit_code == 78
    assert "hearth.db: cannot be used as a journal" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_persona_that_does_not_exist_is_refused_with_those_that_do() -> None:
    """The remedy names what can be chosen."""
    file = _settings()
    file.write_text(file.read_text() + '[chat]\npersona = "pirate"\n')
    done = _hearth("chat", "hi")
    assert done.returncode == 78
    assert "city, family, plain" in done.stderr


# -- models ----------------------------------------------------------------------------------------


def test_a_model_on_another_server_is_not_served_here() -> None:
    """`models serve` says so instead of serving something else."""
    Path("hearth.toml").write_text('[model]\nbase_url = "http://x/v1"\nname = "m"\n')
    done = _inside("models", "serve", "--socket", "s")
    assert done.exit_code == 78
    assert "serve it there" in done.stderr


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ('[speech]\nbase_url = "http://x/v1"\nname = "m"', "speech.base_url: .*serve it there"),
        ('[speech]\nmodel = "off"', "speech.model: .*name a model"),
    ],
)
def test_a_speech_model_that_is_not_ours_is_not_served(settings: str, remedy: str) -> None:
    """`models serve --speech` says which setting stands against it."""
    Path("hearth.toml").write_text(settings)
    done = _inside("models", "serve", "--speech", "--socket", "s")
    assert done.exit_code == 78
    assert re.search(remedy, done.stderr)


@pytest.mark.parametrize("flags", [[], ["--speech"]])
def test_models_serve_serves_the_model_of_the_settings(tmp_path: Path, flags: list[str]) -> None:
    """A process of its own answers on the socket with the settings' model, until it is told to stop."""
    _settings('[speech]\nmodel = "echo"')
    socket = tmp_path / "s"
    with subprocess.Popen(
        [sys.executable, "-m", "bridge", "models", "serve", *flags, "--socket", str(socket)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert json.loads(_health(socket, process))["model"] == "echo"
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=DEADLINE)
    assert process.returncode == 0


def _health(path: Path, process: subprocess.Popen[bytes]) -> bytes:
    """The body of `/health`, as soon as the server answers."""
    import http.client  # noqa: PLC0415 - used here only
    import socket  # noqa: PLC0415 - as above

    until = time.monotonic() + DEADLINE
    while time.monotonic() < until and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as link:
            try:
                link.connect(str(path))
            except OSError:
                continue
            link.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            answer = http.client.HTTPResponse(link)
            answer.begin()
            return answer.read()
    raise AssertionError("the model server did not answer")


@pytest.mark.parametrize(
    ("document", "status", "told"),
    [
        ('{"v": 1, "askers": ["@ada:home"], "voice": "off"}', 0, "- Whom I answer: `@ada:home`"),
        ("{}", 1, "hearth: <stdin>: it is empty, which stops me"),
        ('{"v": 1, "voise": "off"}', 1, "hearth: <stdin>: voise: Extra inputs are not permitted"),
    ],
)
def test_a_policy_document_is_read_beforehand(document: str, status: int, told: str) -> None:
    """`hearth policy check -` says what a room's document does, or where it cannot be read."""
    done = _hearth("policy", "check", "-", said=document)
    assert done.returncode == status
    assert told in done.stdout + done.stderr


ROOM_POLICY = {
    "v": 1,
    "ask_peers": ["bot:city.example"],
    "classes_out": ["general", "local-knowledge"],
    "mode": "consent",
}
GRANT = {
    "v": 1,
    "peer": "bot:city.example",
    "app_ed25519": "A" * 43,
    "direction": "ask",
    "classes": ["general", "local-knowledge"],
    "not_before": 0,
    "status": "active",
}


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--ask", "When does the pool open?"], 0, "rule: policy.askers"),
        (["--ask", "Hi", "--peer", "@bot:city.example", "--class", "general"], 3, "rule: grant.missing"),
        (["--ask", "Hi", "--peer", "bot:city.example", "--grant", "grant.json"], 3, "rule: hearth.classes"),
        (
            ["--ask", "Hi", "--peer", "bot:city.example", "--grant", "grant.json", "--class", "general"],
            0,
            "as if the other community allowed the same",
        ),
        (
            [
                "--ask",
                "My son is ill",
                "--peer",
                "bot:city.example",
                "--grant",
                "grant.json",
                "--class",
                "general",
            ],
            3,
            "the words suggest: children, health",
        ),
        (["--ask", "Hi", "--peer", "bot:club.example", "--grant", "grant.json"], 1, "peer: it names another"),
    ],
)
def test_a_question_is_explained_beforehand(arguments: list[str], status: int, told: str) -> None:
    """`hearth policy explain`: verdict and rule; 0 allowed, 3 refused, 1 for a file that cannot be read."""
    now = time.time_ns() // 1_000_000
    Path("room.json").write_text(json.dumps(ROOM_POLICY))
    Path("grant.json").write_text(json.dumps(GRANT | {"not_before": now - 1000, "until": now + 60_000}))
    done = _hearth("policy", "explain", "--policy", "room.json", *arguments)
    assert (done.returncode, told in done.stdout + done.stderr) == (status, True), done.stdout + done.stderr
    refused = [line for line in done.stdout.splitlines() if line in ("allowed", "refused")]
    assert refused == {0: ["allowed"], 3: ["refused"], 1: []}[status]


def test_what_vouches_for_the_asker_is_part_of_the_question() -> None:
    """`--trust` says what the room may ask for; every degree that there is can be said."""
    Path("room.json").write_text(json.dumps({"v": 1, "asker_trust": "signed"}))
    for degree, status in (("unsigned", 3), ("signed", 0), ("verified", 0)):
        done = _hearth(
            *("policy", "explain", "--policy", "room.json", "--ask", "Hello?", "--trust", str(Trust(degree)))
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert ("rule: room.asker_trust" in done.stdout) is (status == 3)
    assert len(Trust) == 3


async def _known_room(path: Path) -> None:
    """A journal with one room that has a policy, and one question of which the features are known."""
    path.parent.mkdir(parents=True)
    journal = await Journal.open(path)
    ada = Person("@ada:home", "Ada")
    place = Place(
        "@hearth:home", "!room:home", name="Family", policy=Standing(json.dumps(ROOM_POLICY), "@ben:home", 0)
    )
    question = Event("$1", place.id, EventKind.MESSAGE, ada, 1, text="My son is ill", addressed=True)
    now = time.time_ns() // 1_000_000
    batch = Batch(place.account, "1", events=(question,), places=(PlaceFacts(place, (ada,)),))
    await journal.admit(batch, lambda *_: Admission("chat", "lane"), now)
    (claimed,) = await journal.claim(place.account, now, 1, 20)
    features: dict[str, float | int | str] = {"screened": "children,health", "names": 0}
    verdict = Verdict(True, Code.ALLOWED, "policy.askers")
    await journal.settle(claimed, Settlement(Outcome.ANSWERED, verdict, features=features), "D", now)
    await journal.close()


def test_what_rooms_allow_is_shown_and_tried_out() -> None:
    """`hearth policy show` prints each room's card, `simulate` counts last month's questions."""
    Path("hearth.toml").write_text('data_dir = "data"\n')
    asyncio.run(_known_room(Path("data/hearth.db")))
    shown = _hearth("policy", "show")
    assert shown.returncode == 0
    assert shown.stdout.startswith("# Family (!room:home, @hearth:home)")
    assert "this room's own rules were set by `@ben:home`" in shown.stdout
    assert _hearth("policy", "show", "!nowhere:home").returncode == 1
    tried = _hearth("policy", "simulate", "ask", "@bot:city.example")
    assert "Family: Of 1 question of the last 30 days, 0 would have been allowed to leave" in tried.stdout
    assert "son" not in tried.stdout + shown.stdout.replace("person", "")
    wrong = _hearth("policy", "simulate", "ask", "the", "city")
    assert (wrong.returncode, "is no bot of another community" in wrong.stderr) == (1, True)


def test_notes_are_listed_and_searched() -> None:
    """What the bot would find, with where it stands; a folder that is not there is said."""
    assert "There are no notes" in _hearth("notes", "list").stdout
    Path("hearth.toml").write_text('[notes]\ncity = "city"\nboard = "board"\n')
    Path("city").mkdir()
    Path("city/pool.md").write_text("# Pool\n\nThe pool opens at nine.\n\x1b[31m")
    listed = _hearth("notes", "list")
    assert listed.returncode == 1
    assert "city: " in listed.stdout
    assert "1 notes, 1 passages" in listed.stdout
    assert "there is no such folder" in listed.stdout
    found = _hearth("notes", "search", "When does the pool open?")
    assert found.returncode == 0
    assert found.stdout.startswith("city: pool.md:1-4  Pool\n")
    assert "\x1b" not in found.stdout
    assert _hearth("notes", "search", "a joke").returncode == 1
    wrong = _hearth("notes", "search", "pool", "--collection", "town")
    assert (wrong.returncode, "there are: city, board" in wrong.stderr) == (2, True)


def test_what_is_decided_in_the_terminal_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no room state there: the journal has it, for the next session, until it is undone."""
    monkeypatch.setenv("HEARTH_MODEL__PATH", "echo")
    Path("hearth.toml").write_text('data_dir = "data"\n')
    assert "changed what I may do" in _hearth("chat", "!policy set answer_words 5").stdout
    said = "one two three four five six"
    assert "six" not in _hearth("chat", said).stdout
    assert "at most 5 words" in _hearth("chat", "!policy").stdout
    _hearth("chat", "!policy undo")
    assert "six" in _hearth("chat", said).stdout
