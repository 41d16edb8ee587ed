"""The tables of the settings file: their keys, what each means and how its value is written.

Owns every setting that stands in a table; `bridge.settings` reads them. Promises that what is accepted
here is usable: addresses, durations and sizes are read once and checked.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from policies.classes import Class
from policies.room import ANYONE, Answers, Voice
from policies.room import CollectionOrAll as CollectionName
from policies.room import Peer as PeerName

BUNDLED = "bundled"
ECHO = "echo"
"""As `model.path` or `speech.model`: a deterministic double, for tests and for looking at the plumbing."""
OFF = "off"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
LAST_PORT = 65_535

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_USER = re.compile(r"@[^:\s]+:[^\s@]+")
_HANDLE = re.compile(r"@[^@:\s]+@[A-Za-z0-9.\-]+(:\d+)?")
_LANGUAGE = re.compile(r"([a-z]{2,3})?")
_SERVER = re.compile(r"[A-Za-z0-9.\-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?")


def _duration(value: object) -> object:
    """`"1h"`, `"30m"`, `"90s"`, `"2d"` or a number of seconds."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(value).strip())
    if isinstance(value, bool) or match is None:
        raise ValueError('write a duration, as in "1h", "30m" or a number of seconds')
    try:
        return timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"])
    except OverflowError:
        raise ValueError("is longer than time goes on; write less") from None


def _size(value: object) -> object:
    """`"4GB"`, `"512MB"` or a number of bytes; units are powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", str(value).strip().lower())
    if isinstance(value, bool) or match is None:
        raise ValueError('write a size, as in "4GB", "512MB" or a number of bytes')
    try:
        return int(float(match[1]) * _SIZES[match[2]])
    except OverflowError:
        raise ValueError("is larger than any disk; write less") from None


def _user(value: object) -> object:
    if not isinstance(value, str) or _USER.fullmatch(value) is None:
        raise ValueError('write a full address, as in "@hearth:example.org"')
    return value


def _handle(value: object) -> object:
    if not isinstance(value, str) or _HANDLE.fullmatch(value) is None:
        raise ValueError('write a full address, as in "@hearth@example.social"')
    return value


def _who(value: object) -> object:
    if not isinstance(value, str) or not (
        value == ANYONE or any(form.fullmatch(value) for form in (_USER, _HANDLE, _SERVER))
    ):
        raise ValueError(
            'write an address ("@ada:example.org", on Mastodon "@ada@example.org"), '
            'a server ("example.org") or "*"'
        )
    return value


def _url(value: object) -> object:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError('write an address with its scheme, as in "https://matrix.example.org"')
    return str(value).rstrip("/")


def _secure_or_none(value: object) -> object:
    """An address over TLS, or on this machine; or none."""
    if value == "":
        return value
    text = str(_url(value))
    parts = urlsplit(text)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ValueError("write an address that begins with https:// (http:// is for this machine only)")
    return text


def _language(value: object) -> object:
    if not isinstance(value, str) or _LANGUAGE.fullmatch(value) is None:
        raise ValueError('write a language as its code, as in "de", or "" to detect it')
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Size = Annotated[int, BeforeValidator(_size), Field(gt=0)]
User = Annotated[str, BeforeValidator(_user)]
Handle = Annotated[str, BeforeValidator(_handle)]
Who = Annotated[str, BeforeValidator(_who)]
Url = Annotated[str, BeforeValidator(_url)]
Language = Annotated[str, BeforeValidator(_language)]
ZERO = timedelta(0)


class Section(BaseModel):
    """One table of the file: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class MatrixSettings(Section):
    """The account on Matrix."""

    homeserver: Url = Field(description="Address of the homeserver's client API.")
    user: User = Field(description="Full address of the bot's account.")
    device_name: str = Field(
        default="Hearth", description="Name of the bot's session, as other people see it."
    )
    max_age: Duration = Field(
        default=timedelta(hours=1),
        gt=ZERO,
        description="A question older than this when it reaches us is settled as expired, not answered.",
    )
    allow: tuple[Who, ...] = Field(
        default=(),
        description=(
            'Who may invite the bot and ask it: addresses, whole servers, or `"*"` for everybody. '
            "Empty: nobody."
        ),
    )
    admins: tuple[User, ...] = Field(
        default=(),
        description=(
            "Who may say, by `!verify`, that the signs of a verification match. Empty: nobody, so the bot "
            "takes part in none."
        ),
    )
    bots: tuple[User, ...] = Field(
        default=(), description="Addresses of other bots: read as context, never answered."
    )


