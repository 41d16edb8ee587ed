"""`hearth demo --communities`: a family's bot asks a city's bot, because both communities decided so.

Two real homeservers that federate with each other over TLS on loopback, and on each an ordinary `hearth run`
with settings, a data folder, a key and a model of its own: they share no process, no database, no key.
Promises that what is shown is what people's own clients received, and that all of it is gone afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sqlite3
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from bridge.console import printable
from bridge.credentials import MATRIX_PASSWORD, CredentialFiles
from bridge.demo import ANSWER_DEADLINE, START_DEADLINE, command, hearth_run, presented, watched
from bridge.homeserver_pair import pair_of_homeservers
from bridge.neighbour import Neighbour, NeighbourError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bridge.homeserver import Homeserver
    from bridge.neighbour import Heard

POOL: Final = "# Swimming pool\n\n## Opening hours\nThe pool opens on Tuesday at nine.\n"
"""What the city's bot knows and the family's does not."""
QUESTION: Final = "When does the pool open?"
PRIVATE: Final = "My son is ill, where is a doctor?"
COLOURS: Final = {"Ada": "magenta", "Ben": "cyan", "Mia": "green"}
SHOWN: Final = 60
"""Characters of a ciphertext that are shown."""


@dataclass(slots=True)
class Screen:
    """What is said, as lines: where, lock, name, words."""

    out: Console
    bots: dict[str, str] = field(default_factory=dict)
    """By address, how each bot is shown."""
    heard: list[Heard] = field(default_factory=list)

    def rule(self, text: str) -> None:
        """Begin a part."""
        self.out.print(Rule(text, style="yellow"))

    def step(self, text: str) -> None:
        """Say what happens behind the scene."""
        self.out.print(Text(text, style="dim"), soft_wrap=True)

    def show(self, heard: Heard) -> None:
        """Print one message."""
        self.heard.append(heard)
        name = self.bots.get(heard.sender, heard.sender[1:].partition(":")[0].capitalize())
        line = Table.grid(padding=(0, 1))
        line.add_column(no_wrap=True)
        line.add_column(width=11, no_wrap=True)
        line.add_column(ratio=1)
        utf = self.out.encoding.startswith("utf")
        lock = ("🔒" if utf else "[e2e]") if heard.encrypted else "  "
        style = f"bold {COLOURS.get(name, 'yellow')}"
        line.add_row(Text(lock), Text(name, style=style), Text(printable(heard.text)))
        self.out.print(line)


@dataclass(slots=True)
class Community:
    """One side: its server, its bot, its room, and whoever speaks in it."""

    name: str
    server: Homeserver
    bot: str
    config: Path
    room: str
    admin: Neighbour
    members: tuple[Neighbour, ...]
    screen: Screen

    async def says(self, text: str, *, by: Neighbour | None = None, **where: str) -> Heard:
        """Somebody says something; what the bot replies to it."""
        said = await (by or self.admin).say(self.room, text, **where)
        return await self.hears(f"the reply to “{text}”", lambda heard: heard.reply_to == said)

    async def hears(self, what: str, wanted: Callable[[Heard], bool]) -> Heard:
        """The first words of the bot here, from now or before, that are `wanted`."""

        def found() -> list[Heard]:
            return [
                one
                for one in self.screen.heard
                if (one.room, one.sender) == (self.room, self.bot) and wanted(one)
            ]

        await self.admin.until(lambda: bool(found()), what, deadline=ANSWER_DEADLINE)
        return found()[-1]


async def demo(*, keep: bool, verbose: bool = False, out: Console | None = None) -> int:
    """Run the demonstration; 0, or 1 if it failed, and then the logs stay."""
    out = out or Console(highlight=False)
    screen = Screen(out)
    return await presented(lambda folder: _show(folder, screen, keep=keep, verbose=verbose), out)


async def _show(folder: Path, screen: Screen, *, keep: bool, verbose: bool) -> None:
    began = time.monotonic()
    screen.rule("Two communities, two homeservers, two bots: Ada's family and her city")
    screen.step(f"starting two homeservers that federate over TLS on loopback in {folder} ...")
    async with contextlib.AsyncExitStack() as stack:
        ours, theirs = await stack.enter_async_context(pair_of_homeservers(folder / "servers"))
        family = await _community(stack, folder, ours, "family", ("ada", "ben"), screen, verbose=verbose)
        city = await _community(stack, folder, theirs, "city", ("mia",), screen, verbose=verbose)
        await _link(family, city)
        await _decide(family, city)
        await _ask(family, city)
        await _prove(family, city)
        screen.step(
            f"It took {time.monotonic() - began:.0f} s, start of both servers and both bots included."
        )
        if keep:
            _invite_to_stay(screen.out, family, city)
            await asyncio.Event().wait()  # until a signal cancels this


async def _community(
    stack: contextlib.AsyncExitStack,
    folder: Path,
    server: Homeserver,
    name: str,
    people: tuple[str, ...],
    screen: Screen,
    *,
    verbose: bool,
) -> Community:
    """A community with its people, its room and its running bot."""
    password = secrets.token_urlsafe(24)
    bot = await server.register("hearth", password)
    screen.bots[bot] = f"{name.capitalize()} bot"
    neighbours: list[Neighbour] = []
    for person in people:
        secret = secrets.token_urlsafe(9)
        user = await server.register(person, secret)
        # One client of the room shows it; the others need not repeat it.
        heard = _silent if neighbours else screen.show
        neighbours.append(await stack.enter_async_context(Neighbour(server.url, user, secret, heard=heard)))
    admin, *others = neighbours
    room = await admin.open_room(f"Our {name}", [*(one.user for one in others), bot])
    await admin.give_power(room, bot, 100)
    for one in others:
        await one.join(room)
    config = _settings(folder / name, server, name, bot, password, room)
    process = await stack.enter_async_context(hearth_run(config, folder / f"{name}.log", verbose=verbose))
    await stack.enter_async_context(watched(process, folder / f"{name}.log"))
    await admin.until_joined(room, bot, deadline=START_DEADLINE)
    community = Community(name, server, bot, config, room, admin, tuple(neighbours), screen)
    await community.hears("the bot's greeting", lambda _heard: True)
    return community


def _says(words: str, heard: Heard) -> bool:
    return words in heard.text


def _silent(heard: Heard) -> None:
    del heard


def _settings(folder: Path, server: Homeserver, name: str, bot: str, password: str, room: str) -> Path:
    """The settings of one side, as its operator would write them."""
    data = folder / "hearth-data"
    CredentialFiles(read=(), write=data / "credentials").put(MATRIX_PASSWORD, SecretStr(password))
    notes = ""
    if name == "city":
        (folder / "notes").mkdir()
        (folder / "notes" / "pool.md").write_text(POOL, encoding="utf-8")
        notes = f"[notes]\ncity = {json.dumps(str(folder / 'notes'))}\n"
    config = folder / "hearth.toml"
    # JSON strings are TOML strings.
    config.write_text(
        f"""\
