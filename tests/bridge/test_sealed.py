"""What cannot be read: its sender is told after a minute, once for each key; what comes late is answered."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from bridge.doctor import of_room
from bridge.platform import EventKind, Reach
from bridge.report import State
from bridge.sealed import IN_A_ROOM, PATIENCE_MS
from tests.bridge.family import said
from tests.fakes.server import ADA, BEN, MOD, ROOM

if TYPE_CHECKING:
    from bots.conversation import Person
    from tests.bridge.family import Start
    from tests.fakes.server import FakeServer

MINUTE = PATIENCE_MS / 1000 + 1


def sealed(server: FakeServer, session: str, *, by: Person = ADA, text: str = "Are you there?") -> str:
    """An encrypted message whose key has not come."""
    event_id = server.say(text, by=by, sync=False)
    server.seal(event_id)
    item = server.stream[-1]
    assert item.kind is EventKind.SEALED  # type: ignore[union-attr]
    cipher = json.dumps({"content": {"session_id": session}, "event_id": event_id})
    server.stream[-1] = type(item)(**{**_fields(item), "sealed": cipher})  # type: ignore[arg-type]
    return event_id


def _fields(item: object) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__slots__}  # type: ignore[attr-defined]


async def test_a_sender_is_told_once_for_a_key(start: Start, server: FakeServer) -> None:
    """After a minute, as a reply that calls them; not for each message, and not again by the next process."""
    process = await start()
    first = sealed(server, "one")
    sealed(server, "one")
    await process.idle()
    assert "cannot read" not in said(server)
    await asyncio.sleep(MINUTE)
    await process.idle()
    (told,) = [one for one in server.shown() if "cannot read" in one.text]
    assert told.reply_to == first
    assert "Ada" in told.text
    await process.stop()
    process = await start()
    await asyncio.sleep(MINUTE)
    await process.idle()
    assert said(server).count("cannot read") == 1


async def test_a_key_that_comes_soon_is_not_spoken_of(start: Start, server: FakeServer) -> None:
    """It was under way; the question is answered and nothing else is said."""
    process = await start()
    question = sealed(server, "one")
    await asyncio.sleep(MINUTE / 2)
    server.open(question)
    await asyncio.sleep(MINUTE)
    await process.idle()
    assert len(server.answers(question)) == 1
    assert "cannot read" not in said(server)


async def test_a_key_that_comes_late_is_answered(start: Start, server: FakeServer) -> None:
    """After the notice, too."""
    process = await start()
    question = sealed(server, "one")
    await asyncio.sleep(MINUTE)
    await process.idle()
    server.open(question)
    await process.idle()
    assert len(server.answers(question)) == 2


async def test_why_the_key_is_kept_from_us_is_told(start: Start, server: FakeServer) -> None:
    """What the sender's app says of it, as something to do."""
    server.withheld = {"one": "m.unverified", "two": "m.odd"}
    process = await start()
    sealed(server, "one")
    sealed(server, "two", by=BEN)
    await asyncio.sleep(MINUTE)
    await process.idle()
    assert "verified sessions only" in said(server)
    assert "write it once more" in said(server)


async def test_the_doctor_says_what_has_no_key(start: Start, server: FakeServer) -> None:
    """To whoever moderates the room: how many, since when, and who does not get ours."""
    server.reach[ROOM] = Reach("signed", 3, ("@ben:home",))
    server.rooms[ROOM] = replace(server.rooms[ROOM], must_encrypt=True)
    server.sync(server.rooms[ROOM])
    process = await start()
    server.say("!doctor", by=MOD)
    await process.idle()
    assert "a key here for everything" in server.texts()[-1]
    assert "`@ben:home`" in server.texts()[-1]
    sealed(server, "one")
    server.say("!doctor", by=BEN)
    await process.idle()
    assert "no key here" not in server.texts()[-1]
    server.say("!doctor", by=MOD)
    await process.idle()
    assert "no key here for 1 message" in server.texts()[-1]
    (room,) = await process.journal.legible(process.platform.account)
    assert (room.unread, of_room(room).state) == (1, State.NOTE)  # !doctor itself could be read after it
    del server.reach[ROOM]
    server.say("!doctor", by=MOD)
    await process.idle()
    assert "not encrypted" in server.texts()[-1]


async def test_whoever_sends_garbage_makes_us_say_little(start: Start, server: FakeServer) -> None:
    """Each with a session of its own: one notice for a person, a few for a room in an hour."""
    process = await start()
    for number in range(40):
        sealed(server, f"{number}", by=(ADA, BEN, MOD)[number % 3])
    await asyncio.sleep(MINUTE)
    await process.idle()
    assert said(server).count("cannot read") == IN_A_ROOM
    sealed(server, "more")
    await asyncio.sleep(MINUTE)
    await process.idle()
    assert said(server).count("cannot read") == IN_A_ROOM


async def test_a_replay_is_no_message(start: Start, server: FakeServer) -> None:
    """What was encrypted at the same place of a session: not answered again, whichever process reads it."""
    process = await start()
    question = server.say("Are you there?", sync=False)
    server.sync(replace(server.log[question].event, ratchet="one:7"))
    await process.idle()
    assert len(server.answers(question)) == 1
    await process.stop()
    process = await start()
    for number in range(3):
        server.sync(replace(server.log[question].event, id=f"$replay{number}", ratchet="one:7"))
    late = sealed(server, "one")
    server.opened[late] = replace(server.log[late].event, ratchet="one:7")
    server.sync(server.opened[late])
    await asyncio.sleep(MINUTE)
    await process.idle()
    assert not server.answers(late)
    assert len(server.shown()) == 1
