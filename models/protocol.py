"""What an engine is to the server: prompts in, pieces out, in one thread, until cancelled.

Owns the words that `models/engine.py` (llama.cpp), `models/echo.py` (its double) and
`models/server.py` share, and those that `models/ear.py` (Whisper), `models/echo_ear.py` (its double)
and `models/speech.py` share. Promises nothing and imports nothing but the standard library.

    EngineError(code, what)          this request cannot be answered; the engine lives on
     `- Unloadable(path, what, remedy)   the model cannot be used at all; the operator must act
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from models.transcript import Segment, Transcript

SoundT = TypeVar("SoundT")

EX_CONFIG = 78
"""Exit status of a server whose model or settings cannot work as they are (sysexits.h)."""

REMEDY = " Remedy: "
"""Between what happened and what to do, in the line that a dying server leaves on stderr."""

TROUBLE = "hearth models: "
"""How that line begins."""


class EngineError(Exception):
    """A request that cannot be answered: `code` is stable and goes into the OpenAI error object."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code
        self.what = what


class Unloadable(EngineError):
    """The model at `path` cannot be used: `remedy` says what the operator can do."""

    def __init__(self, path: str, what: str, remedy: str) -> None:
        super().__init__("model_unloadable", what)
        self.path = path
        self.remedy = remedy

    def line(self) -> str:
        """One line for stderr, which `models/host.py` reads back."""
        return f"{TROUBLE}{self.path}: {self.what}{REMEDY}{self.remedy}".replace("\n", " ")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages as an engine will read them: `size` is tokens, template included."""

    messages: tuple[Mapping[str, str], ...]
    size: int
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """How the answer is to be made. None leaves a choice to the model's own defaults.

    `key` names a conversation whose prefix is worth keeping; it is opaque (`prompt_cache_key`).
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    key: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more of the answer; whole characters only."""

    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of the prompt has been read: a sign of life before the first piece."""

    processed: int
    total: int


@dataclass(frozen=True, slots=True)
class Done:
    """How an answer ended (`stop` or `length`) and what it took; times in seconds."""

    finish: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


class Engine(Protocol):
    """A loaded model. `prepare` may be called from any thread, `generate` from one at a time."""

    name: str
    context: int
    """Tokens that prompt and answer may take together."""

    def prepare(self, messages: Sequence[Mapping[str, str]]) -> Prompt:
        """Turn messages (`role`, `content`) into a prompt.

        Raises `EngineError` where the model's template refuses them.
        """
        ...

    def count(self, text: str) -> int:
        """Tokens of a text alone, without any template."""
        ...

    def generate(
        self, prompt: Prompt, wish: Wish, cancelled: threading.Event
    ) -> Iterator[Piece | Progress | Done]:
        """Answer. Ends with `Done`, or early and silently once `cancelled` is set.

        Raises `EngineError` with code `context_length_exceeded` or `engine_failed`.
        """
        ...

    def forget(self, key: str) -> None:
        """Drop what is kept of the conversation `key`. Called in the thread of `generate`."""
        ...

    def close(self) -> None:
        """Free the memory. Called in the thread of `generate`."""
        ...


# -- speech ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HearingWish:
    """How a recording is to be heard.

    `language` is an ISO 639-1 code, `""` to find out. `hotwords` are words as they should be spelled.
    `temperature` is None for Whisper's ladder (0, and up where an answer looks wrong), or exact.
    `longest` is the seconds after which a recording is too long, `start` those to pass over.
    """

    language: str = ""
    translate: bool = False
    hotwords: str = ""
    temperature: float | None = None
    words: bool = False
    longest: float = float("inf")
    start: float = 0.0


@dataclass(frozen=True, slots=True)
class Reached:
    """Seconds of a recording that were heard, of `total` as far as is known."""

    done: float
    total: float


@dataclass(frozen=True, slots=True)
class Ended:
    """All that was heard; `truncated` where the recording announced more than it had."""

    transcript: Transcript
    truncated: bool = False


class Ear(Protocol, Generic[SoundT]):
    """A loaded speech model. `look` may be called from any thread, `hear` goes on in one at a time."""

    name: str

    def look(self, file: BinaryIO, longest: float) -> SoundT:
        """Open a recording without decoding it.

        Raises `EngineError` with code `audio_unreadable`, or `audio_too_long` for one that announces
        more than `longest` seconds.
        """
        ...

    def hear(
        self, sound: SoundT, wish: HearingWish, alone: Callable[[], bool]
    ) -> Iterator[Reached | Segment | Ended]:
        """Hear a recording, in steps of a few seconds of work: another job may go between two of them.

        `alone` says whether nobody waits, so that a step may be a larger one. Ends with `Ended`.
        Raises `EngineError` with code `audio_unreadable`, `audio_too_long` or `engine_failed`.
        """
        ...

    def close(self) -> None:
        """Free the memory."""
        ...
