"""Votes on a real Synapse: five people, polls and words, a changed mind, somebody who leaves, an admin."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from policies.document import STATE_TYPE
from policies.grant import GRANT_TYPE
from tests.hearth import Hearth
from tests.human import Human

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.homeserver import Homeserver
    from tests.human import Poll

CITY = "bot:city.example"
KEY = "A" * 43


class Club:
    """Ada, who made the encrypted room, and four more; Hearth may write what they decide."""

    def __init__(self, people: dict[str, Human], hearth: Hearth, room: str) -> None:
        self.people = people
        self.hearth = hearth
        self.room = room

    def __getitem__(self, name: str) -> Human:
        return self.people[name]

    async def propose(self, who: str, words: str) -> Poll:
        """Propose; the poll, once everybody can answer it."""
        known = {poll.id for poll in self["ada"].polls(self.room)}
        await self[who].say(self.room, words, mentions=[])
        poll = await self["ada"].until_poll(self.room, lambda one: one.id not in known)
        for human in self.people.values():
            await human.catch_up()
        return poll

    async def said(self, words: str) -> str:
        bot = self.hearth.user
        found = await self["ada"].until(
            self.room, lambda one: one.sender == bot and words in one.text, deadline=60
        )
        return found.text

    async def state(self, kind: str, key: str = "") -> dict[str, Any]:
        """The state as the server has it."""
        answer = await self["ada"].client.room_get_state_event(self.room, kind, key)
        content: dict[str, Any] = getattr(answer, "content", {})
        return content


@pytest.fixture
async def club(synapse: Homeserver, tmp_path: Path) -> AsyncIterator[Club]:
    mark = secrets.token_hex(3)
    names = ("ada", "ben", "cleo", "dan", "eve")
    bot = await synapse.register(f"hearth{mark}", "pw")
    users = [await synapse.register(f"{name}{mark}", "pw") for name in names]
    async with AsyncExitStack() as stack:
        people = {
            name: await stack.enter_async_context(Human(synapse.url, user, "pw"))
            for name, user in zip(names, users, strict=True)
        }
        hearth = await stack.enter_async_context(Hearth(tmp_path, synapse.url, bot))
        ada = people["ada"]
        room = await ada.create_room("Club", invite=[bot, *users[1:]])
        for name in names[1:]:
            await people[name].join(room)
        await ada.until_joined(room, bot)
        levels = (await ada.client.room_get_state_event(room, "m.room.power_levels")).content
        levels = levels | {"users": levels.get("users", {}) | {bot: 50}}
        await ada.put_state(room, "m.room.power_levels", levels)
        await ada.put_state(room, STATE_TYPE, {"v": 1, "mode": "consent", "voting_hours": 24})
        yield Club(people, hearth, room)


async def test_five_people_decide(club: Club) -> None:
    """A poll, words, a changed mind, one who votes and leaves, one who abstains: counted, set, reproduced."""
    await club.said("Who decides this: all of you")
    poll = await club.propose("ben", f"!propose ask @{CITY} classes=local-knowledge until=2 months key={KEY}")
    assert f"Let me ask `{CITY}`" in poll.question
    assert poll.encrypted
    await club["ada"].vote(club.room, poll.id, "yes")
    await club["ben"].say(club.room, "!vote yes", thread=poll.id, mentions=[])
    await club["cleo"].vote(club.room, poll.id, "no")
    await club["dan"].vote(club.room, poll.id, "yes")
    await club["dan"].leave(club.room)
    await club["cleo"].vote(club.room, poll.id, "yes")
    await club["eve"].vote(club.room, poll.id, "abstain")
    result = await club.said("Passed: enough said yes.")
    assert "4 yes, 0 no, 0 with an objection, 1 abstained, 0 said nothing." in result
    ended = await club["ada"].until_poll(club.room, lambda one: one.result is not None)
    assert ended.id == poll.id
    for _ in range(60):
        if await club.state(GRANT_TYPE, CITY):
            break
        await asyncio.sleep(0.5)
    grant = await club.state(GRANT_TYPE, CITY)
    assert (grant["status"], grant["decided_by"], grant["app_ed25519"]) == ("trial", poll.id, KEY)
    document = await club.state(STATE_TYPE)
    assert (document["ask_peers"], document["classes_out"]) == ([CITY], ["local-knowledge"])
    assert document["decided_by"] == poll.id
    await club["eve"].say(club.room, "!recount", mentions=[])
    assert "That is what was counted at the end." in await club.said("The ballots have the hash")
    await club["eve"].say(club.room, "!peers", mentions=[])
    assert "we may ask them, about local knowledge, on trial until" in await club.said(f"- `{CITY}`")


async def test_an_admin_with_developer_tools_widens_nothing(club: Club) -> None:
    """Only what narrows holds, the room is told; a restart changes nothing of it; a brake needs no vote."""
    await club.said("Who decides this: all of you")
    await club["ada"].put_state(
        club.room,
        STATE_TYPE,
        {"v": 1, "mode": "admin", "ask_peers": [CITY], "classes_out": ["general"], "voice": "off"},
    )
    told = await club.said("has no effect: this room decides that by vote")
    assert "What I listen to: nothing" in told
    assert "`ask_peers`" in told
    await club.hearth.stop()
    await club.hearth.start()
    await club["ben"].say(club.room, f'!policy why "When does it open?" peer=@{CITY}', mentions=[])
    refused = await club.said("That would be refused.")
    assert "`room.ask_peers`" in refused
    await club["ben"].say(club.room, "!brake @bot:nobody.example", mentions=[])
    await club.said("there is nothing to stop")
    assert json.dumps(await club.state(STATE_TYPE)).count("bot:city.example") == 1
