"""The verifications that are open with one account: what people send, what is shown, what is signed.

    sync --> take() --> flows (sas.py) --> events for the journal: the signs, how it ended
                          |   ^
       sender <-- queue --'   '-- answer(): an admin has compared
         '--> signature: our user-signing key on their master key

Promises: at most `MOST` are open, and garbage by the thousand makes few requests and fills nothing; what is
sent goes out in order; somebody is verified only after an admin said that the signs match and the keys were
vouched for. Verifications live in memory, no longer than ten minutes: a new process knows none of them.
Refuses whoever may not invite us, other devices of our own account, and everybody while the settings name no
admin: nobody could say what the other screen shows.

Source: client-server API, "Key verification framework"; `POST /keys/signatures/upload`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import structlog
import vodozemac

from bots.base import Comparing
from bots.conversation import PlaceKind
from bridge.matrix import wire
from bridge.matrix.crypto import sas
from bridge.matrix.crypto.emoji import signs
from bridge.matrix.crypto.sas import CancelCode, Flow, News, Outgoing, Party, Step
from bridge.matrix.crypto.trust import master_object
from bridge.matrix.errors import LoggedOut
from bridge.matrix.identity import public, sign
from bridge.platform import Event, EventKind, PlatformError, Retryable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from bridge.matrix.client import Client
    from bridge.matrix.crypto.identities import Identities
    from bridge.matrix.facts import RoomState
    from bridge.matrix.identity import Identity

log = structlog.get_logger(__name__)

MOST: Final = 8
"""Verifications that are open at once."""
BEGUN: Final = 40
BEGUN_BY_ONE: Final = 6
"""Requests that are taken in ten minutes, of all and of one person: who asks without end is left alone."""
REMEMBERED: Final = 64
"""Ended verifications whose late events are known to be nothing."""
FRESH_MS: Final = 600_000
AHEAD_MS: Final = 300_000
"""How old a request may be, and how far in the future by the homeserver's clock (spec)."""
_QUEUE: Final = 256
_ATTEMPTS: Final = 6
_LONGEST_ID: Final = 255
_UNKNOWN_AT_ONCE: Final = 4
"""Strangers' transactions that are answered in one round."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An event of a verification: in `room` under `id`, or sent to our device (`room` None)."""

    sender: str
    room: str | None
    kind: str
    content: Mapping[str, Any]
    id: str = ""
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """What a connection gives: the client, what is published of people, and our keys."""

    client: Client
    identities: Identities
    identity: Identity | None
    device: str
    key: str
    """The Ed25519 key of our device, unpadded base64."""


