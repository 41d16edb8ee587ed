"""The librarian looks into the community's notes before the model answers, and names where it looked.

Promises that what a note says reaches the model as data, fenced and capped, never as an instruction; that an
answer for which notes were read ends with their sources, whatever the model says; and that a question
which no note is about is answered just as it would be without notes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bots import wording_notes
from bots.base import Reply
from bots.chat import Chat
from bots.commands import strip_mention
from bots.conversation import TurnKind
from bots.envoy import offer
from bots.prompt import neutral

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from bots.base import Draft, Passage, Tools, Waiting
    from bots.conversation import Turn

MOST: Final = 4
"""Passages that are read for one answer."""
SHOWN: Final = 3
"""Passages that `!notes` shows."""
SHARE: Final = 3
"""Notes take at most this part of the model's context: one third."""
CHARACTERS_PER_TOKEN: Final = 3
SHORT: Final = 1_500
"""Characters of an answer below which an offer is still seen."""


class Librarian(Chat):
    """The chat bot of a community that has notes."""

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        """Yield what `Chat` yields, with the sources below the answer."""
        question = strip_mention(turn.message.text, turn.place.account, self.own_name)
        found = await tools.notes(question, MOST)
        if found:
            found = within(found, await tools.context_size() // SHARE * CHARACTERS_PER_TOKEN)
        notes = tuple(f"{neutral(one.trail)}\n{neutral(one.text)}".strip() for one in found)
        async for step in self.answer(turn, tools, notes):
            if not isinstance(step, Reply):
                yield step
            elif not found:
                yield await _offering(step, question, turn, tools)
            elif step.features.get("failure") == "too_long":
                # The question alone may fit.
                async for again in self.answer(turn, tools):
                    yield again
            elif "failure" in step.features:
                yield step
            else:
                read: dict[str, float | int | str] = {
                    "notes": ", ".join(sorted({one.collection for one in found})),
                    "passages": len(found),
                }
                words = f"{step.text}\n\n{wording_notes.sources(found)}"
                yield replace(step, text=words, features={**step.features, **read})


async def _offering(said: Reply, question: str, turn: Turn, tools: Tools) -> Reply:
    """An answer that no note stands behind, with the offer to ask another community, if one may be asked."""
    asks = turn.kind is TurnKind.MESSAGE and question.rstrip().endswith("?")
    if not asks or "failure" in said.features or len(said.text) > SHORT:
        return said
    offered = await offer(question, turn, tools)
    if offered is None:
        return said
    words, wait = offered
    return replace(said, text=f"{said.text}\n\n{words}", wait=wait)


def within(found: Sequence[Passage], characters: int) -> tuple[Passage, ...]:
    """As many of the passages as have that many characters; of the first, as many lines, at least one."""
    kept: list[Passage] = []
    for one in found:
        size = len(one.trail) + len(one.text) + 1
        if size <= characters:
            kept.append(one)
            characters -= size
        elif not kept:
            kept.append(_shortened(one, characters))
            break
    return tuple(kept)


def _shortened(passage: Passage, characters: int) -> Passage:
    lines = passage.text.split("\n")
    count = len(lines)
    while count > 1 and len(passage.trail) + 1 + sum(len(line) + 1 for line in lines[:count]) > characters:
        count -= 1
    text = "\n".join(lines[:count])[: max(0, characters - len(passage.trail) - 1)]
    return replace(passage, last=passage.first + count - 1, text=text)


async def shown(argument: str, tools: Tools) -> Reply:
    """The answer to `!notes`: the passages themselves, or which collections there are."""
    if not argument.strip():
        return Reply(wording_notes.collections(await tools.collections()))
    found = await tools.notes(argument, SHOWN)
    features: dict[str, float | int | str] = {"passages": len(found)}
    return Reply(wording_notes.passages(found), features=features)
