"""The ear: faster-whisper, recording by recording, from a folder on this disk and nothing else.

Owns the loaded model and how a recording becomes segments: it is decoded in windows of at most ten
minutes that end at pauses; Silero's voice activity detection finds what is spoken in a window; that
is heard a few seconds of work at a time, one stretch after the other as the library does it, or,
where there are threads enough and nobody waits, in small batches. Promises: no more than one window
is in memory, whatever the length; times are those of the whole recording; what fails Whisper's
checks (models/doubt.py) in a batch is heard again, alone and with the ladder of temperatures, and
what still fails them is marked doubtful. Never asks the hub.

Words are not conditioned on the words before them: that is what makes Whisper repeat itself for
minutes, and one recording must not depend on what went before a pause.
"""

from __future__ import annotations

import copy
import inspect
import os
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

os.environ["HF_HUB_OFFLINE"] = "1"  # before the first import of the library

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import _LANGUAGE_CODES, Tokenizer
from faster_whisper.transcribe import TranscriptionOptions, get_suppressed_tokens, restore_speech_timestamps
from faster_whisper.vad import VadOptions, collect_chunks, get_speech_timestamps, get_vad_model

from models.doubt import Repeats, Verdict, compression_ratio, weigh
from models.protocol import Ended, EngineError, HearingWish, Reached, Unloadable
from models.sound import RATE, Decoder, look, pieces
from models.transcript import Segment, Transcript, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.sound import Samples, Sound, Span

FILES: Final = ("config.json", "model.bin", "preprocessor_config.json", "tokenizer.json")
"""What the folder of a model holds, beside `vocabulary.json` or `vocabulary.txt`."""

WINDOW: Final = 600 * RATE
"""Samples that are decoded at a time: ten minutes, 38 MB."""

MINUTE: Final = 60 * RATE

GAP: Final = 2 * RATE
"""A pause that is heard, too (the library's own `min_silence_duration_ms`)."""

WHISPER: Final = 30
"""Seconds that OpenAI's models hear at once. One that hears less, as the bundled one does, has learnt
sentences and not talk: it is given what is spoken between two pauses by itself (on the meeting in
tests/data one word in five was wrong then, more than half when it was given all of it)."""

SHORTEST: Final = RATE // 10
"""Samples that can be a word."""

DEFAULTS: Final = {
    name: parameter.default
    for name, parameter in inspect.signature(WhisperModel.transcribe).parameters.items()
    if name in TranscriptionOptions.__dataclass_fields__
}
"""How the library hears when it is not told otherwise."""

LADDER: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Temperatures, tried one after the other while an answer fails Whisper's checks."""

QUIET: Final = 0.001
"""A window in which nothing is louder than this (-60 dBFS) is not searched for speech."""

SURE: Final = 0.5
"""Probability from which another language than the recording's so far is believed."""

UNHEARD: Final = 3.0
"""Seconds of speech after the last words of a piece that make it be heard again."""

HOTWORDS: Final = 60
"""Tokens of hotwords at most: more are invented where nobody said them (faster-whisper#731)."""


