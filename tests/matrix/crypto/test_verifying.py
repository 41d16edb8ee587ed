"""A person verifies the bot on a real homeserver, with a client that shares no code with ours."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from bridge.matrix.crypto import verification
from bridge.matrix.crypto.emoji import signs
from bridge.platform import EventKind
from policies.room import Trust
from tests.matrix.crypto.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bridge.matrix.crypto.verification import Heard
    from bridge.matrix.facts import RoomState
    from bridge.platform import Event
    from tests.human import Human
    from tests.matrix.conftest import Bot, World


def more_than(bot: Bot, count: int) -> bool:
    return len(bot.batches) > count


def news(bot: Bot, stage: str | None = None) -> list[dict[str, Any]]:
    """What people were told of verifications."""
    found = [json.loads(event.text) for event in bot.events if event.kind is EventKind.VERIFICATION]
    return [one for one in found if stage in (None, one["stage"])]


async def shown(world: World, *, room: bool) -> tuple[Human, Bot, Verifier, str]:
    """Ada, a bot and she comparing signs, and the room of the two."""
    ada = await world.human()
    bot = await world.bot(has_admins=True)
    place = await world.room(ada, bot, direct=True)
    verifier = Verifier(ada, bot.id)
    await verifier.cross_sign()
    await verifier.ask(place if room else None)
    await verifier.until(lambda _, came: "ready" in came)
    await verifier.start()
    await verifier.until(lambda side, _: side.shown is not None)
    await bot.until(lambda: bool(news(bot, "shown")))
    return ada, bot, verifier, place


@pytest.mark.parametrize("room", [True, False])
async def test_a_person_verifies_the_bot(world: World, *, room: bool) -> None:
    """In the room and between devices: both see the same, all keys are proven, hers is signed."""
    ada, bot, verifier, place = await shown(world, room=room)
    side = verifier.side
    assert side is not None
    (told,) = news(bot, "shown")
    assert (tuple(map(tuple, told["signs"])), tuple(told["numbers"])) == (signs(side.shown[0]), side.shown[1])
    assert [event.place for event in bot.events if event.kind is EventKind.VERIFICATION] == [place]
    await ada.say(place, "before", mentions=[bot.id])
    assert (await bot.heard("before")).trust is Trust.SIGNED
    await verifier.confirm()
    (comparing,) = bot.platform.verifying.comparing
    assert (comparing.user, comparing.place) == (ada.user_id, place)
    assert bot.platform.verifying.answer(comparing, matches=True)
    await verifier.until(lambda side, _: side.done)
    assert side.proven == set((await verifier.expects())[1])
    await ada.say(place, "after", mentions=[bot.id])
    await bot.until(lambda: bool(news(bot, "verified")))
    assert (await bot.heard("after")).trust is Trust.VERIFIED
    assert bot.platform.verifying.comparing == ()


async def test_an_unsigned_device_is_trusted_in_nothing(world: World) -> None:
    """Without an identity nothing vouches; nor does anything for what is not encrypted."""
    ada, bot = await world.human(), await world.bot()
    place = await world.room(ada, bot)
    await ada.say(place, "encrypted", mentions=[bot.id])
    assert (await bot.heard("encrypted")).trust is Trust.UNSIGNED
    verifier = Verifier(ada, bot.id)
    await verifier.cross_sign()
    clear = await world.room(ada, bot, encrypted=False)
    await ada.say(clear, "in clear", mentions=[bot.id])
    assert (await bot.heard("in clear")).trust is Trust.UNSIGNED
    await ada.say(place, "signed", mentions=[bot.id])
    assert (await bot.heard("signed")).trust is Trust.SIGNED
    await bot.stop()
    again = await world.bot(bot.id, bot.cursor)
    await ada.say(place, "after a restart", mentions=[bot.id])
    assert (await again.heard("after a restart")).trust is Trust.SIGNED


async def test_the_signs_differ(world: World) -> None:
    """An admin's no ends it with its code; so does hers, and nothing is signed."""
    ada, bot, verifier, _ = await shown(world, room=True)
    (comparing,) = bot.platform.verifying.comparing
    bot.platform.verifying.answer(comparing, matches=False)
    await verifier.until(lambda side, _: bool(side.cancelled))
    assert verifier.side is not None
    assert verifier.side.cancelled == "m.mismatched_sas"
    assert not bot.platform.verifying.answer(comparing, matches=True)
    place = verifier.room
    await verifier.ask(place)
    await verifier.until(lambda _, came: "ready" in came)
    await verifier.start()
    await verifier.until(lambda side, _: side.shown is not None)
    assert verifier.side is not None
    verifier.side.agrees = False
    await verifier.confirm()
    await bot.until(lambda: len(news(bot, "cancelled")) == 2)
    assert [(one["code"], one["by_us"]) for one in news(bot, "cancelled")] == [
        ("m.mismatched_sas", True),
        ("m.mismatched_sas", False),
    ]
    assert news(bot, "verified") == []
    del ada


