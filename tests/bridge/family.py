"""A room that decides together, for tests: three people, a moderator among them, and what is in force."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bots.conversation import Person
from policies.document import STATE_TYPE, limits_of
from policies.grant import read_grant
from policies.room import RoomPolicy
from tests.fakes.server import ADA, MOD, OWN, ROOM, FakeServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.fakes.process import Process

    Start = Callable[..., Awaitable[Process]]

HOUR = 3_600_000
DAY = 24 * HOUR
CITY = "bot:city.example"
KEY = "A" * 43
HEARTH = Person(OWN, "Hearth", power=100)
EVE = Person("@eve:home", "Eve")
BOT = Person("@other-bot:home", "Bot", is_bot=True)
ASK = f"!propose ask @{CITY} classes=local-knowledge until=3 months key={KEY}"


def rule(server: FakeServer, by: Person = MOD, **fields: Any) -> str:
    return server.put_state(STATE_TYPE, json.dumps({"v": 1, **fields}), by=by)


async def policy(process: Process) -> RoomPolicy:
    """What is in force."""
    facts = await process.journal.place(OWN, ROOM)
    assert facts is not None
    found = limits_of(facts.place.policy)
    assert isinstance(found, RoomPolicy)
    return found


async def grants(process: Process) -> dict[str, Any]:
    facts = await process.journal.place(OWN, ROOM)
    assert facts is not None
    return {peer: read_grant(one.text, peer) for peer, one in facts.place.grants}


async def propose(process: Process, words: str = "!propose voice off", by: Person = ADA) -> str:
    """Propose, and wait for the poll: its event."""
    known = set(process.server.polls)
    process.server.say(words, by=by)
    await process.idle()
    (poll,) = set(process.server.polls) - known
    return poll


def said(server: FakeServer) -> str:
    return "\n\n".join(server.texts())