class WhisperEar:
    """A loaded Whisper model."""

    def __init__(self, folder: Path, *, name: str | None = None, threads: int = 0, batch: int = 0) -> None:
        """Load a model in the form of CTranslate2. `threads` 0 is all processors but one.

        `batch` is how many pieces are heard at once at most; 0 is 4 with four threads or more, else 1:
        two threads are busy with one piece, eight are twice as quick with a batch.
        Raises `Unloadable`, with what the operator can do.
        """
        self.name = name or folder.name
        threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self._batch = batch or (4 if threads >= 4 else 1)  # noqa: PLR2004 - see above
        _check(folder)
        try:
            self._model = WhisperModel(
                str(folder),
                device="cpu",
                compute_type="default",
                cpu_threads=threads,
                local_files_only=True,
            )
        except Exception as error:  # noqa: BLE001 - whatever the libraries say of a folder that is no model
            raise Unloadable(
                str(folder), f"is not a speech model ({type(error).__name__})", "name another folder"
            ) from None
        get_vad_model()  # loaded now, not when the first person waits
        self.longest = int(self._model.feature_extractor.chunk_length)
        """Seconds that the model hears at once."""

    look = staticmethod(look)

    def hear(
        self, sound: Sound, wish: HearingWish, alone: Callable[[], bool]
    ) -> Iterator[Reached | Segment | Ended]:
        """Hear a recording; see `models.protocol.Ear`."""
        if wish.language and wish.language not in _LANGUAGE_CODES:
            raise EngineError("invalid_request_error", f"there is no language {wish.language!r}")
        hearing = _Hearing(self._model, wish)
        heard: list[Segment] = []
        repeats = Repeats()
        with Decoder(sound, wish.longest) as decoder:
            at = decoder.skip(int(wish.start * RATE))
            window = decoder.read(WINDOW)
            while True:
                total = max(sound.announced, decoder.decoded)
                yield Reached(at / RATE, total)
                spoken, carry = self._spoken(window), len(window)
                if not decoder.ended:
                    spoken, carry = _cut(spoken, len(window))
                for found in self._listen(hearing, window, spoken, alone):
                    found = _moved(found, at / RATE)  # noqa: PLW2901 - the same, told from the beginning
                    for segment in repeats.take(found):
                        heard.append(segment)
                        yield segment
                    yield Reached(found.end, total)
                if decoder.ended:
                    break
                at += carry
                window = np.concatenate([window[carry:], decoder.read(WINDOW - len(window) + carry)])
            for segment in repeats.rest():
                heard.append(segment)
                yield segment
            yield Reached(decoder.decoded, decoder.decoded)
            transcript = Transcript(tuple(heard), hearing.language, decoder.decoded)
            yield Ended(transcript, decoder.truncated)

    def close(self) -> None:
        """Free the memory."""
        self._model.model.unload_model()

    def _spoken(self, window: Samples) -> list[Span]:
        """Find where somebody speaks in a window, from pause to pause."""
        if not len(window) or np.abs(window).max() < QUIET:
            return []
        options = VadOptions(max_speech_duration_s=self.longest, min_silence_duration_ms=160)
        found = get_speech_timestamps(window, options)
        return [(one["start"], one["end"]) for one in found if one["end"] - one["start"] >= SHORTEST]

    def _listen(
        self, hearing: _Hearing, window: Samples, spoken: Sequence[Span], alone: Callable[[], bool]
    ) -> Iterator[Segment]:
        """Hear what is spoken in a window, with times of the window."""
        if self.longest < WHISPER:
            for stretch in spoken:
                yield from hearing.alone(window, [stretch])
            return
        if self._batch == 1:
            yield from hearing.alone(window, pieces(spoken, len(window), GAP))
            return
        todo = pieces(spoken, self.longest * RATE, GAP)
        while todo:
            count = self._batch if alone() else 1
            batch, todo = todo[:count], todo[count:]
            if len(batch) > 1:
                yield from hearing.together(window, batch)
            else:
                yield from hearing.alone(window, batch)


def _cut(spoken: list[Span], length: int) -> tuple[list[Span], int]:
    """Leave the last stretch of a window to the next one, since it may go on there.

    Gives what is to be heard now, and the sample from which the next window goes on: a pause.
    """
    if len(spoken) > 1:
        return spoken[:-1], spoken[-1][0]
    # A word may begin in the last second.
    return spoken, max(spoken[-1][1] if spoken else 0, length - RATE)


def _moved(segment: Segment, by: float) -> Segment:
    words = tuple(
        replace(word, start=round(word.start + by, 2), end=round(word.end + by, 2)) for word in segment.words
    )
    start, end = round(segment.start + by, 2), round(segment.end + by, 2)
    return replace(segment, start=start, end=end, words=words)


def _check(folder: Path) -> None:
    remedy = "name the folder of a Whisper model in CTranslate2 form"
    if not folder.is_dir():
        raise Unloadable(str(folder), "is not a folder", remedy)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not any(folder.glob("vocabulary.*")):
        missing.append("vocabulary.json")
    if missing:
        raise Unloadable(str(folder), f"lacks {', '.join(missing)}", f"{remedy}, with all its files")


class _Steady:
    """A model that tells another language than it last told only where it is sure.

    `told` are the languages of what it was last asked about.
    """

    def __init__(self, model: Any) -> None:
        self.told: list[str] = []
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def detect_language(self, encoded: Any) -> list[list[tuple[str, float]]]:
        last, self.told = next(reversed(self.told), ""), []
        for guesses in self._model.detect_language(encoded):
            token, probability = guesses[0]
            last = last if last and probability < SURE else token.strip("<|>")
            self.told.append(last)
        return [[(f"<|{language}|>", 1.0)] for language in self.told]


