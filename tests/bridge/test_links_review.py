"""What a second look at links found: words that left too late, waits that nobody could end, false words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bots.conversation import Person
from bridge.link.bodies import Kind
from bridge.platform import Retryable
from policies.grant import GRANT_TYPE
from policies.room import LOOSEST
from tests.bridge.city import CITY, COMMUNITY, LINK, OTHER_KEY, City, rules
from tests.bridge.family import said
from tests.bridge.test_links import POOL, asked, city, librarian, met
from tests.fakes.server import MOD, ROOM

if TYPE_CHECKING:
    from tests.bridge.family import Start
    from tests.fakes.process import Process
    from tests.fakes.server import FakeServer

__all__ = ["city", "librarian"]

MALLORY = Person("@mallory:city.example", "Mallory", power=100)
VILLAGE = "hearth:village.example"
AWAY = Retryable("their server is away", 30.0)


def away(server: FakeServer) -> None:
    """Nothing can be sent over the link."""
    server.fault_for = lambda action: AWAY if action.action.kind == "send_envelope" else None


def back(server: FakeServer) -> None:
    server.fault_for = lambda _action: None


async def wanted(start: Start, server: FakeServer, city: City) -> Process:
    """The family runs; a moderator has asked for the link, and then the city came."""
    there, server.rooms[LINK] = server.rooms[LINK], replace(server.rooms[LINK], links=())
    server.sync(server.rooms[LINK])
    process = await start(policy=LOOSEST, community=COMMUNITY)
    await process.idle()
    server.say(f"!link @{CITY}", by=MOD)
    await process.idle()
    server.rooms[LINK] = there
    server.sync(there)
    city.card()
    city.grants()
    await process.idle()
    return process


def joined(server: FakeServer, *people: Person) -> None:
    """More members of the family's room."""
    facts = server.rooms[ROOM]
    server.rooms[ROOM] = replace(facts, members=(*facts.members, *people))
    server.sync(server.rooms[ROOM])


def asks(city: City) -> list[str]:
    return [str(one.body.parts[0].text) for one in city.of(Kind.ASK)]  # type: ignore[union-attr]


async def on_its_way(process: Process, words: str = f"!ask city {POOL}") -> str:
    """A question that was agreed to and cannot be sent yet."""
    server = process.server
    away(server)
    before = said(server).count("I have asked")
    question = server.say(words)
    await process.until(lambda: said(server).count("I have asked") > before)
    return question


# -- edits -----------------------------------------------------------------------------------------


# -- taking back -----------------------------------------------------------------------------------


# -- what has ended --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["brake", "grant", "key"])
async def test_in_quiet_time_too_what_has_ended_is_not_sent(
    start: Start, server: FakeServer, city: City, how: str
) -> None:
    """That it is quiet speaks against asking, and for nothing."""
    rules(server, preview="never")
    process = await met(start, city)
    await on_its_way(process)
    rules(server, preview="never", quiet=["00:00-12:00", "12:00-00:00"])
    match how:
        case "brake":
            server.say(f"!brake {CITY}", by=MOD)
        case "grant":
            server.put_state(GRANT_TYPE, "{}", state_key=CITY)
        case _:
            City(server, number=500).card(OTHER_KEY)
    await process.clock.sleep(20)
    back(server)
    await process.idle()
    assert not city.of(Kind.ASK)


async def test_quiet_time_does_not_end_what_was_asked(start: Start, server: FakeServer, city: City) -> None:
    process = await met(start, city)
    await asked(process)
    rules(server, quiet=["00:00-12:00", "12:00-00:00"])
    await process.idle()
    city.answer()
    await process.idle()
    assert "Tuesday" in said(server)


# -- answers that were lost ------------------------------------------------------------------------


# -- what nobody could end -------------------------------------------------------------------------


# -- a peer that means ill -------------------------------------------------------------------------


# -- whose words, whose names ----------------------------------------------------------------------


# -- proof -----------------------------------------------------------------------------------------
