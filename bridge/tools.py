"""What a bot may ask of the bridge while it thinks, for one turn (`bots.base.Tools`)."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, BinaryIO, cast

from bots.base import Crossed, Encryption, Signature, Status, Unfetchable
from bots.conversation import Place, PlaceKind, TurnKind
from bridge.platform import Broken, Refused
from models.client import ModelMisconfigured
from models.host import State
from policies.classes import Class
from policies.decide import Deed, Request, decide
from policies.document import Unreadable, held, limits_of
from policies.grant import grants_of
from policies.room import Voice
from policies.screens import screen
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

    from bots.base import Chunk, Comparing, Decided, Heard, Passage, Peer, Vote
    from bots.conversation import Message, Person
    from bridge.journal import Claimed, Journal
    from bridge.link.community import Community
    from bridge.notes import Notes
    from bridge.platform import Platform
    from bridge.schedule import Clock
    from models.client import ChatClient
    from models.hearing import SpeechClient
    from models.host import ModelHost
    from policies.document import Standing
    from policies.room import RoomPolicy
    from policies.vote import Ballot

AWAKE_WITHIN = 60.0
"""Seconds that a turn waits for a model that is starting."""


@dataclass(frozen=True, slots=True)
class Ears:
    """The speech model, and how much may be given to it: bytes of a file, seconds of sound."""

    client: SpeechClient
    name: str
    is_bundled: bool
    max_bytes: int
    max_seconds: float
    language: str
    """ISO 639-1, or `""` to detect it."""
    spool: Path
    """Folder in which a file lies, without a name, while it is listened to."""
    host: ModelHost | None = None

    @property
    def ready(self) -> bool:
        """Whether the model answers now, as far as we know."""
        return self.host is None or self.host.state is State.READY


@dataclass(frozen=True, slots=True)
class House:
    """What all turns share: the model, the policy, and what `!status` tells."""

    journal: Journal
    clock: Clock
    model: ChatClient
    policy: RoomPolicy
    salt: bytes
    """Makes the fairness key of a place, so that a remote model server learns no room id."""
    version: str
    model_name: str
    model_is_bundled: bool
    retention_days: int
    host: ModelHost | None = None
    """Keeps the local model server; None where the model is served elsewhere."""
    model_is_remote: bool = False
    """Whether what is asked leaves this machine."""
    language: str = "en"
    """What the bot speaks where the room says nothing (BCP 47)."""
    ears: Ears | None = None
    """None: voice is off."""
    notes: Notes | None = None
    """None: the community has no notes."""
    community: Community | None = None
    """Who we are towards bots of other communities; None: there are no links."""

    @property
    def model_ready(self) -> bool:
        """Whether the model answers now, as far as we know."""
        return self.host is None or self.host.state is State.READY

    async def model_awake(self) -> None:
        """Wait while the local model starts or restarts, so that this costs no turn an attempt.

        Raises `ModelMisconfigured` if it never will; returns after a minute in any case, and the
        request then fails by itself.
        """
        await _awake(self.host)

    async def model_can_work(self) -> None:
        """Wait for ever; raises `ModelMisconfigured` once it is clear that the model never will."""
        while self.host is not None:
            with suppress(TimeoutError):
                await self.host.ready()
                break
        await asyncio.Event().wait()

    def fairness_key(self, place: str) -> str:
        """A stable pseudonym of `place` for the model's queue (`prompt_cache_key`)."""
        return blake2b(place.encode(), key=self.salt, digest_size=12).hexdigest()


def _reading(collection: str) -> Request:
    return Request(Deed.READ_NOTES, "", collection=collection)


async def _awake(host: ModelHost | None) -> None:
    if host is not None and host.state is not State.READY:
        with suppress(TimeoutError):
            await host.ready(AWAKE_WITHIN)


