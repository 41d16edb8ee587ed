"""`hearth transcribe`: recordings on this disk become text files beside them, without any server.

Owns which files are meant, where what was heard is written, and what is kept of a recording that is
not finished. Promises: a file that is there is never written over (unless that is asked for), an
output is there whole or not at all, and what was heard of a long recording before Ctrl-C or a
crash is not heard again. One bad file does not stop the others. Nothing is decoded in this process.

    meeting.mp3                    the recording
    meeting.mp3.txt                what was heard, in the form that was asked for
    meeting.mp3.part.jsonl         what was heard so far: the recording it belongs to, then its segments
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import mimetypes
import os
import random
import re
import tempfile
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bridge.console import printable
from bridge.ears import listening
from models.border import ModelError, ModelMisconfigured, ModelRefused, ModelUnavailable
from models.hearing import segment_of
from models.host import delay_before
from models.transcript import Transcript, clock, render, segment_fields, word_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.progress import TaskID

    from bridge.settings import Settings
    from models.hearing import Heard, SpeechClient
    from models.host import ModelHost
    from models.transcript import Segment

SOUND: Final = re.compile(
    r".+\.(3gp|aac|aiff?|amr|avi|caf|flac|m4[abv]|mka|mkv|mov|mp[34]|mpe?g|og[agv]|opus|wav|web[am]|wma)",
    re.IGNORECASE,
)
"""Names that are listened to in a folder; a file that was named is tried whatever it is called."""
LONGEST_MINUTES: Final = 24 * 60
LARGEST_MEGABYTES: Final = 4096
TRIES: Final = 3
"""How often in a row a recording may fail, without a word heard in between, for a reason that passes."""
LONGEST_WAIT: Final = 120.0
"""Seconds that are waited because a server asks for it."""
EPSILON: Final = 0.005
"""Seconds by which rounded times may differ."""

REMEDIES: Final = {
    "audio_unreadable": "is not sound that can be read, or is damaged; play it to see, and convert it",
    "audio_too_long": f"is longer than {LONGEST_MINUTES // 60} hours; cut it into parts",
    "audio_too_large": "is larger than the speech model takes; cut it into parts, or take out the video",
    "invalid_request_error": "is refused as it is asked for; check --language",
}


class Unworkable(Exception):
    """A recording from which nothing was written; its words say why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. `folder` None: beside each recording."""

    forms: tuple[str, ...] = ("txt",)
    words: bool = False
    force: bool = False
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """A file to listen to, and where to write: `target` and the suffix of each form."""

    source: Path
    target: Path

    def output(self, form: str) -> Path:
        """The file of this form."""
        return self.target.with_name(f"{self.target.name}.{form}")

    def wanted(self, options: Options) -> list[str]:
        """The forms that are still to be written."""
        return [form for form in options.forms if options.force or not self.output(form).exists()]


def recordings(paths: Iterable[Path], folder: Path | None) -> tuple[list[Recording], list[str]]:
    """Find the files that are meant, in order, and what is wrong with those that cannot be.

    Folders are searched for `SOUND`; their shape is kept in `folder`. Hidden files are left out,
    links to folders are not followed.
    """
    found: dict[Path, Recording] = {}
    problems: list[str] = []
    for path in paths:
        if not path.is_dir():
            sources = [path] if path.exists() else []
            missing = f"{path}: no such file or folder; check the name"
        else:
            sources = list(_inside(path, problems))
            missing = f"{path}: no recordings in this folder; name the files themselves"
        if not sources:
            problems.append(missing)
        for source in sources:
            below = source.relative_to(path if path.is_dir() else path.parent)
            target = source if folder is None else folder / below
            other = found.setdefault(target.absolute(), Recording(source, target))
            if other.source.absolute() != source.absolute():
                problems.append(
                    f"{source}: would be written over that of {other.source}; give it another --output-dir"
                )
    return list(found.values()), problems


def _inside(folder: Path, problems: list[str]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: {error.strerror}; check its permissions")

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and SOUND.fullmatch(name):
                yield Path(place, name)


class Part:
    """What was heard of a recording so far, kept as it is heard. Held by one process at a time."""

    def __init__(self, path: Path, header: dict[str, object]) -> None:
        """Open or begin the file. What is there of another `header`, or broken, is dropped.

        Raises `Unworkable` where another process has it, `OSError`.
        """
        self.path = path
        self.segments: list[Segment] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load(json.dumps(header, sort_keys=True).encode() + b"\n")
        except BlockingIOError:
            os.close(self._handle)
            raise Unworkable("another `hearth transcribe` works on it; wait for that one") from None
        except OSError:
            os.close(self._handle)
            raise

    def close(self) -> None:
        """Let go of the file; it stays if there is something in it."""
        if not self.segments:
            self.path.unlink(missing_ok=True)
        os.close(self._handle)

    @property
    def reached(self) -> float:
        """Seconds up to which all is heard."""
        return self.segments[-1].end if self.segments else 0.0

    def _load(self, head: bytes) -> None:
        with os.fdopen(os.dup(self._handle), "rb") as file:
            lines = file.readlines()
        good = 0
        if lines and lines[0] == head:
            good = len(head)
            for line in lines[1:]:
                segment = _read(line)
                if segment is None:
                    break
                self.segments.append(segment)
                good += len(line)
        os.ftruncate(self._handle, good)
        os.lseek(self._handle, 0, os.SEEK_END)
        if not good:
            os.write(self._handle, head)

    def add(self, segment: Segment) -> None:
        """Keep one more."""
        fields = segment_fields(len(self.segments), segment) | {"words": word_fields(segment)}
        os.write(self._handle, json.dumps(fields, ensure_ascii=False).encode() + b"\n")
        self.segments.append(segment)


def _read(line: bytes) -> Segment | None:
    """One line of a part; None for what was cut off in the middle."""
    try:
        return segment_of(json.loads(line)) if line.endswith(b"\n") else None
    except ValueError:
        return None


async def transcribe(
    settings: Settings, paths: Sequence[Path], options: Options, *, out: Console, notes: Console
) -> int:
    """Listen to all of `paths`; 0, or 1 if there is one of which nothing was written.

    Each file that is written is a line on `out`; progress and problems go to `notes`.
    """
    found, problems = await asyncio.to_thread(recordings, paths, options.folder)
    for problem in problems:
        _say(notes, problem)
    waiting: list[Recording] = []
    for recording in found:
        if await asyncio.to_thread(recording.wanted, options):
            waiting.append(recording)
        else:
            _say(notes, f"{recording.source}: already written; --force writes it anew")
    if not waiting:
        return int(bool(problems))
    failed = len(problems)
    folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="hearth-")
    try:
        async with listening(_generous(settings), Path(folder.name)) as (client, host):
            await _ready(host)
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[minutes]}"),
                TimeRemainingColumn(),
                console=notes,
                disable=not notes.is_terminal,
                redirect_stdout=False,
                redirect_stderr=False,
                transient=True,
            ) as progress:
                listener = _Listener(settings, options, client, host, progress)
                for recording in waiting:
                    try:
                        written = await listener.finish(recording)
                    except Unworkable as error:
                        failed += 1
                        _say(notes, f"{recording.source}: {error}")
                    else:
                        for path in written:
                            _say(progress.console if out.is_terminal else out, str(path))
    finally:
        await asyncio.to_thread(folder.cleanup)
    return int(bool(failed))


@dataclass(frozen=True, slots=True)
class _Listener:
    """Works off one recording after the other."""

    settings: Settings
    options: Options
    client: SpeechClient
    host: ModelHost | None
    progress: Progress

    async def finish(self, recording: Recording) -> list[Path]:
        """Listen to a recording, from where it was left; the files that were written.

        Raises `Unworkable`, and `ModelMisconfigured` for what no recording would survive.
        """
        try:
            status = await asyncio.to_thread(recording.source.stat)
            header = self._header(status)
            part = await asyncio.to_thread(Part, recording.target.with_name(_part(recording)), header)
            try:
                whole = await self._persist(recording.source, part)
                forms = await asyncio.to_thread(recording.wanted, self.options)
                about = {
                    "title": recording.source.stem,
                    "date": datetime.fromtimestamp(status.st_mtime, UTC).astimezone().date().isoformat(),
                    "source": recording.source.name,
                    "model": self.settings.speech_name,
                }
                written = [recording.output(form) for form in forms]
                for form, path in zip(forms, written, strict=True):
                    text = render(whole, "verbose_json" if form == "json" else form, about)
                    await asyncio.to_thread(_write, path, text)
                await asyncio.to_thread(part.path.unlink)
            finally:
                await asyncio.to_thread(part.close)
        except OSError as error:
            where = error.filename or recording.target
            raise Unworkable(f"{error.strerror or error} ({where}); check it, and free space") from error
        return written

    def _header(self, status: os.stat_result) -> dict[str, object]:
        """Tell a part of this recording, heard in this way, from any other."""
        path = self.settings.speech_path
        return {
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "model": self.settings.speech_name if path is None else str(path),
            "language": self.settings.speech.language,
            "words": self.options.words,
        }

    async def _persist(self, source: Path, part: Part) -> Transcript:
        """Listen until all is heard, through what passes: a model that crashes, a server that is busy."""
        task = self.progress.add_task(escape(printable(source.name)), start=False, total=None, minutes="")
        failures = 0
        try:
            while True:
                before = len(part.segments)
                try:
                    return await self._listen(source, part, task)
                except ModelMisconfigured:
                    raise
                except ModelRefused as error:
                    raise Unworkable(REMEDIES.get(error.code, str(error))) from error
                except ModelError as error:
                    failures = 1 if len(part.segments) > before else failures + 1
                    if failures == TRIES:
                        raise Unworkable(f"{error}; the same command goes on where it stopped") from error
                    own = delay_before(failures, random.random())  # noqa: S311 - jitter
                    theirs = getattr(error, "after", None)
                    await asyncio.sleep(own if theirs is None else min(theirs, LONGEST_WAIT))
                    await _ready(self.host)
        finally:
            self.progress.remove_task(task)

    async def _listen(self, source: Path, part: Part, task: TaskID) -> Transcript:
        """Listen to the rest of a recording once; all that was heard of it."""
        kept, start = tuple(part.segments), part.reached
        sound = await asyncio.to_thread(source.open, "rb")
        try:
            signs = self.client.transcribe(
                sound,
                media_type=mimetypes.guess_type(source.name)[0] or "",
                language=self.settings.speech.language,
                words=self.options.words,
                start_seconds=start,
            )
            async with aclosing(signs):
                async for sign in signs:
                    # A server that knows no `start_seconds` begins at the beginning.
                    if sign.segment is not None and sign.segment.start >= start - EPSILON:
                        await asyncio.to_thread(part.add, sign.segment)
                    if sign.transcript is not None:
                        rest = (one for one in sign.transcript.segments if one.start >= start - EPSILON)
                        language = sign.transcript.language or (kept[0].language if kept else "")
                        return Transcript((*kept, *rest), language, sign.transcript.duration)
                    self._show(task, sign)
            raise ModelUnavailable("what the model heard broke off")
        finally:
            await asyncio.to_thread(sound.close)

    def _show(self, task: TaskID, sign: Heard) -> None:
        if sign.position:
            self.progress.update(task, minutes=f"{sign.position} before it")
        elif sign.done is not None and sign.total:
            minutes = f"{clock(sign.done)} of {clock(sign.total)}"
            self.progress.update(task, completed=sign.done, total=sign.total, minutes=minutes)
            self.progress.start_task(task)
            self.progress.refresh()


async def _ready(host: ModelHost | None) -> None:
    """Wait for a model server of ours. Raises `ModelError`."""
    try:
        if host is not None:
            await host.ready()
    except TimeoutError:
        raise ModelUnavailable("the speech model did not start in time") from None


def _generous(settings: Settings) -> Settings:
    """The same settings for somebody who hears their own files and waits for nothing else."""
    speech = settings.speech
    update = {
        "max_minutes": LONGEST_MINUTES,
        "max_megabytes": LARGEST_MEGABYTES,
        "threads": speech.threads or max(1, (os.cpu_count() or 1) - 1),
    }
    return settings.model_copy(update={"speech": speech.model_copy(update=update)})


def _part(recording: Recording) -> str:
    return f"{recording.target.name}.part.jsonl"


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _say(console: Console, words: str) -> None:
    """One line, as it is: names of files may hold anything."""
    console.print(printable(words).replace("\n", " "), markup=False, highlight=False, soft_wrap=True)
