"""The ten things that break a bot on Mastodon (research/mastodon.md): handled, and each test able to fail.

Every trap is a scenario that asserts. It is run as Hearth is, and once more with the handling taken out by
its `without`: then it must be red. What is taken out is named there, so that nobody has to guess what holds
the promise.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from mastodon import Mastodon

from bridge.delivery import Delivery
from bridge.mastodon import audience, client, doorbell, feed, manners, post, render, thread, translate
from bridge.platform import Parts
from policies import decide
from tests.fakes.instance import CLOSE, HANG, HTML, LOST
from tests.fakes.instance_state import GOTOSOCIAL, MASTODON, TAKAHE, Differs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.mastodon.world import World

    Patch = pytest.MonkeyPatch
    Scenario = Callable[[World], Awaitable[None]]


@dataclass(frozen=True)
class Trap:
    """`without` takes the handling out."""

    scenario: Scenario
    without: Callable[[Patch], None]
    differs: Differs = MASTODON


# 1 -- the instance document that cannot be read ---------------------------------------------------


async def unreadable_document(world: World) -> None:
    """Without an instance document nothing recurses: a handful of requests, then the answer."""
    world.server.fail("/api/v2/instance", 503, times=1)
    world.server.fail("/api/v1/instance", 503, times=200)
    await world.start()
    await world.answer(world.ask("hello"))
    world.server.fail("/api/v2/instance", HTML, times=200)
    await world.answer(world.ask("still there?", by=world.ben))
    assert world.server.count("/instance") <= 4


def own_versions(patch: Patch) -> None:
    """Mastodon.py looks for the version itself, before a call (halcy/Mastodon.py#450)."""
    init = Mastodon.__init__

    def plain(self: Any, **more: Any) -> None:
        more |= {"version_check_mode": "changed", "mastodon_version": None}
        init(self, **more)

    patch.setattr(Mastodon, "__init__", plain)


# 2 -- private mentions that are held back ---------------------------------------------------------


async def held_back(world: World) -> None:
    """Since 4.3 a stranger's private mention is invisible; the settings may let it in, and then it comes."""
    world.hearth.policy["for_private_mentions"] = "filter"
    await world.start(accept_private_mentions=True)
    await world.answer(world.ask("can you hear me?"))


def no_policy(patch: Patch) -> None:
    """The policy is not looked at."""

    async def nothing(*_: Any, **__: Any) -> list[str]:
        return []

    patch.setattr(manners, "_held_back", nothing)


# 3 -- streams that lose, and lie ------------------------------------------------------------------


async def dead_stream(world: World) -> None:
    """A stream that closes at once is not opened in a hot loop, and what it did not tell is answered."""
    world.server.fail("/streaming", CLOSE, times=10_000)
    await world.start()
    await world.answer(world.ask("nobody rang"))
    await asyncio.sleep(1.0)
    assert world.server.count("/streaming") <= 4


def hot_stream(patch: Patch) -> None:
    """No pause between two connections."""
    patch.setattr(doorbell, "FIRST_PAUSE", 0.0)


# 4 -- cursors -------------------------------------------------------------------------------------


async def waiting_mentions(world: World) -> None:
    """What was there before the first start is not answered; what came while we were away is, each once."""
    world.ask("from before")
    await world.start()
    await world.answer(world.ask("hello"))
    await world.stop()
    people = [world.server.state.account(f"person{number}") for number in range(30)]
    waiting = [world.ask(f"number {number}", by=people[number % 30]) for number in range(90)]
    await world.start()
    await world.settled(91)
    assert [len(world.answers(one)) for one in waiting] == [1] * 90
    assert len(world.said()) == 91


def oldest_of_a_page(patch: Patch) -> None:
    """`since_id` instead of `min_id`: the newest page, and the middle is lost."""
    ask = client.Client.call

    async def call(self: Any, method: str, *values: Any, **query: Any) -> Any:
        if "min_id" in query:
            query["since_id"] = query.pop("min_id")
        return await ask(self, method, *values, **query)

    patch.setattr(client.Client, "call", call)


# 5 -- a post of which nothing was heard -----------------------------------------------------------


async def lost_answer(world: World) -> None:
    """The server did it and the answer got lost; it forgets keys; there is one post in the end."""
    await world.start()
    world.server.fail("/api/v1/statuses", LOST, method="POST")
    question = world.ask("once?")
    await world.answer(question)
    await world.settled(1)
    assert len(world.answers(question)) == 1
    assert world.server.count("/api/v1/statuses", method="POST") == 1


def no_look(patch: Patch) -> None:
    """Delivery takes what is unclear for undone."""
    attempt = Delivery._attempt

    async def forgetful(self: Any, action: Any) -> None:
        self._unclear.clear()
        await attempt(self, action)

    patch.setattr(Delivery, "_attempt", forgetful)


async def died_after_posting(world: World) -> None:
    """The process ends between the post and its acknowledgement; the next one looks before it posts."""
    await world.start()
    question = world.ask("once?")

    async def dies(*_: Any) -> bool:
        await asyncio.Event().wait()
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(world.house.journal), "acknowledge", dies)
        await world.answer(question)
        await asyncio.sleep(0.1)
        await world.stop()
    await world.start()
    await world.settled(1)
    assert len(world.answers(question)) == 1