class TurnTools:
    """`Tools` for one claimed turn."""

    def __init__(
        self, house: House, claimed: Claimed, platform: Platform, admins: frozenset[str] = frozenset()
    ) -> None:
        self._admins = admins
        self._house = house
        self._claimed = claimed
        self._platform = platform
        self._policy = held(house.policy, claimed.turn.place.policy)

    @property
    def takes_files(self) -> bool:
        """Whether this platform shows files; where it does not, words must do."""
        return self._platform.takes_files

    async def may(self, request: Request) -> Verdict:
        """Ask the policy of this place; who asks is a fact of the turn, whatever the bot says.

        Where a peer asks, it is the policy of the room that is our home: the link room has none.
        """
        turn, facts, now = self._claimed.turn, self._claimed.facts, self._house.clock.now()
        account = turn.place.account
        known = replace(
            request,
            asker=turn.asker.id,
            asker_is_bot=turn.asker.is_bot,
            power=turn.asker.power,
            trust=self._claimed.trust,
            admin=turn.asker.id in self._admins,
            remote_model=self._house.model_is_remote,
        )
        theirs = None
        if turn.kind is TurnKind.ASKED:
            home = "" if self._house.community is None else self._house.community.home
            there = await self._house.journal.place(account, home)
            nowhere = replace(facts, place=Place(account, ""))
            facts = there if there is not None and there.joined else nowhere
            peer = str(turn.waited.get("peer", ""))
            use = await self._house.journal.link_use(account, "", peer, "", now)
            cls = Class(str(turn.waited["class"]))
            screened = screen(turn.message.text)
            known = replace(known, peer=peer, peer_key=use.key, cls=cls, screened=screened)
        elif request.deed is Deed.ASK_PEER:
            if request.peer in await self._house.journal.refused_peers(account):
                params: dict[str, int | str] = {"peer": request.peer}
                return Verdict(False, Code.NO_PEER, "policy.ask_peers", params, "ask_operator_policy")
            use = await self._house.journal.link_use(
                account, turn.place.id, request.peer, turn.asker.id, now, request.cls or ""
            )
            counts = self._claimed.counters
            known = replace(
                known,
                direct=turn.place.kind is PlaceKind.DIRECT,
                asked_today=counts.asked_today,
                place_today=counts.place_today,
                peer_key=use.key,
                peer_today=use.peer_today,
                peer_person_today=use.person_today,
            )
            theirs = use.granted(account.removeprefix("@"), grants_of(facts.place.grants).get(request.peer))
        known = replace(known, ruled_by_members=facts.ruled_by_members)
        grants = grants_of(facts.place.grants)
        return decide(self._house.policy, grants, known, now, room=facts.place.policy, theirs=theirs)

    @property
    def ceiling(self) -> RoomPolicy:
        """What whoever runs the bot allows at most, in any room."""
        return self._house.policy

    @property
    def policy(self) -> RoomPolicy:
        """What holds in this place: the ceiling, and the room's own limits and wording."""
        return self._policy

    def _voice(self) -> Voice:
        unreadable = isinstance(limits_of(self._claimed.turn.place.policy), Unreadable)
        return Voice.OFF if unreadable else self.policy.voice

    async def chat(self, messages: Sequence[Mapping[str, str]], *, max_tokens: int) -> AsyncGenerator[Chunk]:
        """Stream an answer of the chat model."""
        await self._house.model_awake()
        key = self._house.fairness_key(self._claimed.turn.place.id)
        async with aclosing(self._house.model.chat(messages, max_tokens=max_tokens, cache_key=key)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def hear(self, message: Message, *, hotwords: Sequence[str] = ()) -> AsyncGenerator[Heard]:
        """Listen to what came with `message`. The file is gone when this ends, however it ends."""
        ears = self._house.ears
        if ears is None:
            raise ModelMisconfigured("speech.model", "voice is off; name a speech model in the settings")
        sound = next(one for one in message.attachments if one.has_sound)
        if sound.size is not None and sound.size > ears.max_bytes:
            raise Unfetchable("too_large")
        # No name leads to it and the kernel drops it with its last handle, kill -9 included.
        spool = cast("BinaryIO", await asyncio.to_thread(tempfile.TemporaryFile, dir=ears.spool))
        try:
            try:
                await self._platform.fetch(sound, spool, ears.max_bytes)
            except Refused:
                raise Unfetchable("gone") from None
            except Broken:
                raise Unfetchable("broken") from None
            await asyncio.to_thread(spool.seek, 0)
            await _awake(ears.host)
            signs = ears.client.transcribe(
                spool,
                media_type=sound.media_type,
                language=ears.language,
                hotwords=[*hotwords, *self._names()],
                priority="flex" if self._claimed.long else "priority",
                cache_key=self._house.fairness_key(self._claimed.turn.place.id),
                max_seconds=ears.max_seconds,
            )
            async with aclosing(signs):
                async for sign in signs:
                    yield sign
        finally:
            await asyncio.to_thread(spool.close)

    def _names(self) -> list[str]:
        facts = self._claimed.facts
        return [name for name in (facts.place.name, *(one.name for one in facts.members)) if name]

    async def collections(self) -> tuple[str, ...]:
        """The collections of notes that may be read here."""
        notes = self._house.notes
        found = [] if notes is None else [(one, await self.may(_reading(one))) for one in notes.collections]
        return tuple(name for name, verdict in found if verdict.allowed)

    async def notes(self, question: str, limit: int) -> tuple[Passage, ...]:
        """Passages of the notes that may be read here which are about `question`, best first."""
        notes = self._house.notes
        return () if notes is None else await notes.search(await self.collections(), question, limit)

    async def count_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Tokens of `messages` as a prompt."""
        await self._house.model_awake()
        return await self._house.model.count_tokens(messages)

    async def context_size(self) -> int:
        """Tokens that prompt and answer may take together."""
        await self._house.model_awake()
        return await self._house.model.context_size()

    async def decided(self, event_id: str) -> Decided | None:
        """What was decided about a message of this place."""
        place = self._claimed.turn.place
        return await self._house.journal.decided(place.account, place.id, event_id)

    @property
    def now(self) -> int:
        """Milliseconds since the epoch."""
        return self._house.clock.now()

    @property
    def admins(self) -> tuple[str, ...]:
        """Whom the settings name as admin of this account, sorted."""
        return tuple(sorted(self._admins))

    @property
    def comparing(self) -> tuple[Comparing, ...]:
        """The verifications whose signs are shown now."""
        verifying = self._platform.verifying
        return () if verifying is None else verifying.comparing

    def compared(self, which: Comparing, *, matches: bool) -> bool:
        """Say whether both sides of a verification show the same; see `Tools.compared`."""
        verifying = self._platform.verifying
        return verifying is not None and verifying.answer(which, matches=matches)

    @property
    def takes_votes(self) -> bool:
        """Whether people can vote on this platform."""
        return self._platform.takes_votes

    @property
    def people(self) -> tuple[Person, ...]:
        """Who is in this place."""
        return self._claimed.facts.members

    @property
    def policy_power(self) -> int:
        """The power that writing the place's policy takes."""
        return self._claimed.facts.policy_power

    @property
    def ruled_by_members(self) -> bool:
        """Whether a mere member could write what the place allows."""
        return self._claimed.facts.ruled_by_members

    @property
    def levels_power(self) -> int:
        """The power that changing power levels takes."""
        return self._claimed.facts.levels_power

    async def proof(self, event_id: str) -> tuple[Signature, ...]:
        """The signed envelopes behind what we said in `event_id`, in order."""
        place, us = self._claimed.turn.place, self._house.community
        if us is None:
            return ()
        steps, pinned = await self._house.journal.proof(place.account, place.id, event_id)
        keys = {**pinned, place.account.removeprefix("@"): us.card.key}
        return tuple(
            Signature(
                kind=str(one.header.kind),
                sender=one.header.sender,
                to=one.header.to,
                at=one.header.iat,
                digest=one.digest,
                holds=one.is_by(keys.get(one.header.sender, "")),
            )
            for one in steps
        )

    async def crossings(self, limit: int = 20) -> tuple[Crossed, ...]:
        """The last of what crossed between this community and others, newest first.

        In any room but our home, only what was asked there: the rest is no business of whoever rules a room.
        """
        place = self._claimed.turn.place
        at_home = self._house.community is not None and place.id == self._house.community.home
        found = await self._house.journal.crossed(place.account, "", limit, "" if at_home else place.id)
        return tuple(
            Crossed(one.at, one.peer, one.way, one.kind, one.allowed, one.code, one.rule) for one in found
        )

    async def encryption(self) -> Encryption | None:
        """How encryption stands in this place; None where nothing is encrypted."""
        place = self._claimed.turn.place
        reach = self._platform.reach(place.id)
        if reach is None:
            return None
        found = await self._house.journal.legible(place.account)
        here = next((one for one in found if one.place == place.id), None)
        known = Encryption(reach.standing, reach.devices, reach.without)
        if here is None:
            return known
        return replace(known, unread=here.unread, last_unread=here.last_unread, last_read=here.last_read)

    async def peers(self) -> tuple[Peer, ...]:
        """The peers that this place has a grant for, or that we are linked with."""
        place = self._claimed.turn.place
        if self._house.community is None:
            return ()  # links are switched off, whatever was agreed before
        return await self._house.journal.peers_of(place.account, place.id)

    async def votes(self, limit: int = 20) -> tuple[Vote, ...]:
        """The votes of this place, newest first."""
        place = self._claimed.turn.place
        return await self._house.journal.votes(place.account, place.id, limit)

    async def ballots(self, vote: Vote) -> tuple[Ballot, ...]:
        """The ballots of a vote as they stand in the place now."""
        return () if vote.poll is None else await self._platform.ballots(vote.place, vote.poll)

    async def documents(self, limit: int = 20) -> tuple[tuple[str, Standing], ...]:
        """What stood in this place as its policy (`""`) or as a grant (the peer), newest first."""
        place = self._claimed.turn.place
        return await self._house.journal.documents(place.account, place.id, limit)

    async def asked(self, since: int) -> tuple[Mapping[str, object], ...]:
        """Features of the questions that were put here since then (ms)."""
        place = self._claimed.turn.place
        return await self._house.journal.asked(place.account, place.id, since)

    async def status(self) -> Status:
        """How the house is doing."""
        house = self._house
        counts = await house.journal.counts()
        ears = house.ears
        return Status(
            version=house.version,
            model=house.model_name,
            model_is_bundled=house.model_is_bundled,
            model_ready=house.model_ready,
            pending=counts.pending,
            running=counts.running,
            undelivered=counts.undelivered,
            parked=counts.parked + counts.undeliverable,
            sealed=counts.sealed,
            retention_days=house.retention_days,
            encrypted=self._claimed.facts.must_encrypt,
            speech_model="" if ears is None else ears.name,
            speech_is_bundled=ears is not None and ears.is_bundled,
            speech_ready=ears is not None and ears.ready,
            hears_all=ears is not None and self._voice() in (Voice.NAMED, Voice.ALL),
        )
