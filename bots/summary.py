"""The points of a recording: the chat model sums up each section, and we say when it begins.

Promises that the model is asked only for what fits it and that every time comes from the
transcript: the model is shown none, and what looks like one in its answer is taken out.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

from bots import wording_voice
from bots.base import Waiting
from bots.heard import halves, plain, sections
from bots.prompt import FENCE_SENTENCE, first_answer, neutral
from models.transcript import clock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from bots.base import Tools
    from models.transcript import Segment, Transcript

T = TypeVar("T")

POINTS: Final = 12
"""Points of a long recording, if the model can take sections of that size."""

SECTION: Final = 60.0
"""Seconds that are worth a point of their own."""

POINT_TOKENS: Final = 96
"""Two sentences."""

_SYSTEM: Final = f"You sum up in a few words what people said, in their language. {FENCE_SENTENCE}"
_ASK: Final = "What is said here, in one or two sentences?"
_MARKS: Final = re.compile(r"[\[(]\s*\d{1,2}:\d\d(?::\d\d)?\s*[\])]\s*")
_BULLET: Final = re.compile(r"\A\s*(?:[-*\u2022]|\d{1,2}[.)])\s+")


class Summary:
    """The points of one recording, as they come: `points` are lines of Markdown, `count` is all of them."""

    def __init__(self, transcript: Transcript, own_name: str) -> None:
        self.transcript = transcript
        self.own_name = own_name
        self.points: list[str] = []
        self.count = 0

    async def write(self, tools: Tools) -> AsyncGenerator[Waiting | None]:
        """Add one point after the other to `points`; yields after each, and the place in the queue.

        Raises `models.client.ModelError`; the points so far stay.
        """
        size = await tools.context_size()
        most = max(1, min(POINT_TOKENS, size // 4))
        length = max(SECTION, self.transcript.duration / POINTS)
        waiting = sections(self.transcript, length)[::-1]
        fitting: list[tuple[Segment, ...]] = []
        while waiting:
            section = waiting.pop()
            parts = None if await self._fits(section, tools, size - most) else halves(section)
            if parts is None:
                fitting.append(section)
            else:
                waiting += parts[::-1]
        self.count = len(fitting)
        for section in fitting:
            text, finish = "", ""
            stream = tools.chat(_messages(section), max_tokens=most)
            async with aclosing(closable(stream)) as chunks:
                async for chunk in chunks:
                    text += chunk.text
                    finish = chunk.finish or finish
                    if chunk.position is not None:
                        yield Waiting(chunk.position)
            self.points.append(f"[{clock(section[0].start)}] {self._point(text, cut=finish == 'length')}")
            yield None

    async def _fits(self, section: tuple[Segment, ...], tools: Tools, room: int) -> bool:
        return await tools.count_tokens(_messages(section)) <= room

    def _point(self, text: str, *, cut: bool) -> str:
        answer, _ = first_answer(text, (), self.own_name)
        words = plain(_MARKS.sub("", _BULLET.sub("", answer)))
        if not words:
            return wording_voice.no_point()
        return f"{words} …" if cut else words


async def closable(stream: AsyncIterator[T]) -> AsyncGenerator[T]:
    """`stream` of a model with a close, which is what makes the model stop."""
    try:
        async for sign in stream:
            yield sign
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _messages(section: tuple[Segment, ...]) -> list[dict[str, str]]:
    words = neutral(" ".join(one.text.strip() for one in section))
    return [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": f"<room>\n{words}\n</room>\n{_ASK}"},
    ]
