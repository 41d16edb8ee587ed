"""The checks against what was never said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.doubt import REPEATS, Repeats, Verdict, compression_ratio, weigh
from models.transcript import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable

SAID: dict[str, Any] = {
    "text": "when does the choir meet",
    "seconds": 2.0,
    "ratio": 0.9,
    "log_prob": -0.3,
    "no_speech": 0.1,
}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.FINE),
        ({"ratio": 2.5}, Verdict.DOUBTFUL),
        ({"log_prob": -1.1}, Verdict.DOUBTFUL),
        ({"no_speech": 0.7}, Verdict.DOUBTFUL),
        ({"no_speech": 0.7, "log_prob": -1.1}, Verdict.SILENCE),
        ({"seconds": 0.2}, Verdict.FINE),
        ({"text": "x" * 90}, Verdict.DOUBTFUL),
    ],
)
def test_verdicts(change: dict[str, Any], verdict: Verdict) -> None:
    """Each threshold of Whisper alone makes doubt; no speech and no belief together are silence."""
    assert weigh(**(SAID | change)) is verdict


def test_compression_ratio() -> None:
    """A loop compresses far below speech."""
    assert compression_ratio("when does the choir meet on thursday") < 1.5
    assert compression_ratio("thank you. " * 20) > 2.4
    assert compression_ratio("") < 1


def run(texts: Iterable[str]) -> list[Segment]:
    repeats = Repeats()
    out: list[Segment] = []
    for at, text in enumerate(texts):
        out += repeats.take(Segment(at, at + 0.5, text))
    return out + list(repeats.rest())


def test_a_loop_becomes_one() -> None:
    """The same sentence ten times is said twice, and once more as doubtful for all the rest."""
    out = run(["Hello.", *["Thank you."] * 10, "Goodbye."])
    assert [(one.start, one.end, one.text, one.doubtful) for one in out] == [
        (0, 0.5, "Hello.", False),
        (1, 1.5, "Thank you.", False),
        (2, 2.5, "Thank you.", False),
        (3, 10.5, "Thank you.", True),
        (11, 11.5, "Goodbye.", False),
    ]


@given(st.lists(st.sampled_from(["yes", "Yes ", "no", "maybe"])))
def test_nothing_else_is_touched(texts: list[str]) -> None:
    """Order and times are kept, every sentence of a row is covered, and only long rows are shortened."""
    out = run(texts)
    starts = [one.start for one in out]
    assert starts == sorted(starts)
    covered = {at for one in out for at in range(int(one.start), int(one.end) + 1)}
    assert covered == set(range(len(texts)))
    for one in out:
        row = [text.strip().lower() for text in texts[int(one.start) : int(one.end) + 1]]
        assert set(row) == {one.text.strip().lower()}
        assert one.doubtful or len(row) == 1
    if len(texts) <= REPEATS:
        assert [one.text for one in out] == texts
