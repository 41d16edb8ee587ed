"""A bridge for bots under test: a tokenizer of words, a model that says what it is told to say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bots.base import Chunk, Decided, Draft, Heard, Reply, Status, Waiting
from bots.conversation import Attachment, Message, Person, Place, PlaceKind, Turn, TurnKind
from policies.decide import Request, decide
from policies.room import LOOSEST, RoomPolicy, Trust, Voice

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from bots.base import Bot, Comparing, Crossed, Encryption, Passage, Peer, Signature, Vote
    from models.transcript import Transcript
    from policies.document import Standing
    from policies.verdict import Verdict
    from policies.vote import Ballot

OWN_ID = "@hearth:home"
ADA = Person("@ada:home", "Ada")
BEN = Person("@ben:home", "Ben")
OWN = Person(OWN_ID, "Hearth", is_bot=True)


@dataclass
class FakeTools:
    """Tools with a tokenizer of one token a word or sign and four a message."""

    chunks: tuple[Chunk | Exception, ...] = (Chunk("Yes."), Chunk(finish="stop"))
    context: int = 1000
    known: dict[str, Decided] = field(default_factory=dict)
    bundled: bool = True
    prompts: list[list[dict[str, str]]] = field(default_factory=list)
    counted: list[list[dict[str, str]]] = field(default_factory=list)
    max_tokens: int = 0
    closed: int = 0
    signs: tuple[Heard | Exception, ...] = ()
    speech_model: str = "hearth-ear"
    voice: Voice = Voice.ASKED
    listened: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    deafened: int = 0
    takes_files: bool = True
    room: RoomPolicy = LOOSEST
    admins: tuple[str, ...] = ()
    trust: Trust = Trust.UNSIGNED
    comparing: tuple[Comparing, ...] = ()
    ended: bool = False
    """Whether what is compared has ended meanwhile."""
    said: list[tuple[str, bool]] = field(default_factory=list)
    """What was said of which verification."""
    found: tuple[Passage, ...] = ()
    looked_for: list[str] = field(default_factory=list)

    @property
    def ceiling(self) -> RoomPolicy:
        return RoomPolicy(askers=frozenset({"*"}), voice=self.voice)

    @property
    def policy(self) -> RoomPolicy:
        return self.ceiling.meet(self.room)

    async def may(self, request: Request) -> Verdict:
        known = replace(request, trust=self.trust, admin=request.asker in self.admins)
        return decide(self.ceiling, {}, known, 0)

    def compared(self, which: Comparing, *, matches: bool) -> bool:
        self.said.append((which.id, matches))
        return which in self.comparing and not self.ended

    async def hear(self, message: Message, *, hotwords: Sequence[str] = ()) -> AsyncGenerator[Heard]:
        self.listened.append((message.id, tuple(hotwords)))
        try:
            for sign in self.signs:
                if isinstance(sign, Exception):
                    raise sign
                yield sign
        finally:
            self.deafened += 1

    async def chat(self, messages: Sequence[Mapping[str, str]], *, max_tokens: int) -> AsyncGenerator[Chunk]:
        self.prompts.append([dict(one) for one in messages])
        self.max_tokens = max_tokens
        try:
            for chunk in self.chunks:
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
        finally:
            self.closed += 1

    @property
    def now(self) -> int:
        return 0

    takes_votes = True
    people: tuple[Person, ...] = ()
    policy_power = 50
    levels_power = 100
    ruled_by_members = False
    known_peers: tuple[Peer, ...] = ()

    async def proof(self, event_id: str) -> tuple[Signature, ...]:
        return ()

    keys: Encryption | None = None

    async def encryption(self) -> Encryption | None:
        return self.keys

    async def crossings(self, limit: int = 20) -> tuple[Crossed, ...]:
        return ()

    async def peers(self) -> tuple[Peer, ...]:
        return self.known_peers

    async def votes(self, limit: int = 20) -> tuple[Vote, ...]:
        return ()

    async def notes(self, question: str, limit: int) -> tuple[Passage, ...]:
        self.looked_for.append(question)
        return self.found[:limit]

    async def collections(self) -> tuple[str, ...]:
        return tuple(sorted({one.collection for one in self.found}))

    async def ballots(self, vote: Vote) -> tuple[Ballot, ...]:
        return ()

    async def documents(self, limit: int = 20) -> tuple[tuple[str, Standing], ...]:
        return ()

    async def asked(self, since: int) -> tuple[Mapping[str, object], ...]:
        return ()

    async def count_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        self.counted.append([dict(one) for one in messages])
        return tokens(messages)

    async def context_size(self) -> int:
        return self.context

    async def decided(self, event_id: str) -> Decided | None:
        return self.known.get(event_id)

    async def status(self) -> Status:
        return Status(
            *("0.1.0", "tiny.gguf", self.bundled, True, 0, 1, 0, 0, 0, 30, True),
            speech_model=self.speech_model,
            speech_is_bundled=self.bundled,
            speech_ready=True,
        )


def tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """What the fake tokenizer counts."""
    return sum(4 + len(re.findall(r"\w+|[^\w\s]", one["content"])) for one in messages)


def said(
    at: int | str, person: Person, text: str, *, reply_to: str | None = None, own: bool = False
) -> Message:
    return Message(str(at), person, text, reply_to=reply_to, own=own)


def spoken(at: int | str, person: Person, text: str = "") -> Message:
    return Message(str(at), person, text, attachments=(Attachment("mxc://v", "audio/ogg", voice=True),))


def own(at: int | str, text: str, reply_to: str | None = None) -> Message:
    return said(at, OWN, text, reply_to=reply_to, own=True)


def turn_of(
    message: Message,
    context: Sequence[Message] = (),
    *,
    kind: TurnKind = TurnKind.MESSAGE,
    place: PlaceKind = PlaceKind.GROUP,
    about: Message | None = None,
    heard: Transcript | None = None,
    unasked: bool = False,
) -> Turn:
    return Turn(
        1,
        kind,
        Place(OWN_ID, "!room:home", place),
        message.id,
        message,
        "chat",
        tuple(context),
        about=about or (message if message.attachments else None),
        heard=heard,
        unasked=unasked,
    )


async def all_of(bot: Bot, turn: Turn, tools: FakeTools) -> list[Draft | Waiting | Reply]:
    return [one async for one in bot.reply(turn, tools)]


async def last_of(bot: Bot, turn: Turn, tools: FakeTools) -> Reply:
    """The reply that ends the turn; it is the only one, and nothing follows it."""
    everything = await all_of(bot, turn, tools)
    reply = everything[-1]
    assert isinstance(reply, Reply)
    assert not any(isinstance(one, Reply) for one in everything[:-1])
    return reply
