"""The process dies at every boundary of a vote: no ballot is lost, and the result is said and set once."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from bots.conversation import Person, PlaceKind, PutState
from bridge.platform import StoredAction
from bridge.router import Router
from bridge.votes import Votes
from policies.document import STATE_TYPE
from policies.grant import GRANT_TYPE
from policies.vote import Choice
from tests.crash.test_boundaries import Life, all_deaths, live
from tests.fakes.server import ADA, BEN, LOST, MOD, OWN, ROOM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bots.conversation import Keyed
    from bridge.journal.votes import Closing

CITY = "bot:city.example"
PEOPLE = (ADA, BEN, MOD)
WHOLE = 10_000
"""Characters of a part: results are long, and each part is a boundary."""


async def _opened(life: Life) -> str:
    server = life.server
    server.room(ROOM, PlaceKind.GROUP, *PEOPLE, Person(OWN, "Hearth", power=100))
    server.put_state(STATE_TYPE, json.dumps({"v": 1, "mode": "consent", "voting_hours": 24}))
    life.beside.add(server.say(f"!propose ask @{CITY} classes=general key={'A' * 43}"))
    await life.idle()
    (poll,) = server.polls
    life.beside.add(poll)
    return poll


def _judge(life: Life, *, state: str, yes: int, grants: list[str]) -> list[str]:
    """What is wrong with how it ended; empty if nothing is."""
    server = life.server
    ends = [one for one in server.texts() if one.startswith(("Passed", "Not passed"))]
    found = [f"ended {len(ends)} times: {ends}"] if len(ends) != 1 else []
    if len(server.polls) != 1 or any(one.result is None for one in server.polls.values()):
        found.append("the poll is not the only one, or has no end")
    with closing(sqlite3.connect(life.path)) as db:
        votes = db.execute("SELECT state, json_extract(tally, '$.yes') FROM votes").fetchall()
        held = db.execute("SELECT grants FROM places").fetchone()[0]
        waiting = db.execute(
            "SELECT count(*) FROM events WHERE control IS NOT NULL AND handled_at IS NULL"
        ).fetchone()[0]
    if votes != [(state, yes)]:
        found.append(f"recorded {votes}")
    if waiting:
        found.append(f"{waiting} controls were never handled")
    in_force = [json.loads(one["text"])["status"] for _, one in json.loads(held)]
    if in_force != grants:
        found.append(f"in force: {in_force}")
    # By the keys of what was tried: a server does not show that the same state is set again.
    puts = {(one.key, one.action) for _, one in server.attempts if isinstance(one.action, PutState)}
    sets = [(put.type, put.state_key, json.loads(put.content).get("status")) for _, put in puts]
    if len(sets) != len(set(sets)):
        found.append("something was set twice")
    return found


async def passed(life: Life) -> None:
    """All say yes, two at once; one acknowledgement gets lost."""
    poll = await _opened(life)
    life.server.vote(poll, Choice.NO, by=ADA)
    await life.idle()
    life.server.faults.extend([LOST, None, LOST])
    for person in PEOPLE:
        await life.process.clock.sleep(1)
        life.server.vote(poll, by=person)
    await life.idle()
    life.wrong = lambda: _judge(life, state="passed", yes=3, grants=["trial"])


async def due(life: Life) -> None:
    """Nobody but two votes; time ends it."""
    poll = await _opened(life)
    life.server.vote(poll, by=ADA)
    life.beside.add(life.server.say("!vote yes", by=BEN, thread=poll, mention=False))
    await life.idle()
    await life.go_on(lambda process: process.clock.sleep(25 * 3600))
    await life.idle()
    life.wrong = lambda: _judge(life, state="failed", yes=2, grants=[])


async def braked(life: Life) -> None:
    """What was allowed is stopped by two members."""
    poll = await _opened(life)
    for person in PEOPLE:
        life.server.vote(poll, by=person)
    await life.idle()
    for person in (ADA, BEN):
        life.beside.add(life.server.say(f"!brake @{CITY}", by=person))
        await life.idle()

    def wrong() -> list[str]:
        found = _judge(life, state="stopped", yes=3, grants=[])
        said = [one for one in life.server.texts() if one.startswith("Stopped: nothing goes")]
        stands = json.loads(life.server.state[ROOM, GRANT_TYPE, CITY][1])["status"]
        return found + ([] if (len(said), stands) == (1, "suspended") else [f"said {said}, stands {stands}"])

    life.wrong = wrong


@pytest.mark.parametrize("script", [passed, due, braked])
def test_no_death_shows(tmp_path: Path, script: Any) -> None:
    """Wherever the process dies: one poll, one end, one result that is in force, every ballot counted."""
    assert all_deaths(tmp_path, script, part_size=WHOLE) == {}


def test_a_vote_crosses_its_boundaries(tmp_path: Path) -> None:
    """Counting and closing are there, so that `test_no_death_shows` means something."""
    _, decided, _ = live(tmp_path / "passed.db", passed, None, part_size=WHOLE)
    _, stopped, _ = live(tmp_path / "braked.db", braked, None, part_size=WHOLE)
    assert {"after counted", "after close_vote"} <= set(decided)
    assert "after handle_brake" in stopped


class ClosesLast(Votes):
    """Wrong on purpose: the result is sent before it is stored that the vote has ended."""

    async def _close(self, vote: Any, closing: Closing, actions: Sequence[Keyed], seen: int) -> None:
        now = self._clock.now()
        for index, keyed in enumerate(actions):
            key = f"{vote.id}:{index}:{now}"
            target = vote.poll if keyed.action.kind == "close_poll" else None
            action = StoredAction(key, vote.place, keyed.action, now, self._platform.device, target=target)
            await self._platform.perform(action)
        await super()._close(vote, closing, (), seen)


class Careless(Router):
    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        self.votes.__class__ = ClosesLast


def test_the_suite_can_fail(tmp_path: Path) -> None:
    """Mutation check: with the result sent before it is stored, a death shows."""
    assert all_deaths(tmp_path, passed, router=Careless, part_size=WHOLE) != {}