community = {json.dumps(name.capitalize())}
data_dir = {json.dumps(str(data))}

[matrix]
homeserver = {json.dumps(server.url)}
user = {json.dumps(bot)}
allow = {json.dumps([bot.partition(":")[2]])}

[links]
home_room = {json.dumps(room)}  # by whose rules the bots of other communities are answered

{notes}
[delivery]
streaming = false

[speech]
model = "off"
""",
        encoding="utf-8",
    )
    return config


# -- the story -------------------------------------------------------------------------------------


async def _link(family: Community, city: Community) -> None:
    family.screen.rule("Both sides ask for a link; each is shown the other's key, as words")
    await family.says(f"!link {city.bot}")
    await city.says(f"!link {family.bot}")
    for here, there in ((family, city), (city, family)):
        await here.hears("the other's key", partial(_says, f"{there.bot[1:]}`) is"))


async def _decide(family: Community, city: Community) -> None:
    screen = family.screen
    screen.rule("The city decides by its admin: the family's bot is answered, from these notes")
    await city.says(f"!policy allow answer {family.bot} classes=local-knowledge notes=city until=3 months")
    screen.rule("The family decides by vote: its bot may ask the city's, about local knowledge only")
    offered = await family.says("!policy preset family")
    await family.says("yes", reply_to=offered.id)
    await family.says(f"!propose ask {city.bot} classes=local-knowledge until=3 months")
    ballot = await family.hears("the ballot", lambda heard: heard.text.startswith("🗳"))
    for person in family.members:
        await person.say(family.room, "!vote yes", thread=ballot.id)
    await family.hears("the result", lambda heard: heard.reply_to == ballot.id)
    await family.hears("what the city allows", lambda heard: "has decided about us" in heard.text)


async def _ask(family: Community, city: Community) -> None:
    screen = family.screen
    screen.rule("A question goes across: seen before it leaves, answered from the city's notes")
    asked = await family.admin.say(family.room, f"!ask city {QUESTION}")
    preview = await family.hears("the preview", lambda heard: heard.reply_to == asked)
    screen.step("Ada puts 👍 on it.")
    await family.admin.react(preview, "👍")
    await family.hears("the city's answer", lambda heard: "not from our bot" in heard.text)
    await family.says("!why", reply_to=asked)
    screen.rule("Another one does not: it is about health, and nobody has allowed that")
    refused = await family.admin.say(family.room, f"!ask city {PRIVATE}")
    await family.hears("the refusal", lambda heard: heard.reply_to == refused)
    await family.says("!why", reply_to=refused)
    del city


async def _prove(family: Community, city: Community) -> None:
    screen = family.screen
    screen.rule("The ask, as the city's homeserver stored it")
    event = await asyncio.to_thread(_last_ask, family.config.parent / "hearth-data" / "hearth.db")
    stored = await asyncio.to_thread(_stored, city.server.directory / "homeserver.db", event)
    screen.out.print(json.dumps(_shortened(stored), indent=2), markup=False, soft_wrap=True)
    if stored.get("type") != "m.room.encrypted" or QUESTION in json.dumps(stored):
        raise NeighbourError("the other server could read what was asked")
    screen.step("No server can read it. What passed is in each side's own chained record:")
    for side in (family, city):
        told = await _hearth(side.config, "links", "verify")
        screen.out.print(Text(f"{side.name}: {told}"), soft_wrap=True)


def _last_ask(journal: Path) -> str:
    with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        row = db.execute(
            "SELECT a.remote_id FROM actions a JOIN asks q ON q.turn = a.turn WHERE q.ours "
            "AND a.kind = 'send_envelope' AND a.remote_id IS NOT NULL ORDER BY a.seq DESC"
        ).fetchone()
    if row is None:
        raise NeighbourError("no question has left")
    return str(row[0])


def _stored(database: Path, event: str) -> dict[str, object]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        row = db.execute("SELECT json FROM event_json WHERE event_id = ?", [event]).fetchone()
    if row is None:
        raise NeighbourError("the city's server does not have the question")
    found: dict[str, object] = json.loads(row[0])
    return found


def _shortened(event: dict[str, object]) -> dict[str, object]:
    """What tells something of an event, with the beginning of its ciphertext."""
    content = event.get("content")
    content = dict(content) if isinstance(content, dict) else {}
    cipher = str(content.get("ciphertext", ""))
    content["ciphertext"] = f"{cipher[:SHOWN]} … ({len(cipher):,} characters)"
    return {
        name: content if name == "content" else event.get(name)
        for name in ("type", "sender", "room_id", "content")
    }


async def _hearth(config: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "--config", str(config), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    if process.returncode:
        raise NeighbourError(f"`hearth {' '.join(arguments)}` failed: {told.decode(errors='replace')}")
    return told.decode(errors="replace").strip()


def _invite_to_stay(out: Console, family: Community, city: Community) -> None:
    out.print(Rule("It goes on running. Ctrl-C ends all", style="yellow"))
    for side in (family, city):
        for what in ("links list", "links audit", "turns list"):
            line = f"{command()} --config {side.config} {what}"
            out.print(Text.assemble("  ", (f"{side.name:<8}", "bold"), line), soft_wrap=True)