class MastodonSettings(Section):
    """One account on a server that speaks Mastodon's API; write `[[mastodon]]` once for each."""

    instance: Url = Field(description="Address of the instance, as in a browser.")
    user: Handle = Field(description="Full address of the bot's account there.")
    allow: tuple[Who, ...] = Field(
        default=(),
        description='Who may ask: addresses, whole servers, or `"*"` for everybody. Empty: nobody.',
    )
    admins: tuple[Handle, ...] = Field(
        default=(),
        description="Who moderates: their `!stop` ends anybody's answer, and their `!policy set` holds.",
    )
    notes: tuple[CollectionName, ...] = Field(
        default=(), description="Collections of notes that are read for whoever writes to this account."
    )
    accept_private_mentions: bool = Field(
        default=False,
        description=(
            "Let private mentions by people whom the account does not follow through the server's filter "
            "at every start. Servers since Mastodon 4.3 hold them back by default."
        ),
    )
    max_age: Duration = Field(
        default=timedelta(days=1),
        gt=ZERO,
        description="A question older than this when it reaches us is settled as expired, not answered.",
    )
    poll: Duration = Field(
        default=timedelta(minutes=1),
        ge=timedelta(seconds=1),
        description="How often to ask for mentions, even where the server tells of them as they come.",
    )
    language: str = Field(
        default="en",
        pattern=r"[a-z]{2,3}",
        description="Language of an answer to a post that names none, as its code.",
    )
    private_media: bool = Field(
        default=False,
        description="Also fetch recordings from private and loopback addresses. For tests on one machine.",
    )


class ModelSettings(Section):
    """The language model. With neither `path` nor `base_url` the small bundled one answers."""

    path: str | None = Field(
        default=None, description='A GGUF file of your own, or `"echo"` for the test double that repeats.'
    )
    base_url: Url | None = Field(
        default=None, description="A model server elsewhere that speaks the OpenAI API, `/v1` included."
    )
    name: str | None = Field(default=None, description="The model's name on that server.")
    context: int = Field(
        default=4096, ge=256, description="Tokens of prompt and answer together; at most what the model can."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="Threads of the local model. Unset: all cores but those of speech, or but one.",
    )
    memory_limit: Size | None = Field(
        default=None,
        description="Memory of the local model's process beyond its mapped weights. Unset: no limit.",
    )
    deadline: Duration = Field(
        default=timedelta(minutes=2),
        gt=ZERO,
        description="Time for one answer, waiting in the queue included.",
    )
    max_tokens: int = Field(default=512, ge=1, description="Length of one answer at most, in tokens.")
    echo_delay: float = Field(
        default=0.0, ge=0.0, description='With `path = "echo"`: seconds that the double takes for each word.'
    )

    @model_validator(mode="after")
    def _one_model(self) -> ModelSettings:
        if self.path is not None and self.base_url is not None:
            raise ValueError("path and base_url name two models; keep one of them")
        if self.base_url is not None and not self.name:
            raise ValueError("base_url needs name: which of that server's models to ask")
        if self.base_url is None and self.name is not None:
            raise ValueError("name belongs to base_url; a file is named by path")
        return self

    @property
    def kind(self) -> Literal["bundled", "echo", "file", "remote"]:
        """Which of the four ways to a model these settings choose."""
        if self.base_url is not None:
            return "remote"
        if self.path is None:
            return "bundled"
        return "echo" if self.path == ECHO else "file"


