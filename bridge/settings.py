"""The settings: one TOML file, overridden by the environment, with secrets in credential files.

Owns where settings come from and what follows from them; the tables and what they mean are in
`bridge.sections` (`docs/settings.md` is held to both by a test). Promises that what is accepted here
is usable: unknown keys are refused with a guess, relative paths are relative to the settings file.
Refuses with `Misconfigured`, one line: where, and what to do. Holds no secret:
those are read by `bridge.credentials` from files, never from this file or the environment.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from bridge.credentials import CredentialFiles
from bridge.platform import Misconfigured
from bridge.sections import (
    ECHO,
    A2APeerSettings,
    A2ASettings,
    ChatSettings,
    DeliverySettings,
    LimitSettings,
    LinkSettings,
    MastodonSettings,
    MatrixSettings,
    ModelSettings,
    PolicySettings,
    Section,
    SpeechSettings,
)
from models.bundled import MODEL_PATH, SPEECH_PATH
from policies.room import LOOSEST, Collection, RoomPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_FILE = Path("hearth.toml")
CONFIG_VARIABLE = "HEARTH_CONFIG"
PREFIX = "HEARTH_"


class Settings(BaseSettings):
    """All settings, checked. Build it with `load`, which makes its paths absolute."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
        validate_default=True,
    )

    community: str = Field(
        default="", description="What the community calls itself; the bot says it when it joins a room."
    )
    data_dir: Path = Field(
        default=Path("hearth-data"),
        description="Folder of the journal, the encryption keys and the credentials.",
    )
    credentials_dir: Path | None = Field(
        default=None, description="Folder of the credential files. Unset: `credentials` in `data_dir`."
    )
    retention_days: int = Field(
        default=30, ge=1, description="Words of settled questions are erased after this many days."
    )
    matrix: MatrixSettings | None = Field(default=None, description="The account on Matrix.")
    mastodon: tuple[MastodonSettings, ...] = Field(default=(), description="The accounts on Mastodon.")
    model: ModelSettings = Field(default=ModelSettings(), description="The language model.")
    notes: dict[Collection, Path] = Field(
        default={}, description="Folders of notes that the bot may read, by what it calls them."
    )
    speech: SpeechSettings = Field(default=SpeechSettings(), description="The speech model.")
    policy: PolicySettings = Field(default=PolicySettings(), description="What every room allows.")
    links: LinkSettings = Field(default=LinkSettings(), description="Links with other communities.")
    a2a: A2ASettings = Field(default=A2ASettings(), description="Being asked over HTTPS.")
    a2a_peers: tuple[A2APeerSettings, ...] = Field(
        default=(), description="Communities and agents over HTTPS."
    )
    chat: ChatSettings = Field(default=ChatSettings(), description="How the bot talks.")
    delivery: DeliverySettings = Field(default=DeliverySettings(), description="What people see meanwhile.")
    limits: LimitSettings = Field(default=LimitSettings(), description="Bounds on what runs at once.")

    _source: Path | None = PrivateAttr(None)
    _base: Path = PrivateAttr(Path())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file (which `load` hands in as arguments); nothing else."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    @property
    def source(self) -> Path | None:
        """The file that was read, None where the defaults stand alone."""
        return self._source

    @property
    def data(self) -> Path:
        """The data folder, absolute."""
        return self._resolve(self.data_dir)

    @property
    def journal_path(self) -> Path:
        """The journal's database."""
        return self.data / "hearth.db"

    @property
    def note_folders(self) -> dict[str, Path]:
        """The folder of each collection of notes, absolute."""
        return {name: self._resolve(folder) for name, folder in self.notes.items()}

    @property
    def notes_path(self) -> Path:
        """The index of the notes. It can be deleted: it is made anew."""
        return self.data / "notes.db"

    @property
    def a2a_files(self) -> tuple[Path | None, Path | None]:
        """The certificate of the HTTPS side and its key, absolute."""
        files = (self.a2a.certificate, self.a2a.private_key)
        first, second = (None if file is None else self._resolve(file) for file in files)
        return first, second

    @property
    def matrix_store(self) -> Path:
        """Folder of matrix-nio's encryption store."""
        return self.data / "matrix"

    @property
    def model_path(self) -> Path | None:
        """The GGUF file to load, absolute; None for the echo double and for a remote model."""
        if self.model.kind == "bundled":
            return MODEL_PATH
        if self.model.kind == "file":
            assert self.model.path is not None
            return self._resolve(Path(self.model.path))
        return None

    @property
    def speech_path(self) -> Path | None:
        """The folder of the speech model, absolute; None where there is none of ours to load."""
        if self.speech.kind == "bundled":
            return SPEECH_PATH
        return self._resolve(Path(self.speech.model)) if self.speech.kind == "folder" else None

    @property
    def speech_socket(self) -> Path | None:
        """Where a speech server of its own listens, absolute; None where it is ours to start."""
        return None if self.speech.socket is None else self._resolve(self.speech.socket)

    @property
    def speech_name(self) -> str:
        """What the speech model is called; `""` where voice is off."""
        match self.speech.kind:
            case "off":
                return ""
            case "remote":
                return self.speech.name or ""
        path = self.speech_path
        return ECHO if path is None else path.name

    @property
    def persona_path(self) -> Path | None:
        """The persona's file where `chat.persona` is one, None where it is a name that ships."""
        persona = self.chat.persona
        is_file = persona.endswith(".toml") or "/" in persona
        return self._resolve(Path(persona)) if is_file else None

    @property
    def room_policy(self) -> RoomPolicy:
        """What any room may allow, at most, for `policies.decide`."""
        askers = self.policy.askers
        if askers is None:
            askers = self.matrix.allow if self.matrix is not None else ()
        own = self.policy
        return LOOSEST.model_copy(
            update={
                "askers": frozenset(askers),
                "per_person_day": own.per_person_day,
                "per_place_day": own.per_place_day,
                "voice": own.voice,
                "answers": own.answers,
                "notes": frozenset(own.notes),
                "ask_peers": frozenset(own.peers),
                "answer_peers": frozenset(own.peers),
                "classes_out": frozenset(own.classes),
                "classes_in": frozenset(own.classes),
            }
        )

    def mastodon_policy(self, account: MastodonSettings) -> RoomPolicy:
        """The policy for whoever writes to that account: the same but for who may ask, and the notes."""
        notes = self.room_policy.model_copy(update={"notes": frozenset(account.notes)})
        return self.room_policy.meet(notes).model_copy(update={"askers": frozenset(account.allow)})

    def credentials(self, environ: Mapping[str, str] | None = None) -> CredentialFiles:
        """Where the secrets are: systemd's folder first, then the configured one.

        What Hearth makes itself (the pickle key) is written to the latter, because systemd's is
        read-only.
        """
        own = self._resolve(self.credentials_dir) if self.credentials_dir else self.data / "credentials"
        system = (os.environ if environ is None else environ).get("CREDENTIALS_DIRECTORY")
        return CredentialFiles(read=(Path(system), own) if system else (own,), write=own)

    def need_matrix(self) -> MatrixSettings:
        """The Matrix account; `Misconfigured` where none is set."""
        if self.matrix is not None:
            return self.matrix
        if self._source is None:
            raise Misconfigured(
                str(DEFAULT_FILE),
                "no settings file here; write one with [matrix] homeserver, user and allow, or [[mastodon]] "
                "(docs/settings.md), or name one with --config; `hearth demo` needs none",
            )
        raise Misconfigured(
            f"matrix (in {self._source})", "missing; add [matrix] with homeserver, user and allow"
        )

    @model_validator(mode="after")
    def _peers_once(self) -> Self:
        """Each peer over HTTPS is written once, and there is an account whose links these are."""
        names = [one.peer for one in self.a2a_peers]
        if len(names) != len(set(names)):
            raise ValueError("a2a_peers: a peer is written twice; remove one")
        if (names or self.a2a.listen) and self.matrix is None:
            raise ValueError("a2a: links belong to the Matrix account; add [matrix]")
        return self

    def need_account(self) -> None:
        """Raise `Misconfigured` where there is no account to answer for."""
        if not self.mastodon:
            self.need_matrix()

    def _resolve(self, path: Path) -> Path:
        return self._base / path.expanduser()


