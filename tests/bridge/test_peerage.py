"""The record and the operator's switch beside a bot that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bridge.journal import Journal
from bridge.link.bodies import Kind
from policies.classes import Class
from policies.room import LOOSEST
from tests.bridge.city import CITY, COMMUNITY, City, allow, linked
from tests.fakes.server import ADA, OWN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.bridge.family import Start
    from tests.fakes.process import Process
    from tests.fakes.server import FakeServer


@pytest.fixture
async def city(server: FakeServer) -> City:
    linked(server)
    allow(server)
    return City(server)


@pytest.fixture
async def running(start: Start, city: City) -> Process:
    """The family runs, and the city has shown its card and its grant."""
    process = await start(policy=LOOSEST, community=COMMUNITY)
    city.card()
    city.grants()
    await process.idle()
    return process


@pytest.fixture
async def beside(running: Process, tmp_path: Path) -> AsyncIterator[Journal]:
    """The journal as `hearth links` opens it, from outside of the running one."""
    journal = await Journal.open(tmp_path / "journal.db")
    yield journal
    await journal.close()


async def test_what_crosses_is_in_a_record_that_holds(
    running: Process, beside: Journal, server: FakeServer, city: City
) -> None:
    """Question, answer, and a refusal: each is a row with its rule, no row has words, the chain is whole."""
    server.say("!ask city When does the pool open?", by=ADA)
    await running.idle()
    server.react(server.shown()[-1].id, "👍", by=ADA)
    await running.idle()
    city.answer("On Tuesday at nine.")
    city.ask("Who is ill?", Class.HEALTH)
    await running.idle()
    rows = await beside.crossed(OWN, CITY, 100)
    told = {(one.way, one.kind, one.allowed) for one in rows}
    assert {("out", "ask", True), ("in", "answer", True), ("in", "ask", False)} <= told
    assert all(one.code and one.rule for one in rows if not one.allowed)
    assert not any(word in repr(rows) for word in ("pool", "Tuesday", "ill?", ADA.id))
    proof = await beside.verify_crossings(OWN)
    assert (proof.count, proof.broken) == (len(rows), None)


async def test_the_operators_switch_holds_for_a_bot_that_runs(
    running: Process, beside: Journal, server: FakeServer, city: City
) -> None:
    """Refused: its question gets no answer, and ours does not go out. Allowed again: it does."""
    await beside.refuse_peer(OWN, CITY, server.now(), refuse=True)
    city.ask("Who won?", Class.GENERAL)
    server.say("!ask city When does the pool open?", by=ADA)
    await running.idle()
    assert not city.of(Kind.ANSWER)
    assert not city.of(Kind.ASK)
    (row,) = [one for one in await beside.crossed(OWN, CITY, 1) if not one.allowed]
    assert row.rule == "link.operator"
    await beside.refuse_peer(OWN, CITY, server.now(), refuse=False)
    city.ask("And who lost?", Class.GENERAL)
    await running.idle()
    assert city.of(Kind.ANSWER)
