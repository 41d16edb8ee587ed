"""The deterministic double of an ear: real containers and real limits, no model.

`python -m models.speech --model echo` opens and decodes what it is sent, and then says how much
that was: `echo: 2.4 seconds of sound` and, for each further two seconds, `echo: second 2`,
`--echo-delay` seconds before each. What it hears is `echo_transcript(seconds)`, so a test knows it
before it asks. Silence (all below -60 dBFS) is an empty transcript.

A `prompt` (hotwords) that begins with one of these words behaves differently:

    echo:fail    fails with code `engine_failed` before the first segment
    echo:break   fails with the same code after its first segment
    echo:slow    at least one second before each segment
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from models.protocol import Ended, EngineError, Reached
from models.sound import RATE, Decoder, look
from models.transcript import Segment, Transcript, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.protocol import HearingWish
    from models.sound import Sound

SECONDS: Final = 2.0
"""Length of a segment."""

QUIET: Final = 0.001


def echo_transcript(seconds: float, *, language: str = "en", words: bool = False) -> Transcript:
    """What the echo ear hears in so many seconds of sound."""
    segments: list[Segment] = []
    start = 0.0
    while start < seconds:
        end = min(seconds, start + SECONDS)
        text = f"echo: {seconds:.1f} seconds of sound" if not segments else f"echo: second {start:.0f}"
        said = text.split()
        step = (end - start) / len(said)
        times = tuple(
            Word(round(start + at * step, 3), round(start + (at + 1) * step, 3), word)
            for at, word in enumerate(said)
        )
        segments.append(Segment(start, end, text, language=language, words=times if words else ()))
        start = end
    return Transcript(tuple(segments), language, seconds)


class EchoEar:
    """An ear that says how much it heard."""

    def __init__(self, *, name: str = "echo", delay: float = 0.0) -> None:
        """`delay` is seconds before each segment."""
        self.name = name
        self._delay = delay

    look = staticmethod(look)

    def hear(
        self, sound: Sound, wish: HearingWish, alone: Callable[[], bool]
    ) -> Iterator[Reached | Segment | Ended]:
        """Decode all of it, then say it segment by segment."""
        del alone  # its steps are small
        if wish.hotwords.startswith("echo:fail"):
            raise EngineError("engine_failed", "echo:fail was asked for")
        loud = False
        with Decoder(sound, wish.longest) as decoder:
            while not decoder.ended:
                block = decoder.read(60 * RATE)
                loud = loud or bool(len(block) and np.abs(block).max() >= QUIET)
                yield Reached(0.0, max(sound.announced, decoder.decoded))
            seconds, truncated = round(decoder.decoded, 3), decoder.truncated
        whole = echo_transcript(seconds, language=wish.language or "en", words=wish.words)
        heard = tuple(one for one in whole.segments if loud and one.end > wish.start)
        whole = replace(whole, segments=heard)
        for segment in whole.segments:
            time.sleep(max(self._delay, 1.0) if wish.hotwords.startswith("echo:slow") else self._delay)
            yield segment
            if wish.hotwords.startswith("echo:break"):
                raise EngineError("engine_failed", "echo:break was asked for")
            yield Reached(segment.end, seconds)
        yield Ended(whole, truncated)

    def close(self) -> None:
        """Nothing to free."""
