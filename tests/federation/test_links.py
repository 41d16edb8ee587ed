"""Two communities on two servers: linked from chat, allowed on both sides, asked, answered and refused."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest

from bridge.homeserver_pair import pair_of_homeservers
from policies.grant import GRANT_TYPE
from tests.hearth import Hearth
from tests.human import Human

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.homeserver import Homeserver

    Servers = tuple[Homeserver, Homeserver]

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEADLINE = 90.0
"""Seconds: a long poll that a server drops while it starts takes its whole time."""
POOL = "# Swimming pool\n\n## Opening hours\n\nThe pool opens on Tuesday at nine.\n"


class Side:
    """One community: its bot, a person who moderates its one room, and that room."""

    def __init__(self, hearth: Hearth, human: Human, room: str) -> None:
        self.hearth, self.human, self.room = hearth, human, room

    @property
    def bot(self) -> str:
        return self.hearth.user

    async def says(self, words: str, **more: Any) -> str:
        return await self.human.say(self.room, words, **more)

    async def hears(self, *parts: str, reply_to: str | None = None) -> Any:
        """The first thing that our bot says here with all these words."""
        return await self.human.until(
            self.room,
            lambda one: (
                one.sender == self.bot
                and all(part.casefold() in one.text.casefold() for part in parts)
                and (reply_to is None or one.reply_to == reply_to)
            ),
            deadline=DEADLINE,
        )

    async def asks(self, words: str, *parts: str) -> Any:
        """What is said to a command."""
        asked = await self.says(words)
        return await self.hears(*parts, reply_to=asked)


async def side(
    stack: AsyncExitStack, server: Homeserver, folder: Path, name: str, who: str, settings: str = ""
) -> Side:
    mark = secrets.token_hex(3)
    bot = await server.register(f"{name}{mark}", "pw")
    human = await stack.enter_async_context(
        Human(server.url, await server.register(f"{who}{mark}", "pw"), "pw")
    )
    room = await human.create_room(name.capitalize(), invite=[bot])
    folder.mkdir()
    hearth = Hearth(
        folder, server.url, bot, settings=f'[links]\nhome_room = "{room}"\nwait = "2m"\n{settings}'
    )
    hearth.config.write_text(f'community = "{name}"\n' + hearth.config.read_text())
    await stack.enter_async_context(hearth)
    await human.until_joined(room, bot)
    levels = (await human.client.room_get_state_event(room, "m.room.power_levels")).content
    levels["users"] = levels.get("users", {}) | {bot: 100}
    await human.put_state(room, "m.room.power_levels", levels)
    return Side(hearth, human, room)


@asynccontextmanager
async def communities(servers: Servers, folder: Path) -> AsyncIterator[tuple[Side, Side]]:
    """A family on one server and a city on the other, who know nothing of each other yet."""
    async with AsyncExitStack() as stack:
        ours, theirs = servers
        notes = folder / "notes"
        notes.mkdir()
        (notes / "pool.md").write_text(POOL)
        family = await side(stack, ours, folder / "family", "family", "ada")
        city = await side(
            stack,
            theirs,
            folder / "city",
            "city",
            "mayor",
            f'[notes]\nlocal = "{notes}"\n[policy]\nnotes = ["*"]\n',
        )
        yield family, city


async def linked(family: Side, city: Side) -> None:
    """Both sides want it, and have seen each other's key."""
    await family.asks(f"!link {city.bot}")
    await city.asks(f"!link {family.bot}")
    await family.hears("key of", city.bot[1:])
    await city.hears("key of", family.bot[1:])


async def allowed(family: Side, city: Side) -> None:
    """Linked, and both sides decide, by their admins: the family may ask, the city answers from its notes."""
    await linked(family, city)
    await city.asks("!policy set notes local")
    await city.asks(f"!policy allow answer {family.bot} classes=local-knowledge notes=local until=30 days")
    await family.asks(f"!policy allow ask {city.bot} classes=local-knowledge until=30 days")
    await family.hears("has decided about us", "we may ask them")


async def sent(family: Side, question: str) -> None:
    """Ask the city, see what would leave, and agree."""
    preview = await family.asks(f"!ask city {question}", "It would read", question)
    await family.human.react(family.room, preview.id, "👍")


async def test_a_question_crosses_and_comes_back(servers: Servers, tmp_path: Path) -> None:
    """Answered from the city's notes, said to be the city's, proven; refused where a rule says so."""
    async with communities(servers, tmp_path) as (family, city):
        await allowed(family, city)
        await sent(family, "When does the pool open?")
        await family.hears("I have asked")
        answer = await family.hears("not from our bot", "pool.md")
        proof = await family.says("!proof", reply_to=answer.id)
        await family.hears("asks", "answers", "the signature is right", reply_to=proof)
        # Not allowed: nothing leaves, and the rule is named.
        await family.asks("!ask city class=health Is my rash bad?", "health")