class _Hearing:
    """One recording being heard, with the language that it is in so far."""

    def __init__(self, model: WhisperModel, wish: HearingWish) -> None:
        self._model = copy.copy(model)
        self._model.model = self._steady = _Steady(model.model)
        self._batched = BatchedInferencePipeline(self._model)
        self._wish = wish if model.model.is_multilingual else replace(wish, language="en")
        self._spoken: dict[str, float] = defaultdict(float)
        """Seconds in each language."""

    @property
    def language(self) -> str:
        """The wished language, or the one that was spoken longest; `""` where nobody spoke."""
        return self._wish.language or max(self._spoken, key=self._spoken.__getitem__, default="")

    def alone(self, window: Samples, spoken: Sequence[Span]) -> Iterator[Segment]:
        """Hear stretches of a window one after the other, as the library does it.

        What is not spoken is left out between them, so that the model hears as much at once as it
        can. Whisper's ladder and its checks apply.
        """
        if not spoken:
            return
        spans = [{"start": start, "end": end} for start, end in spoken]
        track = np.concatenate(collect_chunks(window, spans)[0])
        tokenizer = self._tokenizer()
        found = self._model.generate_segments(
            self._features(track), tokenizer, self._options(tokenizer), log_progress=False
        )
        for one in restore_speech_timestamps(found, spans, RATE):
            language = self._wish.language or self._steady.told[-1]
            yield from self._segment(vars(one), 0.0, len(window) / RATE, language)

    def together(self, window: Samples, spoken: Sequence[Span]) -> Iterator[Segment]:
        """Hear pieces of a window at once; those that are not to be trusted are heard again, alone."""
        features = np.stack([pad_or_trim(self._features(window[a:b])[..., :-1]) for a, b in spoken])
        tokenizer = self._tokenizer()
        metadata = [{"offset": 0.0, "duration": (b - a) / RATE} for a, b in spoken]
        outputs = self._batched.forward(features, tokenizer, metadata, self._options(tokenizer))
        languages = self._steady.told or [self._wish.language] * len(spoken)
        for (start, end), found, language in zip(spoken, outputs, languages, strict=True):
            if self._trusted((end - start) / RATE, found):
                for one in found:
                    yield from self._segment(one, start / RATE, end / RATE, language)
            else:
                yield from self.alone(window, [(start, end)])

    def _features(self, samples: Samples) -> NDArray[np.float32]:
        """Log-mel features of any length, made a minute at a time: all at once they take a gigabyte."""
        extractor = self._model.feature_extractor
        blocks = [extractor(samples[at : at + MINUTE]) for at in range(0, len(samples), MINUTE)]
        return np.concatenate([*(one[..., :-1] for one in blocks[:-1]), blocks[-1]], axis=-1)

    def _tokenizer(self) -> Tokenizer:
        model = self._model
        task = "translate" if self._wish.translate else "transcribe"
        language = self._wish.language or "en"  # the library puts what is told in its place
        return Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task=task, language=language)

    def _options(self, tokenizer: Tokenizer) -> TranscriptionOptions:
        """Hear as the library does by default, but for what the module's docstring says."""
        wish = self._wish
        words = tokenizer.decode(tokenizer.encode(" " + wish.hotwords)[:HOTWORDS]).strip()
        return TranscriptionOptions(
            **DEFAULTS
            | {
                "temperatures": list(LADDER) if wish.temperature is None else [wish.temperature],
                "condition_on_previous_text": False,
                "suppress_tokens": get_suppressed_tokens(tokenizer, [-1]),
                "multilingual": not wish.language,
                "word_timestamps": wish.words,
                "hotwords": words or None,
            }
        )

    def _trusted(self, seconds: float, found: Sequence[dict[str, Any]]) -> bool:
        """Whether what a batch heard in a piece may stand: the library checks nothing there.

        With an exact temperature there is no ladder that could do better, so only what was left
        unheard is heard again.
        """
        text = "".join(one["text"] for one in found)
        verdict = weigh(
            text,
            seconds=seconds,
            ratio=compression_ratio(text),
            log_prob=found[0]["avg_logprob"],
            no_speech=found[0]["no_speech_prob"],
        )
        if verdict is Verdict.SILENCE:
            return True
        if seconds - found[-1]["end"] > UNHEARD:
            return False
        return verdict is Verdict.FINE or self._wish.temperature is not None

    def _segment(self, one: dict[str, Any], start: float, end: float, language: str) -> Iterator[Segment]:
        """Translate a segment of the library, of what went from `start` to `end`, into ours: one or none."""
        text = one["text"].strip()
        to = min(start + one["end"], end)
        since = min(start + one["start"], to)
        verdict = weigh(
            text,
            seconds=to - since,
            ratio=one["compression_ratio"],
            log_prob=one["avg_logprob"],
            no_speech=one["no_speech_prob"],
        )
        if not text or verdict is Verdict.SILENCE:
            return
        self._spoken[language] += to - since
        words = [word if isinstance(word, dict) else vars(word) for word in one.get("words") or ()]
        yield Segment(
            start=since,
            end=to,
            text=text,
            doubtful=verdict is Verdict.DOUBTFUL,
            language="" if self._wish.language else language,
            words=tuple(
                Word(
                    start + word["start"],
                    start + word["end"],
                    word["word"].strip(),
                    round(float(word["probability"]), 3),
                )
                for word in words
            ),
        )