def same_device(patch: Patch) -> None:
    """The next process takes the key for remembered."""
    patch.setattr("bridge.mastodon.platform.uuid.uuid4", lambda: "always the same")


# 6 -- visibility ----------------------------------------------------------------------------------


async def never_wider(world: World) -> None:
    """To followers is answered privately, in public unlisted, and whoever could not see it before cannot."""
    world.hearth.follows.add(world.ada.id)
    world.ben.follows |= {world.hearth.id}
    await world.start()
    expected = {"public": "unlisted", "unlisted": "unlisted", "private": "direct", "direct": "direct"}
    for asked, answered in expected.items():
        answer = await world.answer(world.ask(f"as {asked}", visibility=asked))
        assert answer.visibility == answered
        assert world.server.state.sees(world.ben, answer) == (answered == "unlisted")


def same_visibility(patch: Patch) -> None:
    """The answer gets the visibility of the question."""
    patch.setattr(audience, "reply_visibility", lambda asked: asked)


# 7 -- a mention is a delivery ---------------------------------------------------------------------


async def quoted_handles(world: World) -> None:
    """Whatever the model writes, only the asker is told."""
    await world.start()
    world.bot.says = lambda _read: (
        "Ask @ben, **@ben** or @<i>ben</i>: [him](https://x.example/@ben) \uff20ben"
    )
    answer = await world.answer(world.ask("whom shall I ask?"))
    assert [one.name for one in answer.mentions] == ["ada"]
    assert world.told(world.ben) == 0
    assert not world.server.state.sees(world.ben, answer)


def handles_kept(patch: Patch) -> None:
    """Words go out as the model wrote them."""
    patch.setattr(render, "neutralise", lambda text: text)


# 8 -- length --------------------------------------------------------------------------------------


async def long_answer(world: World) -> None:
    """A long answer is a numbered chain of at most six, each part below the one before; "more" goes on."""
    await world.start()
    words = [f"word{number}" for number in range(600)]
    world.bot.says = lambda _read: " ".join(words)
    question = world.ask("everything", cw="long", by=world.far)
    await world.settled(1)
    chain = world.said()
    assert len(chain) == 6
    assert [one.reply_to for one in chain] == [question, *chain[:-1]]
    assert all(f"({number}/6)" in one.text for number, one in enumerate(chain, 1))
    assert {(one.visibility, one.spoiler) for one in chain} == {("direct", "re: long")}
    more = world.ask("more", by=world.far, reply_to=chain[-1])
    await world.answer(more)
    await world.settled(2)
    said = " ".join(one.text for one in world.said())
    assert [word for word in said.split() if word.startswith("word")] == words


def unmeasured(patch: Patch) -> None:
    """Everything in one post."""
    patch.setattr(render, "parts", lambda text, *_, **__: Parts((text,)))


# 9 -- loops ---------------------------------------------------------------------------------------


async def two_bots(world: World) -> None:
    """Another bot is never answered, not even with a refusal; a person is, beside it."""
    robot = world.server.state.account("robot", bot=True)
    await world.start()
    for number in range(3):
        world.ask(f"beep {number}", by=robot)
    question = world.ask("and me?")
    await world.answer(question)
    await world.settled(4)
    assert len(world.said()) == 1


def bots_are_people(patch: Patch) -> None:
    """The mark of a bot is not looked at."""
    patch.setattr(decide, "_account", lambda *_: None)


