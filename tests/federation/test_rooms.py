"""Rooms that two servers share: people of the other one are answered, encrypted, and after it was away."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import nio
import pytest

from bridge.matrix.identity import is_signed_by
from tests.hearth import Hearth, answer_to
from tests.human import Human

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.homeserver import Homeserver

    Servers = tuple[Homeserver, Homeserver]


pytestmark = pytest.mark.asyncio(loop_scope="session")
"""The loop of the servers, which are stopped and started here."""


def name_of(who: Human) -> str:
    return who.user_id[1:].partition(":")[0].capitalize()


class Street:
    """Hearth and Ada on one server, Carol on the other; they share an encrypted room of Ada's."""

    def __init__(self, ada: Human, carol: Human, hearth: Hearth, room: str) -> None:
        self.ada, self.carol, self.hearth, self.room = ada, carol, hearth, room

    async def asks(self, who: Human, words: str) -> str:
        """What is answered, as `who` sees it."""
        return await self.answered(who, await who.say(self.room, words, mentions=[self.hearth.user]))

    async def answered(self, who: Human, asked: str) -> str:
        bot = self.hearth.user
        said = await who.until(self.room, lambda one: one.sender == bot and one.reply_to == asked)
        return said.text


async def street(stack: AsyncExitStack, servers: Servers, folder: Path) -> Street:
    ours, theirs = servers
    mark = secrets.token_hex(3)
    bot = await ours.register(f"hearth{mark}", "pw")
    people = await ours.register(f"ada{mark}", "pw"), await theirs.register(f"carol{mark}", "pw")
    ada = await stack.enter_async_context(Human(ours.url, people[0], "pw"))
    carol = await stack.enter_async_context(Human(theirs.url, people[1], "pw"))
    hearth = await stack.enter_async_context(Hearth(folder, ours.url, bot))
    room = await ada.create_room("Street", invite=[bot, carol.user_id])
    await carol.join(room)
    await ada.until_joined(room, bot)
    await ada.until_joined(room, carol.user_id)
    return Street(ada, carol, hearth, room)


async def test_somebody_of_another_server_is_answered(servers: Servers, tmp_path: Path) -> None:
    """In an encrypted room, in both directions, and a policy that names her server lets in nobody else."""
    async with AsyncExitStack() as stack:
        here = await street(stack, servers, tmp_path)
        assert await here.asks(here.carol, "hello") == answer_to(name_of(here.carol), "hello")
        assert await here.asks(here.ada, "hello") == answer_to(name_of(here.ada), "hello")
        server = here.carol.user_id.partition(":")[2]
        policy = {"v": 1, "askers": [server]}
        await here.ada.put_state(here.room, "community.hearth.policy", policy)
        await here.ada.until(here.room, lambda one: "changed what I may do" in one.text)
        assert "not among those whom I may answer" in await here.asks(here.ada, "and me?")
        assert await here.asks(here.carol, "and me?") == answer_to(name_of(here.carol), "and me?")


async def test_nothing_is_lost_while_the_other_server_is_away(servers: Servers, tmp_path: Path) -> None:
    """What Ada is answered meanwhile reaches Carol later, and Carol is answered again."""
    async with AsyncExitStack() as stack:
        here = await street(stack, servers, tmp_path)
        await here.asks(here.carol, "hello")
        await servers[1].stop()
        answer = answer_to(name_of(here.ada), "is anybody there?")
        assert await here.asks(here.ada, "is anybody there?") == answer
        await servers[1].start()
        await here.carol.until(here.room, lambda one: one.text == answer)
        assert await here.asks(here.carol, "I am back") == answer_to(name_of(here.carol), "I am back")


async def test_our_server_is_restarted_in_the_middle(servers: Servers, tmp_path: Path) -> None:
    """A question that came while we could not hear it is answered, once."""
    async with AsyncExitStack() as stack:
        here = await street(stack, servers, tmp_path)
        await here.asks(here.carol, "hello")
        await servers[0].stop()
        words = "when you are back"
        asked = await here.carol.say(here.room, words, mentions=[here.hearth.user])
        await servers[0].start()
        assert await here.answered(here.carol, asked) == answer_to(name_of(here.carol), words)
        again = await here.asks(here.carol, "and now?")
        assert again == answer_to(name_of(here.carol), "and now?")
        answers = [one for one in here.carol.seen(here.room) if one.reply_to == asked]
        assert len(answers) == 1


async def test_the_bots_device_is_seen_as_signed(servers: Servers, tmp_path: Path) -> None:
    """By somebody of the other server, whose client may leave out devices that nobody has signed."""
    async with AsyncExitStack() as stack:
        here = await street(stack, servers, tmp_path)
        await here.asks(here.carol, "hello")
        bot = here.hearth.user
        keys = await _keys(here.carol, bot)
        (self_signing,) = keys["self_signing_keys"][bot]["keys"].values()
        (master,) = keys["master_keys"][bot]["keys"].values()
        (device,) = keys["device_keys"][bot].values()
        assert is_signed_by(keys["self_signing_keys"][bot], bot, master)
        assert is_signed_by(device, bot, self_signing)


async def _keys(person: Human, user: str) -> dict[str, Any]:
    answer = await person.client.send(
        "POST",
        "/_matrix/client/v3/keys/query",
        json.dumps({"device_keys": {user: []}}),
        {"Authorization": f"Bearer {person.client.access_token}"},
    )
    found: dict[str, Any] = await answer.json()
    return found


async def test_the_pair_speaks_to_nobody_else(servers: Servers, tmp_path: Path) -> None:
    """A third server, asked for by a person, hears nothing; the other of the pair answers at once."""
    heard: list[str] = []

    async def hear(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(str(writer.get_extra_info("peername")))
        writer.close()

    async with AsyncExitStack() as stack:
        here = await street(stack, servers, tmp_path)
        stranger = await stack.enter_async_context(await asyncio.start_server(hear, "localhost", 0))
        third = f"localhost:{stranger.sockets[0].getsockname()[1]}"
        profile = here.ada.client.get_profile
        assert isinstance(await profile(f"@eve:{third}"), nio.ProfileGetError)
        assert heard == []
        assert isinstance(await profile(here.carol.user_id), nio.ProfileGetResponse)
