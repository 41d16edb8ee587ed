"""The Hearth side of a test: one "process" that can be started, stopped, and killed at any boundary.

A boundary is just before or just after something that survives: a commit of the journal, a send. At the
chosen one `Death` is raised, and from then on every further one raises it too, as nothing of a dead
process writes or sends. What is left is the journal's file and the server.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from bots.base import Draft, Reply
from bots.commands import strip_mention
from bots.envoy import Envoy
from bots.steward import Steward
from bridge.delivery import Delivery
from bridge.journal import Journal
from bridge.options import Options
from bridge.router import Router
from bridge.tools import Ears, House
from models.client import Chunk
from models.hearing import Heard
from models.transcript import Segment, Transcript
from policies.room import LOOSEST, RoomPolicy, Voice
from tests.fakes.clock import VirtualClock
from tests.fakes.platform import FakePlatform

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from bots.base import Bot, Tools, Waiting
    from bots.conversation import Turn
    from bridge.link.community import Community
    from bridge.notes import Notes
    from models.client import ChatClient
    from models.hearing import SpeechClient
    from tests.fakes.server import FakeServer

WRITES = (
    "admit",
    "recover",
    "claim",
    "draft",
    "settle",
    "failed",
    "release",
    "pass_deadlines",
    "stop_turns",
    "acknowledge",
    "retry_action",
    "park_action",
    "count_possible_duplicate",
    "expire",
    "counted",
    "close_vote",
    "handle_brake",
    "remind",
    "take",
    "tell_peer",
    "cancel_told",
    "unsent",
    "end_asks",
)
ASK_WAIT_MS = 600_000
ANYONE = LOOSEST.model_copy(update={"voice": Voice.ASKED})


class Death(BaseException):
    """The process is gone. No `except Exception` may hold it up."""


@dataclass
class Boundaries:
    """Counts the boundaries that are crossed, and dies at the one numbered `die_at` (from 1)."""

    die_at: int | None = None
    crossed: list[str] = field(default_factory=list)
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    def cross(self, name: str) -> None:
        if self.dead.is_set():
            raise Death
        self.crossed.append(name)
        if len(self.crossed) == self.die_at:
            self.dead.set()
            raise Death


class MortalJournal(Journal):
    """A journal whose writes are boundaries. Set `cross` after opening."""

    cross: Callable[[str], None]


def _mortal(name: str) -> Callable[..., Awaitable[Any]]:
    write = getattr(Journal, name)

    async def wrapped(self: MortalJournal, *values: Any, **named: Any) -> Any:
        self.cross(f"before {name}")
        result = await write(self, *values, **named)
        self.cross(f"after {name}")
        return result

    return wrapped


for _name in WRITES:
    setattr(MortalJournal, _name, _mortal(_name))


class FakeModel:
    """A chat model that says `words`, one every `pace` seconds. Duck-typed `models.client.ChatClient`."""

    def __init__(self, words: Sequence[str] = ("Yes.",), pace: float = 0.0) -> None:
        self.words = words
        self.pace = pace
        self.runs = 0
        self.forgotten: list[str] = []
        self.read: list[str] = []
        """What the last run was given."""

    async def chat(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, cache_key: str | None = None
    ) -> AsyncGenerator[Chunk]:
        self.runs += 1
        self.read = [message["content"] for message in messages]
        for word in self.words:
            await asyncio.sleep(self.pace)
            yield Chunk(word)
        yield Chunk(finish="stop")

    async def count_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        return sum(len(message["content"].split()) for message in messages)

    async def context_size(self) -> int:
        return 4096

    async def forget(self, cache_key: str) -> None:
        self.forgotten.append(cache_key)

    async def close(self) -> None:
        pass


class FakeSpeech:
    """A speech model that reads a file's bytes as its words. Duck-typed `models.hearing.SpeechClient`."""

    def __init__(self, pace: float = 0.0) -> None:
        self.pace = pace

    async def transcribe(self, sound: BinaryIO, **_options: object) -> AsyncGenerator[Heard]:
        words = (await asyncio.to_thread(sound.read)).decode()
        yield Heard(done=1.0, total=2.0)
        await asyncio.sleep(self.pace)
        yield Heard(transcript=Transcript((Segment(0.0, 2.0, words),), "en", 2.0))


def answer_to(text: str) -> str:
    """What `Parrot` answers: long enough to be cut where parts are small."""
    return f"To “{strip_mention(text, '@hearth:home', 'Hearth')}” I say: yes, and gladly."