class SpeechSettings(Section):
    """The speech model. Unless another is named, the small bundled one listens."""

    model: str = Field(
        default=BUNDLED,
        description=(
            '`"bundled"`, the folder of a Whisper model of your own (CTranslate2), `"echo"` for the test '
            'double, or `"off"`.'
        ),
    )
    base_url: Url | None = Field(
        default=None, description="A speech server elsewhere that speaks the OpenAI API, `/v1` included."
    )
    name: str | None = Field(default=None, description="The speech model's name on that server.")
    socket: Path | None = Field(
        default=None,
        description=(
            "Where the local speech server listens, for one that runs as a unit of its own. "
            "Unset: in the data folder."
        ),
    )
    language: Language = Field(
        default="",
        description='What is spoken, as in `"de"`. Empty: detected, passage by passage where it changes.',
    )
    threads: int | None = Field(
        default=None, ge=1, description="Threads of the local speech model. Unset: a quarter of the cores."
    )
    memory_limit: Size | None = Field(
        default=None, description="Memory of the local speech model's process. Unset: no limit."
    )
    max_minutes: int = Field(
        default=180, ge=1, le=1440, description="A recording longer than this is refused."
    )
    max_megabytes: int = Field(
        default=100, ge=1, le=4096, description="A file larger than this is not fetched."
    )
    echo_delay: float = Field(
        default=0.0,
        ge=0.0,
        description='With `model = "echo"`: seconds that the double takes for each segment.',
    )

    @model_validator(mode="after")
    def _one_model(self) -> SpeechSettings:
        if self.base_url is not None and self.model != BUNDLED:
            raise ValueError("model and base_url name two models; keep one of them")
        if self.base_url is not None and not self.name:
            raise ValueError("base_url needs name: which of that server's models to ask")
        if self.base_url is None and self.name is not None:
            raise ValueError("name belongs to base_url; a folder is named by model")
        if not self.model:
            raise ValueError(f'model is empty; write "{OFF}" to do without')
        return self

    @property
    def kind(self) -> Literal["bundled", "echo", "folder", "remote", "off"]:
        """Which of the ways to a speech model, or none, these settings choose."""
        if self.base_url is not None:
            return "remote"
        match self.model:
            case "bundled" | "echo" | "off" as word:
                return word
        return "folder"


class PolicySettings(Section):
    """What any room may allow, at most; a room's own policy narrows it."""

    askers: tuple[Who, ...] | None = Field(
        default=None, description="Who may ask. Unset: the same people and servers as `matrix.allow`."
    )
    per_person_day: int | None = Field(
        default=None,
        ge=0,
        description="Questions answered to one person in 24 hours at most. Unset: no limit.",
    )
    per_place_day: int | None = Field(
        default=None, ge=0, description="Questions answered in one room in 24 hours at most. Unset: no limit."
    )
    voice: Voice = Field(
        default=Voice.ASKED,
        description=(
            'What is listened to: `"off"` nothing, `"asked"` what is asked for, `"named"` also what '
            'begins with the bot\'s name, `"all"` every voice message is written down.'
        ),
    )
    answers: Answers = Field(
        default=Answers.ALL,
        description=(
            'What a room may have answered: `"direct"` only in rooms of two, `"mention"` what mentions the '
            'bot, `"all"` every message, where the room\'s own policy says so.'
        ),
    )
    notes: tuple[CollectionName, ...] = Field(
        default=(ANYONE,),
        description='Collections of notes that rooms may have read, of those in `[notes]`. `["*"]`: all.',
    )
    peers: tuple[PeerName, ...] = Field(
        default=(ANYONE,),
        description='Bots of other communities that rooms may allow, as `"bot:server"`. `["*"]`: any.',
    )
    classes: tuple[Class, ...] = Field(
        default=(Class.GENERAL, Class.LOCAL_KNOWLEDGE, Class.SHARED_NOTES),
        description=(
            "Classes of questions that rooms may let out and in: `general`, `local-knowledge`, "
            "`shared-notes`, `health`, `children`, `location`."
        ),
    )