def load(config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of `config`, else of `$HEARTH_CONFIG`, else of `./hearth.toml` if it is there.

    A file that was named must exist. The environment (`HEARTH_MATRIX__HOMESERVER`; lists as JSON)
    wins over the file. Raises `Misconfigured` for anything unreadable, unknown or unusable.
    `environ` is only for the search of the file and of unknown names; values are the process's own.
    """
    variables = os.environ if environ is None else environ
    _refuse_unknown_variables(variables)
    named = config or (Path(variables[CONFIG_VARIABLE]) if variables.get(CONFIG_VARIABLE) else None)
    path = named or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    values = _read(path) if path is not None else {}
    try:
        settings = Settings(**values)
    except SettingsError as error:
        raise Misconfigured("environment", f"{error}; write lists and tables as JSON") from error
    except ValidationError as error:
        raise _explain(error, path, variables) from error
    settings._source = path  # noqa: SLF001 - `load` is this class's constructor
    settings._base = Path.cwd() if path is None else path.absolute().parent  # noqa: SLF001 - as above
    return settings


def names() -> Iterator[tuple[str, str, object]]:
    """Yield every setting: its dotted name, what it means, its default (`...` where required)."""
    for top, field in Settings.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            yield top, field.description or "", field.default
            continue
        for name, inner in section.model_fields.items():
            default = ... if inner.is_required() else inner.default
            yield f"{top}.{name}", inner.description or "", default


def _section(annotation: Any) -> type[Section] | None:
    for kind in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Misconfigured(str(path), "no such file; write it, or name another with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(str(path), f"is not valid TOML ({error}); correct that place") from error
    except OSError as error:
        raise Misconfigured(str(path), f"cannot be read ({error.strerror}); check it") from error


def _refuse_unknown_variables(variables: Mapping[str, str]) -> None:
    """Refuse what looks like a setting and is none: pydantic-settings would pass over it in silence."""
    known = list(Settings.model_fields)
    for variable in sorted(variables):
        if not variable.upper().startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        top = variable[len(PREFIX) :].lower().partition("__")[0]
        close = difflib.get_close_matches(top, known, n=1, cutoff=0.75)
        if top not in known and (close or "__" in variable):
            guess = variable.upper().replace(top.upper(), close[0].upper(), 1) if close else ""
            raise Misconfigured(variable, f"is not a setting{_did_you_mean(guess)}; unset or rename it")


def _explain(error: ValidationError, path: Path | None, variables: Mapping[str, str]) -> Misconfigured:
    """The first of what is wrong, in one line; the number of the others is said."""
    problems = error.errors(include_url=False, include_input=False)
    # An unknown key explains a missing one ("homserver", "homeserver"), so it comes first.
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    where = [str(part) for part in first["loc"]]
    dotted = ".".join(where)
    variable = next((v for v in variables if v.upper() == PREFIX + "__".join(where).upper()), None)
    place = f"{dotted} ({variable})" if variable else f"{dotted} (in {path})" if path else dotted
    match first["type"]:
        case "extra_forbidden":
            remedy = f"unknown setting{_did_you_mean(_guess(where))}; remove or rename it"
        case "missing":
            remedy = "missing; add it (docs/settings.md)"
        case _:
            remedy = first["msg"].removeprefix("Value error, ")
    more = len(problems) - 1
    return Misconfigured(place, remedy + (f" (and {more} more)" if more else ""))


def _guess(where: list[str]) -> str:
    """The setting that was probably meant: in the same table first, else anywhere."""
    *table, wrong = [part for part in where if not part.isdigit()]  # of which account: no matter
    prefix = "".join(part + "." for part in table)
    every = [name for name, _, _ in names()]
    siblings = {name[len(prefix) :].partition(".")[0] for name in every if name.startswith(prefix)}
    close = difflib.get_close_matches(wrong, sorted(siblings), n=1)
    if close:
        return close[0]
    leaves = {name.rpartition(".")[2]: name for name in every}
    close = difflib.get_close_matches(wrong, sorted(leaves), n=1, cutoff=0.75)
    return leaves[close[0]] if close else ""


def _did_you_mean(guess: str) -> str:
    return f"; did you mean {guess}?" if guess else ""
