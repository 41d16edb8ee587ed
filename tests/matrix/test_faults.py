"""A bad network and a restarted homeserver between `hearth run` and a real Synapse.

The judge is a second account that talks to Synapse directly: whatever the proxy did, each mention
is answered once and whole.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from bridge.homeserver import Homeserver
from tests.fakes.proxy import Fault, Proxy, Rule
from tests.hearth import Hearth, answer_to, judge
from tests.human import Human, NotSeen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEADLINE = 120.0
SEED = 20261123

SENDS = Rule("PUT (send|redact)", (Fault.LIMIT, Fault.ERROR, Fault.LOST, Fault.CUT), every=7)
KEYS = Rule("(POST keys/.*|PUT sendToDevice)", (Fault.ERROR, Fault.LIMIT, Fault.LOST), every=10)
SYNC = Rule("GET sync", (Fault.ERROR, Fault.LOST, Fault.CUT, Fault.LIMIT), every=12)
SOFT = Rule("(POST receipt|PUT typing)", (Fault.ERROR, Fault.CUT, Fault.DELAY), every=6)
STARTS = Rule("POST (login|join.*)", (Fault.ERROR, Fault.LIMIT), every=6)


async def ask(person: Human, room: str, bot: str, texts: list[str]) -> dict[str, str]:
    """Ask everything at once; what must be answered to it, by event."""
    return {await person.say(room, text, mentions=[bot]): answer_to("Ada", text) for text in texts}


async def answered(person: Human, bot: str, expected: Mapping[str, Mapping[str, str]]) -> None:
    """Wait until every question is answered whole; then nothing else may be there either."""
    async with asyncio.timeout(DEADLINE):
        while any(judge(person.seen(room), bot, questions) for room, questions in expected.items()):
            await person.catch_up(500)
    for room, questions in expected.items():
        assert judge(await person.history(room), bot, questions) == []


async def test_a_bad_network_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """429, 5xx, cut connections and lost answers on every kind of request: each mention answered once."""
    async with AsyncExitStack() as stack:
        synapse = await stack.enter_async_context(Homeserver(tmp_path / "synapse"))
        ada = await stack.enter_async_context(Human(synapse.url, await synapse.register("ada", "pw"), "pw"))
        bot = await synapse.register("hearth", "pw")
        rules = (SENDS, KEYS, SYNC, SOFT, STARTS)
        proxy = await stack.enter_async_context(Proxy(synapse.url, rules, seed=SEED))
        hearth = Hearth(tmp_path / "hearth", proxy.url, bot, model="echo_delay = 0.15")
        await stack.enter_async_context(hearth)
        rooms = [await ada.create_room(f"Room {n}", encrypted=n > 0, invite=[bot]) for n in range(3)]
        for room in rooms:
            await ada.until_joined(room, bot, deadline=DEADLINE)
        words = random.Random(SEED)
        expected = {
            room: await ask(ada, room, bot, [f"question {words.random()}, of {room[1:4]}" for _ in range(4)])
            for room in rooms
        }
        await answered(ada, bot, expected)
        # What was injected is said by the proxy: a run without faults would prove nothing.
        missing = {
            fault for fault in SENDS.faults if not any(f"{fault} PUT send" == one for one in proxy.faults)
        }
        assert not missing, proxy.faults
        assert any(one.endswith("GET sync") for one in proxy.faults), proxy.faults


async def test_a_homeserver_restarted_while_it_is_asked(tmp_path: Path) -> None:
    """Synapse ends in the middle of answers and comes back: what was asked is answered, once."""
    async with AsyncExitStack() as stack:
        synapse = await stack.enter_async_context(Homeserver(tmp_path / "synapse"))
        ada = await stack.enter_async_context(Human(synapse.url, await synapse.register("ada", "pw"), "pw"))
        bot = await synapse.register("hearth", "pw")
        hearth = Hearth(tmp_path / "hearth", synapse.url, bot, model="echo_delay = 0.2")
        await stack.enter_async_context(hearth)
        room = await ada.create_room("Family", invite=[bot])
        await ada.until_joined(room, bot)
        expected = await ask(ada, room, bot, [f"before the restart {n}" for n in range(4)])
        first = next(iter(expected))
        await ada.until(room, lambda said: said.reply_to == first)
        assert judge(ada.seen(room), bot, expected), "everything was answered before the restart"
        await synapse.stop()
        await synapse.start()
        expected |= await ask(ada, room, bot, [f"after the restart {n}" for n in range(2)])
        await answered(ada, bot, {room: expected})
        assert hearth.running


async def test_a_homeserver_that_is_down_at_the_start(tmp_path: Path) -> None:
    """Hearth started before its homeserver waits for it, and then answers."""
    async with AsyncExitStack() as stack:
        synapse = Homeserver(tmp_path / "synapse")
        await stack.enter_async_context(synapse)
        bot = await synapse.register("hearth", "pw")
        user = await synapse.register("ada", "pw")
        await synapse.stop()
        hearth = await stack.enter_async_context(Hearth(tmp_path / "hearth", synapse.url, bot))
        async with asyncio.timeout(30):
            while "homeserver_not_answering" not in hearth.tail():
                assert hearth.running, hearth.tail()
                await asyncio.sleep(0.05)
        await synapse.start()
        ada = await stack.enter_async_context(Human(synapse.url, user, "pw"))
        room = await ada.create_room("Family", invite=[bot])
        await ada.until_joined(room, bot, deadline=DEADLINE)
        await answered(ada, bot, {room: await ask(ada, room, bot, ["are you there"])})


def test_the_judge_sees_what_is_wrong() -> None:
    """The oracle of these tests finds a lost, a doubled, a cut and an invented answer, each."""
    from tests.human import Said  # noqa: PLC0415 - only here

    def answer(text: str, to: str | None) -> Said:
        return Said("$a", "@bot", {"body": text}, reply_to=to)

    expected = {"$q": "Echo: all of it"}
    assert judge([answer("Echo: all of it", "$q"), answer("hello", None)], "@bot", expected) == []
    for wrong in (
        [],
        [answer("Echo: all of it", "$q"), answer("Echo: all of it", "$q")],
        [answer("Echo: all", "$q")],
        [answer("Echo: all of it", "$q"), answer("Echo: more", "$other")],
        [answer("Echo: all of it", "$q"), answer("hello", None), answer("hello", None)],
        [Said("$a", "@bot", reply_to="$q", readable=False)],
    ):
        assert judge(wrong, "@bot", expected)
    assert issubclass(NotSeen, AssertionError)
