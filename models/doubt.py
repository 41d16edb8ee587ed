"""What not to believe of what a speech model says it heard: pure checks, no model, no numpy.

Whisper writes fluent sentences where nobody spoke, and falls into loops. Its own thresholds are
applied here (Radford et al. 2022, section 4.5; the library switches them off in batches), with
two more: speech that nobody can speak so fast, and the same sentence again and again.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.transcript import Segment

COMPRESSION_RATIO: Final = 2.4
"""Text that gets smaller than this by zlib repeats itself."""
LOG_PROB: Final = -1.0
"""Mean log probability of a token below which the model did not believe itself."""
NO_SPEECH: Final = 0.6
"""Probability of no speech above which there was none."""
CHARACTERS_A_SECOND: Final = 40.0
"""Twice what the quickest speakers say."""
REPEATS: Final = 2
"""How often in a row people say the same sentence."""


class Verdict(StrEnum):
    """What is thought of a passage."""

    FINE = "fine"
    SILENCE = "silence"
    DOUBTFUL = "doubtful"


def weigh(text: str, *, seconds: float, ratio: float, log_prob: float, no_speech: float) -> Verdict:
    """Judge a passage of `seconds` by its text and what the model says of it.

    `ratio` is the compression ratio of all that was decoded with it, `log_prob` the mean log
    probability of a token, `no_speech` the probability that nobody spoke.
    """
    if no_speech > NO_SPEECH and log_prob < LOG_PROB:
        return Verdict.SILENCE
    doubtful = (
        ratio > COMPRESSION_RATIO
        or log_prob < LOG_PROB
        or no_speech > NO_SPEECH
        or len(text) > CHARACTERS_A_SECOND * max(seconds, 1.0)
    )
    return Verdict.DOUBTFUL if doubtful else Verdict.FINE


def compression_ratio(text: str) -> float:
    """Size of a text beside its size after zlib, as Whisper has it."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


class Repeats:
    """Lets a sentence be said twice in a row; the rest of the row becomes one doubtful segment."""

    def __init__(self) -> None:
        self._said = ""
        self._times = 0
        self._row: Segment | None = None

    def take(self, segment: Segment) -> Iterator[Segment]:
        """Give what is to be believed now that `segment` was heard, too."""
        said = " ".join(segment.text.casefold().split())
        if said != self._said:
            yield from self.rest()
            self._said, self._times = said, 0
        self._times += 1
        if self._times <= REPEATS:
            yield segment
        else:
            row = self._row or replace(segment, doubtful=True)
            self._row = replace(row, end=max(row.end, segment.end))

    def rest(self) -> Iterator[Segment]:
        """Give what was held back; nothing follows it."""
        if self._row is not None:
            yield self._row
        self._row = None
