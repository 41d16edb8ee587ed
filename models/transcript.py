"""What was heard: segments with their times, and the files that people ask for.

Pure; standard library only. The speech server fills these in, the client reads them back, bots and
`hearth transcribe` show them. Times are seconds from the start of the recording.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its times and the model's probability for it (0 to 1)."""

    start: float
    end: float
    text: str
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech. `doubtful` marks what the checks against hallucination do not trust.

    `language` is an ISO 639-1 code, `""` where it was not told apart from the whole recording's.
    """

    start: float
    end: float
    text: str
    doubtful: bool = False
    language: str = ""
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """All that was heard. `duration` is what was decoded, in seconds; `truncated`: more was announced."""

    segments: tuple[Segment, ...] = ()
    language: str = ""
    duration: float = 0.0
    truncated: bool = False

    @property
    def text(self) -> str:
        """The words alone, in one line."""
        return " ".join(segment.text.strip() for segment in self.segments if segment.text.strip())


# -- the files that people ask for -----------------------------------------------------------------

FORMS: Final = ("text", "txt", "json", "verbose_json", "srt", "vtt", "md")
"""`text` is the words in one line, `txt` paragraphs to read; the others are what they are called."""

MEDIA_TYPES: Final = {
    "json": "application/json",
    "verbose_json": "application/json",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "md": "text/markdown",
}
"""Any other form is `text/plain`; all are UTF-8."""

DOUBT: Final = "(?)"
"""Stands before what is doubtful, where people read it."""

PAUSE: Final = 2.0
"""Seconds of silence that begin a paragraph."""

PARAGRAPH: Final = 60.0
"""Seconds after which a paragraph ends with its segment."""


def render(transcript: Transcript, form: str, about: Mapping[str, object] | None = None) -> str:
    """Write a transcript as one of `FORMS`. Raises `KeyError` for another.

    `about` (title, date, speaker, …) is the front matter of `md`, and more fields of the two JSON
    forms. `about["speaker"]` also stands before what was said in `md`, `txt` and `vtt`.
    """
    return _RENDERERS[form](transcript, about or {})


def clock(seconds: float) -> str:
    """Time as people read it: `2:05`, `1:02:05`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def paragraphs(transcript: Transcript) -> list[tuple[float, str]]:
    """What was said as paragraphs with the second at which each begins; doubtful passages are marked."""
    found: list[tuple[float, list[str]]] = []
    last = 0.0
    for segment in transcript.segments:
        if not (said := _line(segment)):
            continue
        marked = f"{DOUBT} {said}" if segment.doubtful else said
        if not found or segment.start - last > PAUSE or segment.end - found[-1][0] > PARAGRAPH:
            found.append((segment.start, []))
        found[-1][1].append(marked)
        last = segment.end
    return [(start, " ".join(said)) for start, said in found]


def _line(segment: Segment) -> str:
    return " ".join(segment.text.split())


def _txt(transcript: Transcript, about: Mapping[str, object]) -> str:
    who = f"{about['speaker']}: " if about.get("speaker") else ""
    return "\n\n".join(f"{who}{said}" for _, said in paragraphs(transcript)) + "\n"


def _json(transcript: Transcript, about: Mapping[str, object]) -> str:
    return json.dumps({"text": transcript.text, **about}, ensure_ascii=False)


def segment_fields(number: int, segment: Segment, *, language: str = "") -> dict[str, object]:
    """A segment as JSON has it; `language` is that of the recording. Words are beside, `word_fields`."""
    return {
        "id": number,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "language": segment.language or language,
        "doubtful": segment.doubtful,
    }


def word_fields(segment: Segment) -> list[dict[str, object]]:
    """The words of a segment as JSON has them."""
    return [
        {"word": word.text, "start": word.start, "end": word.end, "probability": word.probability}
        for word in segment.words
    ]


def _verbose_json(transcript: Transcript, about: Mapping[str, object]) -> str:
    language = transcript.language
    whole: dict[str, object] = {
        "language": language,
        "duration": transcript.duration,
        "text": transcript.text,
        "segments": [segment_fields(n, one, language=language) for n, one in enumerate(transcript.segments)],
    }
    if words := [word for segment in transcript.segments for word in word_fields(segment)]:
        whole["words"] = words
    return json.dumps(whole | dict(about), ensure_ascii=False)


def _mark(seconds: float, point: str) -> str:
    """Time as subtitles have it: `00:01:02,003` with a comma for SRT, a full stop for WebVTT."""
    whole, ms = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{ms:03}"


def _cues(transcript: Transcript, point: str) -> Iterator[tuple[str, str]]:
    """Times and words of each subtitle; players leave out what does not last."""
    for segment in transcript.segments:
        if said := _line(segment):
            end = max(segment.end, segment.start + 0.1)
            yield f"{_mark(segment.start, point)} --> {_mark(end, point)}", said


def _srt(transcript: Transcript, _about: Mapping[str, object]) -> str:
    cues = enumerate(_cues(transcript, ","), start=1)
    return "".join(f"{number}\n{times}\n{said.replace('-->', '->')}\n\n" for number, (times, said) in cues)


def _vtt(transcript: Transcript, about: Mapping[str, object]) -> str:
    who = f"<v {html.escape(str(about['speaker']), quote=False)}>" if about.get("speaker") else ""
    cues = [f"{times}\n{who}{html.escape(said, quote=False)}\n\n" for times, said in _cues(transcript, ".")]
    return "WEBVTT\n\n" + "".join(cues)


def _md(transcript: Transcript, about: Mapping[str, object]) -> str:
    known = {**about, "language": transcript.language, "duration": clock(transcript.duration)}
    # A JSON string is a YAML string.
    front = "".join(
        f"{name}: {json.dumps(str(it), ensure_ascii=False)}\n" for name, it in known.items() if it
    )
    who = f"**{_plain(str(about['speaker']))}:** " if about.get("speaker") else ""
    said = "".join(f"\n[{clock(start)}] {who}{_plain(text)}\n" for start, text in paragraphs(transcript))
    return f"---\n{front}---\n{said}"


def _plain(text: str) -> str:
    """Words as Markdown that shows them and does nothing else."""
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", text)


_RENDERERS: Final[dict[str, Callable[[Transcript, Mapping[str, object]], str]]] = {
    "text": lambda transcript, _about: transcript.text + "\n",
    "txt": _txt,
    "json": _json,
    "verbose_json": _verbose_json,
    "srt": _srt,
    "vtt": _vtt,
    "md": _md,
}