# 10 -- calls that block ---------------------------------------------------------------------------


async def hanging_call(world: World) -> None:
    """A request that never ends holds up nobody else, and ends by its own deadline."""
    await world.start(timeout=2.0)
    note = world.ben.post("a note", visibility="public")
    world.server.fail("/context", HANG)
    world.ask("slow", reply_to=note)
    await world.until(lambda: world.server.count("/context") > 0)
    began = time.monotonic()
    await world.answer(world.ask("quick", by=world.ben))
    assert time.monotonic() - began < 1.5


def on_the_loop(patch: Patch) -> None:
    """One thread for everything."""
    patch.setattr(client, "THREADS", 1)


# -- the feed's own --------------------------------------------------------------------------------


async def private_thread(world: World) -> None:
    """What the asker could not see is no context."""
    await world.start()
    secret = world.ask("my secret", by=world.ben)
    answer = await world.answer(secret)
    shown = world.ben.post("@ada @hearth look", visibility="direct", reply_to=answer)
    assert "secret" not in (await world.answer(world.ask("what was it?", reply_to=shown))).text


def all_is_visible(patch: Patch) -> None:
    """The bot's own view is the asker's."""
    patch.setattr(thread, "visible_to", lambda *_: True)


async def gone_meanwhile(world: World) -> None:
    """A question that was deleted while its answer was made leaves no orphan, where the server makes one."""
    await world.start()
    world.bot.waits = asyncio.Event()
    question = world.ask("never mind")
    await world.until(lambda: world.bot.turns == 1)
    world.ada.delete(question)
    world.bot.waits.set()
    await world.settled(1)
    assert world.server.count("/api/v1/statuses", method="POST") == 1
    assert world.said() == []


def orphans_stay(patch: Patch) -> None:
    """What the server says that the post replies to is not looked at."""

    async def deaf(*_: Any, **__: Any) -> None:
        return None

    patch.setattr(post.Poster, "_delete", deaf)


async def broken_notifications(world: World) -> None:
    """A notification without a status, and one of an unknown kind, hold up nothing."""
    await world.start()
    state = world.server.state
    state.notify(world.hearth, world.ada, None, "mention")
    state.notify(world.hearth, world.ada, None, "quantum_entanglement")
    await world.answer(world.ask("hello"))


def status_is_taken_for_granted(patch: Patch) -> None:
    """Every notification has a status."""
    for module in (feed, translate):
        patch.setattr(module, "not_ours", lambda *_: None)
        patch.setattr(module, "dict_of", lambda value: value)


TRAPS = {
    "1 unreadable document": Trap(unreadable_document, own_versions),
    "2 held back": Trap(held_back, no_policy),
    "3 dead stream": Trap(dead_stream, hot_stream),
    "4 waiting mentions": Trap(waiting_mentions, oldest_of_a_page),
    "5 lost answer": Trap(lost_answer, no_look, GOTOSOCIAL),
    "5 died after posting": Trap(died_after_posting, same_device, GOTOSOCIAL),
    "6 never wider": Trap(never_wider, same_visibility),
    "7 quoted handles": Trap(quoted_handles, handles_kept),
    "8 long answer": Trap(long_answer, unmeasured),
    "9 two bots": Trap(two_bots, bots_are_people),
    "10 hanging call": Trap(hanging_call, on_the_loop),
    "private thread": Trap(private_thread, all_is_visible),
    "gone meanwhile": Trap(gone_meanwhile, orphans_stay, TAKAHE),
    "broken notifications": Trap(broken_notifications, status_is_taken_for_granted),
}


@pytest.fixture
def differs(request: pytest.FixtureRequest) -> Differs:
    return TRAPS[request.node.callspec.params["name"]].differs


@pytest.mark.parametrize("name", TRAPS)
async def test_it_is_handled(world: World, name: str) -> None:
    """The scenario's own property holds."""
    await TRAPS[name].scenario(world)


@pytest.mark.parametrize("name", TRAPS)
async def test_without_its_handling_it_is_red(world: World, name: str, monkeypatch: Patch) -> None:
    """The scenario fails, as soon as what holds it is taken out."""
    TRAPS[name].without(monkeypatch)
    world.deadline = 5.0
    with pytest.raises((AssertionError, TimeoutError)):
        await TRAPS[name].scenario(world)