async def test_without_an_admin_nobody_is_verified(world: World) -> None:
    """It is declined at once, and the room is told what is missing."""
    ada, bot = await world.human(), await world.bot()
    place = await world.room(ada, bot)
    verifier = Verifier(ada, bot.id)
    await verifier.ask(place)
    await verifier.until(lambda side, _: side.cancelled == "m.user")
    await bot.until(lambda: bool(news(bot)))
    assert [one["stage"] for one in news(bot)] == ["no_admins"]


async def test_a_device_without_an_identity_is_compared_but_not_signed(world: World) -> None:
    """The bot is proven to her; of her there is nothing to sign, and she is told what to do."""
    ada, bot = await world.human(), await world.bot(has_admins=True)
    place = await world.room(ada, bot)
    verifier = Verifier(ada, bot.id)
    await verifier.ask(place)
    await verifier.until(lambda _, came: "ready" in came)
    await verifier.start()
    await verifier.until(lambda side, _: side.shown is not None)
    await bot.until(lambda: bool(bot.platform.verifying.comparing))
    bot.platform.verifying.answer(bot.platform.verifying.comparing[0], matches=True)
    await verifier.until(lambda side, _: bool(side.proven))
    await verifier.confirm()
    await verifier.until(lambda side, _: side.done)
    await bot.until(lambda: bool(news(bot, "device_only")))


async def test_when_nobody_starts_the_bot_does(world: World) -> None:
    """Some clients leave it to the other side."""
    now = [1000.0]
    ada = await world.human()
    bot = await world.bot(has_admins=True, clock=lambda: now[0])
    place = await world.room(ada, bot)
    verifier = Verifier(ada, bot.id)
    await verifier.cross_sign()
    await verifier.ask(place)
    await verifier.until(lambda _, came: "ready" in came)
    now[0] += 16
    await ada.say(place, "are you there?", mentions=[])
    await verifier.until(lambda side, _: side.shown is not None)
    assert verifier.side is not None
    assert not verifier.side._starter
    now[0] += 600
    await ada.say(place, "too late", mentions=[])
    await verifier.until(lambda side, _: side.cancelled == "m.timeout")


async def test_garbage_by_the_thousand_costs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests without end and steps of nothing: few are open, few are answered, and the bot hears on."""
    ada, bot = await world.human(), await world.bot(has_admins=True)
    place = await world.room(ada, bot)
    verifier = Verifier(ada, bot.id)
    await verifier.cross_sign()
    device, _ = await verifier.expects()
    client = bot.platform._client
    assert client is not None
    calls: list[str] = []
    call = client.call

    async def counted(method: str, path: tuple[str, ...], *rest: Any, **more: Any) -> Any:
        calls.append("/".join(path[1:3]))
        return await call(method, path, *rest, **more)

    monkeypatch.setattr(client, "call", counted)
    verifications, took = bot.platform.verifying, [0]
    take = verifications.take

    async def counting(events: Sequence[Heard], rooms: Mapping[str, RoomState]) -> tuple[Event, ...]:
        told = await take(events, rooms)
        took[0] += len(events)
        assert len(verifications._open) <= verification.MOST
        return told

    monkeypatch.setattr(verifications, "take", counting)
    kinds = ("request", "ready", "start", "accept", "key", "mac", "done", "cancel", "dance")
    await asyncio.gather(
        *(
            verifier._send_to_device(
                device,
                f"m.key.verification.{kinds[number % len(kinds)]}",
                {
                    "transaction_id": f"{number}",
                    "from_device": verifier.device if number % 2 else f"D{number}",
                    "methods": ["m.sas.v1"],
                    "method": "m.sas.v1",
                    "timestamp": 10**15 if number % 3 == 0 else None,
                    "key": [number],
                },
            )
            for number in range(1000)
        )
    )
    await ada.say(place, "still there?", mentions=[bot.id])
    await bot.heard("still there?")
    while took[0] < 1000:
        await ada.say(place, "and now?", mentions=[], fresh=False)
        await bot.until(partial(more_than, bot, len(bot.batches)))
    assert len(verifications._ended) <= verification.REMEMBERED
    assert len(calls) < 200
    assert news(bot, "shown") == []