@dataclass(frozen=True, slots=True)
class _Open:
    """An open verification, the master key that it is about, and where people see it (`""`: nowhere)."""

    flow: Flow
    master: dict[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class _Job:
    """One thing to send; `sign` is the master key of `user` to sign instead."""

    key: str
    one: _Open
    out: Outgoing | None = None
    sign: bool = False


def heard(event: Mapping[str, Any], kind: object, content: object, room: str | None) -> Heard | None:
    """The event of a verification that `event` is; None: something else. `kind`, `content`: decrypted."""
    sender, event_id = event.get("sender"), event.get("event_id", "")
    if not isinstance(kind, str) or not isinstance(sender, str) or not isinstance(content, dict):
        return None
    if room is not None and kind == "m.room.message" and content.get("msgtype") == sas.REQUEST:
        kind = sas.REQUEST
    elif not kind.startswith(sas.PREFIX) or (room is not None and kind == sas.REQUEST):
        return None
    unsigned = event.get("unsigned")
    age = unsigned.get("age") if isinstance(unsigned, dict) else 0
    age = age if isinstance(age, int) else 0
    return Heard(sender, room, kind, content, event_id if isinstance(event_id, str) else "", age)


def taken_out(sync: Mapping[str, Any]) -> tuple[dict[str, Any], list[Heard]]:
    """A sync answer without what devices send to verify each other, and that.

    matrix-nio must not see it: it knows an older way to verify, and cancels what it does not expect.
    """
    others, ours = [], []
    for event in wire.events(sync.get("to_device")):
        if not wire.is_to_device(event) or not event["type"].startswith(sas.PREFIX):
            others.append(event)
        elif (asked := heard(event, event["type"], event["content"], None)) is not None:
            ours.append(asked)
    return {**sync, "to_device": {"events": others}}, ours


class Verifications:
    """All of one account; `attach` gives it a connection, which it may lose and get again."""

    def __init__(
        self,
        account: str,
        *,
        may_verify: Callable[[str], bool],
        has_admins: bool,
        clock: Callable[[], float],
        names: Callable[[], str],
        pause: Callable[[int], Awaitable[None]],
        ephemeral: Callable[[], vodozemac.Sas] = vodozemac.Sas,
    ) -> None:
        self.account = account
        self._may_verify = may_verify
        self._has_admins = has_admins
        self._clock = clock
        self._names = names
        self._pause = pause
        self._ephemeral = ephemeral
        self._line: Line | None = None
        self._rooms: Mapping[str, RoomState] = {}
        self._open: dict[tuple[str | None, str, str], _Open] = {}
        """By room, id, and who is on the other side."""
        self._ended: dict[tuple[str | None, str, str], None] = {}
        self._begun: deque[tuple[float, str]] = deque()
        self._jobs: deque[_Job] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._news: list[Event] = []

    def attach(self, line: Line) -> None:
        """Work over this connection from now on."""
        self._line = line
        self._send_on()

    async def detach(self) -> None:
        """The connection is gone; what is open waits for the next."""
        self._line = None
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    # -- what arrives ------------------------------------------------------------------------------

    async def take(self, events: Sequence[Heard], rooms: Mapping[str, RoomState]) -> tuple[Event, ...]:
        """Take what a sync answer brought, and the time that has passed; what people are to be told."""
        self._rooms = rooms
        unknown = 0
        for event in events:
            if event.sender == self.account:
                self._own(event)
            elif event.kind == sas.REQUEST:
                await self._requested(event)
            elif (one := self._open.get(_key(event))) is not None:
                self._follow(one, sas.receive(one.flow, event.kind, event.content, ephemeral=self._ephemeral))
            elif event.room is None and _key(event) not in self._ended:
                unknown += await self._unknown(event, answer=unknown < _UNKNOWN_AT_ONCE)
        now = self._clock()
        for one in list(self._open.values()):
            self._follow(one, sas.tick(one.flow, now))
        news, self._news = tuple(self._news), []
        return news

    def _own(self, event: Heard) -> None:
        """What another device of our account says: it has taken the verification over."""
        device = event.content.get("from_device")
        if self._line is None or event.room is None or device in (None, self._line.device):
            return
        for key, one in list(self._open.items()):
            if key[:2] == (event.room, _key(event)[1]):
                self._end(one)

    async def _requested(self, event: Heard) -> None:
        """Somebody asks to be verified."""
        one = await self._opened(event)
        if one is None:
            return
        again = [other for other in self._open.values() if _device_of(other.flow) == _device_of(one.flow)]
        if again:  # two at once from one device: neither can be told from a mistake (spec)
            for other in (*again, one):
                self._follow(other, sas.cancel(other.flow, CancelCode.UNEXPECTED_MESSAGE))
        elif not self._has_admins:
            self._tell(one, "no_admins")
            self._follow(replace(one, place=""), sas.cancel(one.flow, CancelCode.USER))
        else:
            log.info("verification_asked", user=event.sender, place=event.room or "")
            self._follow(one, sas.ready(one.flow))

    async def _opened(self, event: Heard) -> _Open | None:
        """The verification that a request, or a `start` without one, opens; None: it opens none."""
        device, line = event.content.get("from_device"), self._line
        if line is None or not isinstance(device, str) or not self._is_for_us(event):
            return None
        now, key = self._clock(), _key(event)
        if key in self._open or key in self._ended or not self._has_room(event.sender, now):
            return None
        self._begun.append((now, event.sender))
        # Nobody's keys may change under a comparison; so they are asked for now, and kept.
        line.identities.forget([event.sender])
        await line.identities.learn([event.sender])
        theirs = line.identities.party(event.sender, device)
        if theirs is None:
            log.info("verification_without_keys", user=event.sender)
            return None
        master = public(line.identity.master) if line.identity is not None else None
        flow = Flow(key[1], event.room, Party(self.account, line.device, line.key, master), theirs, now)
        place = event.room or self._direct_room(event.sender)
        return _Open(flow, master_object(line.identities.keys_of(event.sender), event.sender), place)

    def _has_room(self, user: str, now: float) -> bool:
        """Whether one more may be opened, by `user`."""
        while self._begun and now - self._begun[0][0] >= sas.TIMEOUT:
            self._begun.popleft()
        by_one = sum(one == user for _, one in self._begun)
        return len(self._open) < MOST and len(self._begun) < BEGUN and by_one < BEGUN_BY_ONE

    def _is_for_us(self, event: Heard) -> bool:
        """Whether a request is one that we take up."""
        content, line = event.content, self._line
        methods = content.get("methods")
        if event.kind == sas.REQUEST and not (isinstance(methods, list) and sas.SAS in methods):
            return False
        if not self._may_verify(event.sender) or not _is_id(_key(event)[1]) or line is None:
            return False
        if event.room is not None:
            here = event.room in self._rooms
            return here and content.get("to") == self.account and event.age_ms <= FRESH_MS
        if event.kind != sas.REQUEST or line.client.server_time is None:
            return True
        at = content.get("timestamp")
        if not isinstance(at, int):
            return False
        return -FRESH_MS <= at - line.client.server_time <= AHEAD_MS

    async def _unknown(self, event: Heard, *, answer: bool) -> bool:
        """An event to our device of no verification that we know; whether it was answered."""
        device = event.content.get("from_device")
        if not isinstance(device, str) or not _is_id(_key(event)[1]) or not self._may_verify(event.sender):
            return False
        if event.kind == sas.START:  # without a request, as clients did before there were any
            one = await self._opened(event)
            if one is not None and self._has_admins:
                step = sas.receive(one.flow, event.kind, event.content, ephemeral=self._ephemeral)
                self._follow(one, step)
            return one is not None
        if event.kind == sas.READY and answer:
            nobody = Party(event.sender, device, "")
            flow = Flow(_key(event)[1], None, Party(self.account, "", ""), nobody, self._clock())
            one = _Open(flow, {}, "")
            self._follow(one, sas.cancel(flow, CancelCode.UNKNOWN_TRANSACTION))
            return True
        return False

    def _direct_room(self, user: str) -> str:
        """Where what somebody sent to our device is told of: the room of the two of us; `""`: nowhere."""
        rooms = (
            room.id
            for room in self._rooms.values()
            if room.kind is PlaceKind.DIRECT and user in room.members and room.encrypted
        )
        return min(rooms, default="")

    # -- what people say ---------------------------------------------------------------------------

    @property
    def comparing(self) -> tuple[Comparing, ...]:
        """What is shown now, for people to compare; oldest first."""
        return tuple(
            Comparing(one.flow.id, one.flow.theirs.user, one.place, signs(one.flow.emoji), one.flow.decimals)
            for one in self._open.values()
            if one.flow.stage is sas.Stage.SHOWN and not one.flow.confirmed
        )

    def answer(self, which: Comparing, *, matches: bool) -> bool:
        """An admin has compared; False if it has ended meanwhile."""
        for one in list(self._open.values()):
            if (one.flow.id, one.flow.theirs.user) == (which.id, which.user):
                log.info("verification_compared", user=which.user, matches=matches)
                self._follow(one, sas.answer(one.flow, matches=matches))
                return True
        return False

    # -- what follows ------------------------------------------------------------------------------

    def _follow(self, one: _Open, step: Step) -> None:
        """Keep the flow, queue what is to be sent, tell people."""
        one = replace(one, flow=step.flow)
        user = one.flow.theirs.user
        if step.flow.closed:
            self._end(one)
        else:
            self._open[one.flow.room, one.flow.id, user] = one
        for out in step.sends:
            if out.type == sas.DONE:
                self._queue(_Job(self._names(), one, sign=True))
            self._queue(_Job(self._names(), one, out))
        if step.news is News.SHOWN:
            shown = [f"{sign} {name}" for sign, name in signs(one.flow.emoji)]
            log.info("verification_shows", user=user, signs=", ".join(shown), numbers=one.flow.decimals)
            self._tell(one, "shown", signs=signs(one.flow.emoji), numbers=one.flow.decimals)
        elif step.news is News.CANCELLED:
            log.info(
                "verification_ended", user=user, code=str(one.flow.code)[:_LONGEST_ID], by_us=one.flow.by_us
            )
            if step.flow.emoji or one.flow.code == CancelCode.TIMEOUT:
                self._tell(one, "cancelled", code=str(one.flow.code)[:_LONGEST_ID], by_us=one.flow.by_us)

    def _end(self, one: _Open) -> None:
        key = one.flow.room, one.flow.id, one.flow.theirs.user
        self._open.pop(key, None)
        self._ended[key] = None
        while len(self._ended) > REMEMBERED:
            self._ended.pop(next(iter(self._ended)))

    def _tell(self, one: _Open, stage: str, **more: Any) -> None:
        room = self._rooms.get(one.place)
        if room is None:
            return
        text = json.dumps({"stage": stage, **more})
        sender = room.person(one.flow.theirs.user, frozenset())
        self._news.append(
            Event(f"verification:{self._names()}", room.id, EventKind.VERIFICATION, sender, 0, text=text)
        )

    # -- sending -----------------------------------------------------------------------------------

    def _queue(self, job: _Job) -> None:
        if len(self._jobs) < _QUEUE:
            self._jobs.append(job)
            self._send_on()

    def _send_on(self) -> None:
        if self._jobs and self._line is not None and (self._sender is None or self._sender.done()):
            self._sender = asyncio.create_task(self._send_all(self._line))

    async def _send_all(self, line: Line) -> None:
        """Send what is queued, in order, until nothing is left."""
        while self._jobs:
            job = self._jobs[0]
            for tried in range(_ATTEMPTS):
                try:
                    await (self._sign(line, job.one) if job.sign else _send(line.client, job))
                except LoggedOut:
                    return  # whoever logs in again goes on
                except Retryable as error:
                    if tried + 1 == _ATTEMPTS:
                        self._not_sent(job, error)
                    else:
                        await self._pause(tried)
                except PlatformError as error:
                    self._not_sent(job, error)
                    break
                else:
                    break
            self._jobs.popleft()

    def _not_sent(self, job: _Job, error: PlatformError) -> None:
        user = job.one.flow.theirs.user
        log.warning(
            "verification_not_sent", user=user, what="signature" if job.sign else "event", error=str(error)
        )
        if job.sign:
            self._tell(job.one, "not_signed")
        else:
            self._end(job.one)

    async def _sign(self, line: Line, one: _Open) -> None:
        """Sign their master key, where it was vouched for; from then on they are verified."""
        theirs, proven = one.flow.theirs, one.flow.proven or frozenset()
        if theirs.master is None or f"ed25519:{theirs.master}" not in proven:
            self._tell(one, "device_only")
            return
        if line.identity is None:
            self._tell(one, "no_identity")
            return
        signed = dict(one.master)
        sign(signed, self.account, public(line.identity.user_signing), line.identity.user_signing)
        path = ("v3", "keys", "signatures", "upload")
        told = await line.client.call("POST", path, {theirs.user: {theirs.master: signed}})
        # The status is 200 even when nothing was accepted.
        if told.get("failures"):
            raise Retryable("keys/signatures/upload: the homeserver did not take the signature")
        line.identities.forget([theirs.user])
        log.info("verified", user=theirs.user)
        self._tell(one, "verified")


async def _send(client: Client, job: _Job) -> None:
    """Send one event of a verification: into its room, encrypted where that is; else to the other device."""
    flow, out = job.one.flow, job.out
    assert out is not None
    if flow.room is None:
        messages = {flow.theirs.user: {flow.theirs.device: out.content}}
        await client.call("PUT", ("v3", "sendToDevice", out.type, job.key), {"messages": messages})
        return
    if flow.room not in client.rooms:
        return  # we have left
    kind, content = out.type, out.content
    if client.rooms[flow.room].encrypted:
        kind, content = await client.sealed_for(flow.room, kind, content)
    await client.call("PUT", ("v3", "rooms", flow.room, "send", kind, job.key), content)


def _key(event: Heard) -> tuple[str | None, str, str]:
    """Which verification an event belongs to."""
    if event.room is None:
        named = event.content.get("transaction_id")
    elif event.kind == sas.REQUEST:
        named = event.id
    else:
        relation = event.content.get("m.relates_to")
        relation = relation if isinstance(relation, dict) else {}
        named = relation.get("event_id") if relation.get("rel_type") == "m.reference" else None
    return event.room, named if isinstance(named, str) else "", event.sender


def _is_id(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_ID and text.isprintable()


def _device_of(flow: Flow) -> tuple[str, str]:
    return flow.theirs.user, flow.theirs.device
