"""`MatrixPlatform`: the port on Matrix.

Owns the one client of the account and everything that runs beside it. Promises: a room that was
ever encrypted never sees plaintext; one action is one request; receipts and typing never delay an
answer. Refuses to send before the first sync of the process told who reads each room.

Requests of a short answer in the steady state: receipt, typing, send, typing off. Typing that is
switched off before its request went out is not sent at all.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import structlog

from bots.conversation import (
    ClosePoll,
    OpenLink,
    OpenPoll,
    PutState,
    Redact,
    Revise,
    Say,
    SendEnvelope,
    Upload,
)
from bridge.matrix import files, link, media, poll, render, search, votes
from bridge.matrix.crypto.identities import Identities
from bridge.matrix.crypto.keeper import Keeper
from bridge.matrix.crypto.verification import Line, Verifications
from bridge.matrix.errors import LoggedOut
from bridge.matrix.identity import public
from bridge.matrix.invites import Invites
from bridge.matrix.link_room import open_link
from bridge.matrix.session import Session
from bridge.matrix.sync import Sync
from bridge.matrix.translate import ENVELOPE, Us
from bridge.platform import Broken, Fresh, Parts, PlatformError, Reach, Refused, Retryable

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from bots.conversation import Attachment, Turn
    from bridge.matrix.client import Client
    from bridge.matrix.identity import Standing
    from bridge.platform import Batch, Ephemeral, Event, Found, StoredAction
    from policies.vote import Ballot

log = structlog.get_logger(__name__)

KEY_MEMORY: Final = 25 * 60.0
"""Seconds: Synapse keeps transaction ids for 24 h, other servers in memory for half an hour."""

PAUSE_CAP: Final = 60.0
_PAUSE_FIRST: Final = 0.5
_READY_DEADLINE: Final = 10.0
_SOFT_DEADLINE: Final = 10.0
_TYPING_MS: Final = 30_000
_BESIDE: Final = 64


class MatrixPlatform:
    """One Matrix account behind `bridge.platform.Platform`.

    `store` is the account's own folder (made 0700), `pickle_key` encrypts the crypto store in it.
    `may_invite` says by full address who may invite the bot; `known_bots` are never answered.
    `max_backfill` bounds the events fetched per room when the server leaves a gap. `own_name` is what
    people call the bot, and may say before a `!vote`. `has_admins`: somebody may confirm verifications.
    """

    key_memory = KEY_MEMORY
    takes_files = True
    takes_votes = True

    def __init__(
        self,
        *,
        homeserver: str,
        user_id: str,
        password: str | None = None,
        access_token: str | None = None,
        recovery_key: str | None = None,
        device_name: str = "Hearth",
        own_name: str = "Hearth",
        store: Path,
        pickle_key: str,
        may_invite: Callable[[str], bool],
        rng: random.Random,
        known_bots: frozenset[str] = frozenset(),
        max_backfill: int = 500,
        has_admins: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.account = user_id
        self.standing: Standing | None = None
        """What other clients find when they look at our device; None before the first login."""
        self._session = Session(
            homeserver=homeserver,
            user_id=user_id,
            password=password,
            access_token=access_token,
            device_name=device_name,
            folder=store,
            pickle_key=pickle_key,
            clock=clock,
        )
        self._us = Us(user_id, known_bots - {user_id})
        self._own_name = own_name
        self._may_invite = may_invite
        self._rng = rng
        self._max_backfill = max_backfill
        self._sleep = sleep
        self._clock = clock
        self._recovery_key = recovery_key
        self._client: Client | None = None
        self._keeper: Keeper | None = None
        self._invites: Invites | None = None
        self._links: link.Links | None = None
        self.wants_link: Callable[[str], bool] = lambda _peer: False
        """Whether somebody here wants to share a link room with a bot (`bot:server`)."""
        self.link_offered: Callable[[str], None] = lambda _peer: None
        """Told that a bot (`bot:server`) invites us to a link room that nobody here has asked for."""
        self._identities: Identities | None = None
        self._verifications = Verifications(
            user_id,
            may_verify=may_invite,
            has_admins=has_admins,
            clock=clock,
            names=lambda: str(uuid.uuid4()),
            pause=lambda tried: self._pause(tried, None),
        )
        self._ready = asyncio.Event()
        self._beside: set[asyncio.Task[None]] = set()
        self._typing: dict[str, bool] = {}

    @property
    def device(self) -> str:
        """Our device id; `""` before the first login."""
        return self._session.device_id

    @property
    def verifying(self) -> Verifications:
        """The verifications that people have open with us."""
        return self._verifications

    # -- what arrives ------------------------------------------------------------------------------

    async def events(
        self, cursor: str | None, sealed: Sequence[Event] = (), answered: Sequence[Event] = ()
    ) -> AsyncGenerator[Batch, None]:
        """Yield what arrived after `cursor`; see `Platform.events`. A new call uses a fresh client."""
        del answered  # the sync tells of every redaction
        ended = 0
        while True:
            try:
                await self._connect()
                assert self._client is not None
                assert self._invites is not None
                assert self._links is not None
                assert self._identities is not None
                assert self._keeper is not None
                sync = Sync(
                    self._client,
                    self._us,
                    cursor,
                    sealed,
                    invites=self._invites,
                    links=self._links,
                    identities=self._identities,
                    verifications=self._verifications,
                    keeper=self._keeper,
                    max_backfill=self._max_backfill,
                    salt=self._rng.randrange(1, 10**6),
                    pause=self._pause,
                )
                async with aclosing(sync.batches()) as batches:
                    async for batch in batches:
                        self._ready.set()
                        yield batch
                        cursor, ended = batch.cursor, 0
            except LoggedOut as error:
                log.warning("logged_out", error=str(error))
                await self._pause(ended, None)
                ended += 1
            finally:
                await self._disconnect()

    async def connect(self) -> None:
        """Log in and make sure that the device is signed, without reading anything (for `hearth check`).

        Raises `Retryable` when the homeserver does not answer, `Misconfigured` when only the
        operator can help. `standing` and `device` are known afterwards.
        """
        if self._client is not None:
            return
        client = await self._session.client()
        try:
            # The device's keys must be known before anybody can vouch for them.
            await client.keep_keys()
            keeper = Keeper(
                client,
                user_id=self.account,
                device_id=self._session.device_id,
                folder=self._session.folder,
                password=self._session.password,
                recovery_key=self._recovery_key,
                clock=self._clock,
            )
            self.standing = await keeper.start()
        except BaseException:
            await client.shut()
            raise
        self._client, self._keeper = client, keeper
        # Without standing, what we have is no identity that anybody could look up.
        identity = keeper.identity
        user_signing = "" if identity is None else public(identity.user_signing)
        self._identities = Identities(client.call, self.account, user_signing)
        key = str(client.olm.account.identity_keys["ed25519"])
        self._verifications.attach(Line(client, self._identities, identity, self.device, key))
        self._invites = Invites(
            client,
            self._may_invite,
            wants_link=lambda bot: self.wants_link(bot.removeprefix("@")),
            link_offered=lambda bot: self.link_offered(bot.removeprefix("@")),
            pause=lambda tried: self._pause(tried, None),
            clock=self._clock,
        )
        self._links = link.Links(client, pause=lambda tried: self._pause(tried, None), clock=self._clock)

    async def _connect(self) -> None:
        tried = 0
        while True:
            try:
                await self.connect()
            except (Retryable, Refused, Broken) as error:
                if tried == 0:
                    log.warning("homeserver_not_answering", during="login", error=str(error))
                await self._pause(tried, error.after if isinstance(error, Retryable) else None)
                tried += 1
                continue
            log.info(
                "connected",
                account=self.account,
                device=self.device,
                standing=self.standing,
                attempts=tried + 1,
            )
            return

    async def _disconnect(self) -> None:
        self._ready.clear()
        invites, self._invites = self._invites, None
        links, self._links = self._links, None
        client, self._client, self._keeper = self._client, None, None
        await self._verifications.detach()
        if invites is not None:
            await invites.close()
        if links is not None:
            await links.close()
        if client is not None:
            await client.shut()

    async def _pause(self, tried: int, after: float | None) -> None:
        """Full-jitter backoff with a cap; never shorter than what the server asked for."""
        most = min(PAUSE_CAP, _PAUSE_FIRST * 2 ** min(tried, 16))
        await self._sleep(max(after or 0.0, most * self._rng.uniform(0.5, 1.0)))

    async def close(self) -> None:
        """Let go of the network and of the stores."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await self._disconnect()
        await self._session.close()

    # -- what we do --------------------------------------------------------------------------------

    async def perform(self, action: StoredAction) -> str | None:  # noqa: C901 - a table of kinds
        """Send `action` under its key; the event id, or where the file lies. One of the four families."""
        client = await self._synced()
        match action.action:
            case Redact(reason=reason):
                target = _target(action)
                body = {"reason": reason} if reason else {}
                path = ("v3", "rooms", action.place, "redact", target, action.key)
                answer = await client.call("PUT", path, body)
            case Revise() as revise:
                content = render.revise_content(revise, action.key, _target(action))
                answer = await self._send(client, action, content)
            case Upload() as upload:
                encrypt = await self._is_encrypted(client, action)
                return await media.upload(client, upload, encrypt=encrypt)
            case OpenPoll() as opened:
                answer = await self._send(
                    client, action, votes.start_content(opened, action.key), kind=poll.START
                )
            case ClosePoll() as closed:
                content = votes.end_content(closed, action.key, _target(action))
                answer = await self._send(client, action, content, kind=poll.END)
            case PutState() as put:
                await self._present(client, action.place)
                answer = await votes.put_state(client, action, put)
            case SendEnvelope() as send:
                answer = await self._send_envelope(client, action, send)
            case OpenLink() as wanted:
                assert self._links is not None
                assert self._invites is not None
                return await open_link(client, self._links.rooms, self._invites, wanted, action.attempts)
            case Say(upload=None) as say:
                answer = await self._send(client, action, render.say_content(say, action.key))
            case say:
                content = render.file_content(say, action.key, _uploaded(action))
                answer = await self._send(client, action, content)
        event_id = answer.get("event_id")
        if not isinstance(event_id, str):
            raise Retryable("send: the answer has no event_id")
        return event_id

    async def refresh(self, turn: Turn) -> Fresh:
        """Nothing to look for: the sync tells of every edit and redaction."""
        del turn
        return Fresh()

    async def fetch(self, attachment: Attachment, into: BinaryIO, limit: int) -> None:
        """Write the file of `attachment` to `into`; see `Platform.fetch`."""
        await media.fetch(await self._synced(), attachment, into, limit)

    async def find(self, action: StoredAction) -> str | Found:
        """Look for `action` in its room; see `Platform.find`."""
        return await search.find(await self._synced(), action)

    def withheld(self, place: str, session: str) -> str:
        """Why the key of a Megolm session was not given to us, as the sender's app says."""
        return "" if self._client is None else self._client.withheld.get((place, session), "")

    def reach(self, place: str) -> Reach | None:
        """Who can read us in a room as far as is known; None where it is not encrypted."""
        client = self._client
        if client is None or place not in client.encrypted_rooms:
            return None
        devices, without = client.reached(place)
        return Reach("" if self.standing is None else str(self.standing), devices, without)

    @property
    def server_time(self) -> int | None:
        """The homeserver's clock at its last answer (ms)."""
        return None if self._client is None else self._client.server_time

    async def ballots(self, place: str, poll: str) -> tuple[Ballot, ...]:
        """Read every vote on a poll back from its room; see `Platform.ballots`."""
        client = await self._synced()
        await self._present(client, place)
        return await votes.ballots(client, place, poll, self._own_name)

    def parts(self, text: str, reply_to: str | None = None) -> Parts:
        """Cut Markdown into pieces that each fit one event, encrypted."""
        del reply_to
        return Parts(render.parts(text))

    async def _synced(self) -> Client:
        try:
            await asyncio.wait_for(self._ready.wait(), _READY_DEADLINE)
        except TimeoutError:
            raise Retryable("not connected to the homeserver") from None
        if self._client is None:
            raise Retryable("not connected to the homeserver")
        return self._client

    async def _send_envelope(
        self, client: Client, action: StoredAction, send: SendEnvelope
    ) -> dict[str, Any]:
        """Send an envelope where the room links us with a bot that is there, once it can read it."""
        content = link.envelope_content(send, action.key)
        await self._present(client, action.place)
        peers = self._links.peers(action.place) if self._links is not None else frozenset()
        if not peers:
            raise Refused("not_linked", "the room links no other bot that is in it; link the two again")
        return await self._send(client, action, content, ENVELOPE, must_reach=peers)

    async def _send(
        self,
        client: Client,
        action: StoredAction,
        content: dict[str, Any],
        kind: str = "m.room.message",
        *,
        must_reach: frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        encrypt = await self._is_encrypted(client, action)
        try:
            return await self._put(
                client, action.place, content, action.key, encrypt=encrypt, kind=kind, must_reach=must_reach
            )
        except Refused as error:
            sent = "m.room.encrypted" if encrypt else kind
            raise await votes.explained(client, action.place, error, sent) from error

    async def _is_encrypted(self, client: Client, action: StoredAction) -> bool:
        """Whether what is sent to the action's room must be encrypted; raises where we are not in it."""
        await self._present(client, action.place)
        if action.must_encrypt and not client.rooms[action.place].encrypted:
            # The journal remembers what a server may claim to have forgotten.
            client.must_encrypt(action.place)
        return bool(client.rooms[action.place].encrypted)

    async def _present(self, client: Client, place: str) -> None:
        """Return where we are in the room, and the sync has told of it; raise what it means otherwise."""
        if place not in client.rooms:
            await self._explain_absence(client, place)

    async def _put(
        self,
        client: Client,
        place: str,
        content: dict[str, Any],
        key: str,
        *,
        encrypt: bool,
        kind: str = "m.room.message",
        deadline: float = 30.0,
        must_reach: frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        if encrypt:
            kind, content = await client.sealed_for(place, kind, content, must_reach=must_reach)
        path = ("v3", "rooms", place, "send", kind, key)
        return await client.call("PUT", path, content, deadline=deadline)

    async def _explain_absence(self, client: Client, place: str) -> None:
        """Raise what it means that the sync did not tell of a room: not there yet, or not ours."""
        path = ("v3", "rooms", place, "state", "m.room.member", self.account)
        member = await client.call("GET", path)
        if member.get("membership") == "join":
            raise Retryable("the room has not been synced yet", 2.0)
        raise Refused("M_FORBIDDEN", "the bot is no longer in the room; invite it again")

    # -- what nobody waits for ---------------------------------------------------------------------

    async def acknowledge(self, place: str, event_id: str, thread: str | None) -> None:
        """Send a read receipt, in the background."""
        path = ("v3", "rooms", place, "receipt", "m.read", event_id)
        body = {"thread_id": thread} if thread is not None else {}
        self._start("receipt", lambda client: client.call("POST", path, body, deadline=_SOFT_DEADLINE))

    async def typing(self, place: str, *, on: bool) -> None:
        """Show or end the typing notice, in the background; the last wish of a place wins."""
        waiting = place in self._typing
        self._typing[place] = on
        if not waiting and not self._start("typing", lambda client: self._type(client, place, shown=not on)):
            del self._typing[place]

    async def _type(self, client: Client, place: str, *, shown: bool) -> None:
        path = ("v3", "rooms", place, "typing", self.account)
        try:
            while self._typing[place] != shown:
                shown = self._typing[place]
                body: dict[str, Any] = {"typing": shown}
                if shown:
                    body["timeout"] = _TYPING_MS
                await client.call("PUT", path, body, deadline=_SOFT_DEADLINE)
        finally:
            del self._typing[place]

    async def progress(self, shown: Ephemeral) -> None:
        """Edit the draft to show `text`, once, under a random id; never raises."""
        client = self._client if self._ready.is_set() else None
        if shown.answer is None or client is None or shown.place not in client.rooms:
            return
        content = render.progress_content(render.parts(shown.text)[0], shown.answer, shown.mentions)
        try:
            await self._put(
                client,
                shown.place,
                content,
                str(uuid.uuid4()),
                encrypt=client.rooms[shown.place].encrypted,
                deadline=_SOFT_DEADLINE,
            )
        except PlatformError as error:
            log.debug("progress_not_shown", place=shown.place, error=str(error))

    def _start(self, what: str, work: Callable[[Client], Awaitable[object]]) -> bool:
        client = self._client
        if client is None or not self._ready.is_set() or len(self._beside) >= _BESIDE:
            return False
        task = asyncio.create_task(_quietly(what, lambda: work(client)))
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return True


async def _quietly(what: str, work: Callable[[], Awaitable[object]]) -> None:
    try:
        await work()
    except PlatformError as error:
        log.debug("not_shown", what=what, error=str(error))


def _target(action: StoredAction) -> str:
    if action.target is None:
        raise Broken(f"{action.action.kind}: the message that it refers to was never sent")
    return action.target


def _uploaded(action: StoredAction) -> dict[str, Any]:
    target = _target(action)
    if files.parsed(target) is None:
        raise Broken("say: what it shows is not an upload of ours")
    uploaded: dict[str, Any] = json.loads(target)
    return uploaded