class LinkSettings(Section):
    """Links with other communities."""

    enabled: bool = Field(
        default=True,
        description="Whether rooms may link this bot with bots of other communities. `false`: nothing "
        "comes in and nothing goes out, whatever rooms have decided.",
    )
    home_room: str = Field(
        default="",
        description='The room (its id, as in `"!id:example.org"`) by whose rules and grants other '
        "communities are answered. Unset: none is.",
    )
    about: str = Field(
        default="", max_length=500, description="What can be asked here, for the card that others see."
    )
    wait: Duration = Field(
        default=timedelta(hours=1),
        gt=ZERO,
        le=timedelta(days=7),
        description="How long a question to another community waits for its answer.",
    )


class A2ASettings(Section):
    """Being asked over HTTPS, with the A2A protocol."""

    listen: str = Field(
        default="",
        description='Where to listen, as in `"127.0.0.1:8780"`. Unset: nobody can ask over HTTPS.',
    )
    url: Annotated[str, BeforeValidator(_secure_or_none)] = Field(
        default="", description="The address under which others reach that, for the agent card."
    )
    certificate: Path | None = Field(
        default=None, description="TLS certificate (PEM, with its chain). Unset: a reverse proxy does TLS."
    )
    private_key: Path | None = Field(default=None, description="The key of that certificate (PEM).")

    @model_validator(mode="after")
    def _whole(self) -> A2ASettings:
        host, _, port = self.listen.rpartition(":")
        if self.listen and not (host and port.isdigit() and 0 < int(port) <= LAST_PORT):
            raise ValueError('write listen as an address and a port, as in "127.0.0.1:8780"')
        if bool(self.listen) != bool(self.url):
            raise ValueError("listen and url belong together: where to listen, and where others reach it")
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together")
        return self


class A2APeerSettings(Section):
    """A peer that is reached over HTTPS; write `[[a2a_peers]]` once for each."""

    peer: PeerName = Field(description="What it is called in policies and grants, `bot:server`.")
    url: Annotated[str, BeforeValidator(_secure_or_none)] = Field(
        default="", description="Where its agent card is. Unset: it can ask us, and not be asked."
    )
    agent: bool = Field(
        default=False,
        description="Whether it is an A2A agent that is no Hearth: one that signs nothing, and with which no "
        "community has agreed anything. A grant of our own is needed all the same.",
    )

    @model_validator(mode="after")
    def _reachable(self) -> A2APeerSettings:
        if self.agent and not self.url:
            raise ValueError("an agent needs its url")
        return self


class ChatSettings(Section):
    """How the bot talks."""

    persona: str = Field(
        default="family",
        description='How it speaks: `"family"`, `"city"`, `"plain"`, or a TOML file of your own.',
    )
    language: Language = Field(
        default="en",
        description='What it speaks of itself where a room says nothing, as in `"nl"`: `en` or `nl` so far.',
    )
    context_messages: int = Field(
        default=20,
        ge=0,
        le=500,
        description="How many earlier messages of the room it reads with a question.",
    )


class DeliverySettings(Section):
    """What people see while an answer is on its way."""

    streaming: bool = Field(default=True, description="Show long answers while they are written, by edits.")
    receipts: bool = Field(
        default=True, description="Send read receipts; an answer within a quarter of a second needs none."
    )
    typing: bool = Field(default=True, description="Show that it is typing.")


class LimitSettings(Section):
    """Bounds on what runs at once."""

    concurrent_turns: int = Field(
        default=4, ge=1, le=256, description="Questions worked on at the same time."
    )