async def test_a_question_waits_for_a_bot_that_is_away(servers: Servers, tmp_path: Path) -> None:
    """The city's bot is off when it is asked, and its server when it answers: one question, one answer."""
    async with communities(servers, tmp_path) as (family, city):
        await allowed(family, city)
        await city.hearth.stop()
        await sent(family, "When does the pool open?")
        await family.hears("I have asked")
        await servers[0].stop()
        await city.hearth.start()
        await servers[0].start()
        await family.hears("not from our bot", "pool.md")
        answers = [one for one in family.human.seen(family.room) if "not from our bot" in one.text]
        assert len(answers) == 1


async def test_what_is_stopped_meanwhile_is_not_shown(servers: Servers, tmp_path: Path) -> None:
    """The permission is taken back between the question and its answer: people are told, not shown."""
    async with communities(servers, tmp_path) as (family, city):
        await allowed(family, city)
        await city.hearth.stop()
        await sent(family, "When does the pool open?")
        await family.hears("I have asked")
        await family.human.put_state(family.room, GRANT_TYPE, {}, city.bot[1:])
        await family.hears("changed what is agreed")
        await city.hearth.start()
        told = await family.hears("answered, and I do not show it")
        assert "Tuesday" not in told.text


async def test_a_link_room_that_the_other_bot_has_left(servers: Servers, tmp_path: Path) -> None:
    """Nothing can be asked then, and it is said; linked again, it can."""
    async with communities(servers, tmp_path) as (family, city):
        await allowed(family, city)
        async with Human(servers[1].url, city.bot, "pw") as by_hand:  # as its operator might
            rooms = (await by_hand.client.joined_rooms()).rooms
            (link,) = set(rooms) - {city.room}
            await by_hand.leave(link)
        for _ in range(20):  # the news of it takes the way over both servers
            told = await family.asks("!ask city When does the pool open?")
            if "no link" in told.text:
                break
        assert "no link" in told.text


async def test_a_link_begins_while_the_other_server_is_away(servers: Servers, tmp_path: Path) -> None:
    """The first that the two servers ever hear of each other waits, and nobody has to say it twice."""
    async with communities(servers, tmp_path) as (family, city):
        await servers[1].stop()
        await family.asks(f"!link {city.bot}")
        await until_logged(family, "delivery_retry")
        await servers[1].start()
        await city.asks(f"!link {family.bot}")
        await family.hears("key of", city.bot[1:])
        await city.hears("key of", family.bot[1:])


async def until_logged(side: Side, what: str) -> None:
    """Wait until that household's log has `what` in it."""
    async with asyncio.timeout(60):
        while what not in side.hearth.log.read_text():  # noqa: ASYNC110 - a file of another process
            await asyncio.sleep(0.2)


async def test_a_server_that_was_away_for_long_is_back_at_once(tmp_path: Path) -> None:
    """Ours waits ten minutes before it tries again; the greeting of their bot makes it try now."""
    impatient = {"client_timeout": "5s", "max_long_retry_delay": "1s", "max_long_retries": 1}
    async with pair_of_homeservers(tmp_path / "pair", retries=impatient) as servers:
        (tmp_path / "sides").mkdir()
        async with communities(servers, tmp_path / "sides") as (family, city):
            await allowed(family, city)
            await servers[1].stop()
            await sent(family, "When does the pool open?")
            await family.hears("I have asked")
            await backs_off(servers[0])
            await servers[1].start()
            await family.hears("not from our bot", "pool.md")


async def backs_off(server: Homeserver) -> None:
    """Wait until `server` has given up on another one for ten minutes."""
    async with asyncio.timeout(60):
        while True:
            with closing(
                sqlite3.connect(f"file:{server.directory / 'homeserver.db'}?mode=ro", uri=True)
            ) as db:
                waits = db.execute("SELECT max(retry_interval) FROM destinations").fetchone()[0]
            if waits is not None and waits >= 300_000:
                return
            await asyncio.sleep(0.2)


async def test_a_new_key_ends_it_until_people_decide(servers: Servers, tmp_path: Path) -> None:
    """The city lost its key: people are told, nothing is asked, and a new decision lets it go on."""
    async with communities(servers, tmp_path) as (family, city):
        await allowed(family, city)
        await city.hearth.stop()
        (city.hearth.folder / "data" / "credentials" / "link-key").unlink()
        await city.hearth.start()
        await family.hears("ANOTHER KEY")
        await family.asks("!ask city When does the pool open?", "not the one that was agreed on")
        await family.asks(f"!policy allow ask {city.bot} classes=local-knowledge until=20 days")
        for _ in range(20):  # our card makes the city tell its grant again, which takes a moment
            told = await family.asks("!ask city When does the pool open?")
            if "It would read" in told.text:
                break
        await family.human.react(family.room, told.id, "👍")
        await family.hears("not from our bot", "pool.md")