class Parrot:
    """A bot that answers what `said` makes of the question; in `steps` drafts, `pace` seconds apart."""

    name = "chat"

    def __init__(self, steps: int = 0, pace: float = 0.0, said: Callable[[str], str] = answer_to) -> None:
        self.steps = steps
        self.pace = pace
        self.said = said
        self.runs: list[str] = []

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        self.runs.append(turn.cause)
        whole = self.said(turn.message.text)
        for step in range(1, self.steps + 1):
            await asyncio.sleep(self.pace)
            yield Draft(whole[: max(1, len(whole) * step // (self.steps + 1))])
        await asyncio.sleep(self.pace)
        yield Reply(whole)


class Process:
    """Router and delivery of one account on one journal file."""

    def __init__(
        self,
        server: FakeServer,
        path: Path,
        *,
        bot: Bot | None = None,
        scribe: Bot | None = None,
        options: Options | None = None,
        policy: RoomPolicy = ANYONE,
        die_at: int | None = None,
        router: type[Router] = Router,
        journal: type[MortalJournal] = MortalJournal,
        device: str = "DEVICE",
        model: FakeModel | None = None,
        speech: FakeSpeech | None = None,
        notes: Notes | None = None,
        community: Community | None = None,
        **platform: Any,
    ) -> None:
        self.server = server
        self.path = path
        self.boundaries = Boundaries(die_at)
        self.clock = VirtualClock()
        self.platform = FakePlatform(server, device=device, cross=self.boundaries.cross, **platform)
        self.bot = bot or Parrot()
        self.scribe = scribe
        self.options = options or Options()
        self.policy = policy
        self._router_class = router
        self._journal_class = journal
        self._model = model or FakeModel()
        self._speech = speech or FakeSpeech()
        self._notes = notes
        self._community = community
        self._tasks: list[asyncio.Task[None]] = []
        self._reaper: asyncio.Task[None]
        self.over = False
        self.journal: MortalJournal
        self.router: Router
        self.delivery: Delivery

    @asynccontextmanager
    async def housed(self) -> AsyncIterator[House]:
        """The house alone, for a test that has accounts of its own."""
        self.journal = await self._journal_class.open(self.path)
        self.journal.cross = self.boundaries.cross
        try:
            yield self._house()
        finally:
            await self.journal.close()

    def _house(self) -> House:
        return House(
            journal=self.journal,
            clock=self.clock,
            model=cast("ChatClient", self._model),
            policy=self.policy,
            salt=b"salt",
            version="0",
            model_name="fake",
            model_is_bundled=False,
            retention_days=30,
            ears=Ears(
                client=cast("SpeechClient", self._speech),
                name="fake",
                is_bundled=False,
                max_bytes=1_000_000,
                max_seconds=600,
                language="",
                spool=self.path.parent,
            ),
            notes=self._notes,
            community=self._community,
        )

    async def start(self) -> Process:
        """Start, as `bridge.app` does; returns also when it died on the way."""
        self.journal = await self._journal_class.open(self.path)
        self.journal.cross = self.boundaries.cross
        rng = random.Random(1)
        self.delivery = Delivery(self.journal, self.platform, self.clock, rng)
        house = self._house()
        scribe = self.scribe or self.bot
        bots: dict[str, Bot] = {"chat": self.bot, "scribe": scribe, "steward": Steward("Hearth")}
        bots["envoy"] = Envoy(self.bot, "Hearth", ASK_WAIT_MS)
        self.router = self._router_class(house, self.platform, self.delivery, bots, self.options, rng)
        starting = asyncio.create_task(self._start())
        await asyncio.wait([starting])
        if not self.dead:
            starting.result()
        return self

    async def _start(self) -> None:
        await self.router.recover()
        self.delivery.ring()
        self._tasks = [
            asyncio.create_task(loop)
            for loop in (
                self.router.listen(),
                self.router.work(),
                self.delivery.run(),
                self.router.votes.watch(),
                self.router.sealed.watch(),
            )
        ]
        if self.router.links is not None:
            self._tasks.append(asyncio.create_task(self.router.links.watch()))
        self._reaper = asyncio.create_task(self._reap())

    async def _reap(self) -> None:
        """A dead process does not loop either."""
        await self.boundaries.dead.wait()
        for task in self._tasks:
            task.cancel()

    @property
    def dead(self) -> bool:
        return self.boundaries.dead.is_set()

    async def idle(self, seconds: float = 3600.0) -> bool:
        """Wait until everything that arrived is settled and delivered, or the process is dead."""
        pause = 0.01
        async with asyncio.timeout(seconds):
            while not self.dead:
                broken = [task for task in self._tasks if task.done()]
                for task in broken:
                    task.result()
                cursor = await self.journal.cursor(self.platform.account)
                counts = await self.journal.counts()
                read = int(cursor or 0) == len(self.server.stream)
                owed = bool(counts.pending or counts.running or counts.undelivered)
                votes, _ = await self.journal.votes_to_count(self.platform.account, self.clock.now())
                owed = owed or any(vote.poll is not None for vote in votes)
                owed = owed or bool(await self.journal.controls(self.platform.account))
                if read and not owed and not self.router._running and not self.delivery._busy:
                    return True
                await asyncio.sleep(pause)
                pause = min(1.0, pause * 1.2)
        return False

    async def until(self, true: Callable[[], bool], seconds: float = 600.0) -> None:
        """Wait, in virtual time, until `true()`."""
        async with asyncio.timeout(seconds):
            while not true():  # noqa: ASYNC110 - virtual time: looking again costs nothing
                await asyncio.sleep(0.01)

    async def stop(self, grace: float = 20.0) -> None:
        """A graceful stop, in the order of `bridge.app`."""
        self.over = True
        listen, work, deliver, *others = self._tasks
        await _end([work, *others])
        await self.router.finish(grace)
        await _end([deliver])
        await self.delivery.drain(5)
        await _end([listen, self._reaper])
        await self.journal.checkpoint()
        await self.journal.close()

    async def kill(self) -> None:
        """Nothing more is written or sent; what was under way is abandoned."""
        self.over = True
        self.boundaries.dead.set()
        mine = [*self._tasks, *self.router._running.values(), *self.delivery._busy.values()]
        await _end([*mine, *self.router._background, self._reaper])
        await self.journal.close()


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
