"""How many requests a short answer costs the homeserver, counted by a proxy before a real Synapse.

Not counted: `/sync` and the exchange of keys, which do not grow with the number of answers.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from bridge.homeserver import Homeserver
from tests.bench.table import Row, at_most
from tests.fakes.proxy import Proxy
from tests.hearth import Hearth, answer_to
from tests.human import Human

if TYPE_CHECKING:
    from pathlib import Path

NOT_COUNTED = ("GET sync", "POST keys/", "PUT sendToDevice")


async def per_answer(folder: Path, *, encrypted: bool, questions: int, delay: float = 0.0) -> Row:
    """One question at a time in one room; `delay` (seconds a word) makes answers that are not short."""
    async with AsyncExitStack() as stack:
        synapse = await stack.enter_async_context(Homeserver(folder / "synapse"))
        user = await synapse.register("ada", "pw")
        ada = await stack.enter_async_context(Human(synapse.url, user, "pw"))
        bot = await synapse.register("hearth", "pw")
        proxy = await stack.enter_async_context(Proxy(synapse.url))
        (folder / "hearth").mkdir()
        hearth = Hearth(folder / "hearth", proxy.url, bot, model=f"echo_delay = {delay}")
        await stack.enter_async_context(hearth)
        room = await ada.create_room("Bench", encrypted=encrypted, invite=[bot])
        await ada.until_joined(room, bot)
        await ada.until(room, lambda said: said.sender == bot)
        before = Counter[str]()
        for number in range(questions + 1):
            await _one(ada, room, bot, f"question {number} about the garden")
            if number == 0:
                before = Counter(proxy.requests)
        await hearth.stop()
        counted = Counter(
            {kind: n for kind, n in (proxy.requests - before).items() if not kind.startswith(NOT_COUNTED)}
        )
    each = counted.total() / questions
    short = delay == 0.0
    return Row(
        f"requests per {'short' if short else 'streamed'} answer, {'encrypted' if encrypted else 'plain'}",
        ", ".join(f"{count / questions:.1f} {kind}" for kind, count in counted.most_common(4)),
        f"{questions} answers",
        f"{each:.1f}",
        "<= 4" if short else "",
        at_most(each, 4) if short else None,
    )


async def _one(person: Human, room: str, bot: str, question: str) -> None:
    asked = await person.say(room, question, mentions=[bot])
    whole = answer_to("Ada", question)
    await person.until(room, lambda said: said.reply_to == asked and said.text == whole)


async def measure(folder: Path, *, quick: bool) -> list[Row]:
    """Short answers in both kinds of rooms, and one streamed answer for comparison."""
    questions = 5 if quick else 15
    rows = []
    for name, encrypted, delay in (("plain", False, 0.0), ("encrypted", True, 0.0), ("streamed", True, 0.5)):
        place = folder / name
        place.mkdir()
        count = questions if delay == 0.0 else 2
        rows.append(await per_answer(place, encrypted=encrypted, questions=count, delay=delay))
    return rows
