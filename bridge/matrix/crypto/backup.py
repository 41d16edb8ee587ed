"""The backup of the room keys on the homeserver: made, trusted or not, filled, read back.

    open:   none there --> made, its key kept in secret storage and beside the identity
            one there  --> signed by us, or the key that we hold opens it: READY; else FOREIGN, left alone
    round:  a restore that is due, then at most one batch of what is not in the backup yet

Promises: a key goes only into a backup that our identity or our own key vouches for; what was not uploaded
is, later, whatever happens in between; one batch a round. What a key that comes back proves: `room_keys`.
Refuses to make a backup whose own key it could not keep in secret storage: a lost disk would lose both.

Source: client-server API 1.19, "Server-side key backups", "Key backup enabled preference" (MSC4287).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import structlog
import vodozemac

from bridge.matrix.crypto import vault
from bridge.matrix.crypto.recovery import KEY_BYTES
from bridge.matrix.crypto.room_keys import UnusableError, opened, sealed
from bridge.matrix.crypto.storage import BACKUP, Storing
from bridge.matrix.identity import canonical, is_signed_by, public, sign, unpadded
from bridge.matrix.session import write_private
from bridge.platform import Broken, Retryable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nio.crypto import InboundGroupSession

    from bridge.matrix.crypto.ledger import Ledger
    from bridge.matrix.crypto.room_keys import RoomKeys
    from bridge.matrix.crypto.storage import Storage
    from bridge.matrix.identity import Caller, Identity

log = structlog.get_logger(__name__)

ALGORITHM: Final = "m.megolm_backup.v1.curve25519-aes-sha2"
PREFERENCE: Final = "m.key_backup"
KEY_FILE: Final = "key-backup.json"
BATCH: Final = 100
"""Room keys in one request: about 100 kB."""

_SLICE: Final = 100
_RESTORE_DEADLINE: Final = 300.0
_FORGET_MISSING: Final = 300.0
_MISSING: Final = 1000
_VERSION: Final = ("v3", "room_keys", "version")
_KEYS: Final = ("v3", "room_keys", "keys")
_NOT_FOUND: Final = frozenset({404})
_NOT_WRITABLE: Final = frozenset({403, 404})


class Backing(StrEnum):
    """How the backup is."""

    UNKNOWN = "unknown"
    """Not looked at yet, or no longer what it was."""
    READY = "ready"
    """Ours: filled as keys come in."""
    OFF = "off"
    """The account's owner has switched backups off in a client."""
    FOREIGN = "foreign"
    """There is one that nobody of ours vouches for: nothing goes into it and nothing comes out."""
    NO_STORAGE = "no storage"
    """None is made, because its key could not be kept in secret storage."""


class Voucher(StrEnum):
    """Who vouches for a backup."""

    MASTER = "our identity"
    DEVICE = "this device"
    KEY = "its key, which is ours"


def voucher(
    auth_data: Mapping[str, Any],
    *,
    user_id: str,
    device_id: str,
    master: str,
    fingerprint: str,
    keys: list[bytes],
) -> Voucher | None:
    """Who of ours vouches for the `auth_data` of a backup; None for nobody. Pure.

    `master` and `fingerprint` are the public Ed25519 keys of our identity and of this device (unpadded
    base64), `keys` the private keys that we hold from a trusted source.
    """
    told = auth_data.get("public_key")
    if not isinstance(told, str):
        return None
    if is_signed_by(auth_data, user_id, master):
        return Voucher.MASTER
    # A device signs under its id, everybody else under the key itself.
    signatures = auth_data.get("signatures")
    by_us = signatures.get(user_id) if isinstance(signatures, dict) else None
    by_device = by_us.get(f"ed25519:{device_id}") if isinstance(by_us, dict) else None
    if is_signed_by(
        {**auth_data, "signatures": {user_id: {f"ed25519:{fingerprint}": by_device}}}, user_id, fingerprint
    ):
        return Voucher.DEVICE
    if any(public_of(key) == told.rstrip("=") for key in keys):
        return Voucher.KEY
    return None


def public_of(key: bytes) -> str:
    """The public half of a backup's key, unpadded base64."""
    return str(vodozemac.Curve25519SecretKey.from_bytes(key).public_key().to_base64())


@dataclass(slots=True)
class _Kept:
    """`key-backup.json`: the backup's private key, and the version it was for; `""` before there was one."""

    key: bytes | None = None
    version: str = ""


class Backup:
    """The backup of one account, for the life of one client; `open` before anything else."""

    def __init__(
        self,
        call: Caller,
        *,
        user_id: str,
        device_id: str,
        fingerprint: str,
        identity: Identity,
        storage: Storage,
        room_keys: RoomKeys,
        ledger: Ledger,
        folder: Path,
        sign_as_device: Callable[[str], str],
        random: Callable[[int], bytes],
        clock: Callable[[], float],
    ) -> None:
        self.state = Backing.UNKNOWN
        self.version = ""
        self.news = False
        """Whether room keys came out of the backup since somebody set this to False."""
        self._call = call
        self._user = user_id
        self._device = device_id
        self._fingerprint = fingerprint
        self._identity = identity
        self._storage = storage
        self._room_keys = room_keys
        self._ledger = ledger
        self._path = folder / KEY_FILE
        self._sign_as_device = sign_as_device
        self._random = random
        self._clock = clock
        self._public: vodozemac.Curve25519PublicKey | None = None
        self._private: vodozemac.PkDecryption | None = None
        self._uploaded: dict[str, int] = {}
        self._imported: set[str] = set()
        self._seen: dict[str, InboundGroupSession] = {}
        self._restore = False
        self._missing: dict[tuple[str, str], float] = {}

    # -- which backup ------------------------------------------------------------------------------

    async def open(self) -> Backing:
        """Find the backup, or make it; raises one of the four families."""
        if (await self._storage.content(PREFERENCE)).get("enabled") is False:
            return self._be(Backing.OFF)
        kept = await asyncio.to_thread(_load, self._path)
        stored = await self._stored_key()
        there = await self._call("GET", _VERSION, accept=_NOT_FOUND)
        if "errcode" in there:
            return await self._make(kept, stored)
        auth_data = there.get("auth_data")
        auth_data = auth_data if isinstance(auth_data, dict) else {}
        keys = [key for key in (kept.key, stored) if key is not None]
        vouching = voucher(
            auth_data,
            user_id=self._user,
            device_id=self._device,
            master=public(self._identity.master),
            fingerprint=self._fingerprint,
            keys=keys,
        )
        if there.get("algorithm") != ALGORITHM or vouching is None:
            return self._be(Backing.FOREIGN)
        told = str(auth_data["public_key"]).rstrip("=")
        private = next((key for key in keys if public_of(key) == told), None)
        return await self._use(str(there.get("version")), told, private, kept)

    async def _make(self, kept: _Kept, stored: bytes | None) -> Backing:
        if self._storage.state is not Storing.OPEN:
            return self._be(Backing.NO_STORAGE)
        if kept.version:
            log.warning("key_backup_deleted_by_somebody", version=kept.version)
        key = stored or kept.key or self._random(KEY_BYTES)
        # Kept before it is used: twice, so that neither a lost disk nor a lost recovery key loses the backup.
        await self._keep(_Kept(key, ""))
        await self._storage.keep({BACKUP: unpadded(key)})
        auth_data: dict[str, Any] = {"public_key": public_of(key)}
        by_device = self._sign_as_device(canonical(auth_data).decode())
        sign(auth_data, self._user, public(self._identity.master), self._identity.master)
        auth_data["signatures"][self._user][f"ed25519:{self._device}"] = by_device
        made = await self._call("POST", _VERSION, {"algorithm": ALGORITHM, "auth_data": auth_data})
        if not isinstance(made.get("version"), str):
            raise Broken("POST room_keys/version: the answer has no version")
        await self._storage.put(PREFERENCE, {"enabled": True})
        log.info("key_backup_made", version=made["version"])
        return await self._use(made["version"], auth_data["public_key"], key, _Kept(), made=True)

    async def _use(
        self, version: str, told: str, private: bytes | None, kept: _Kept, *, made: bool = False
    ) -> Backing:
        try:
            self._public = vodozemac.Curve25519PublicKey.from_base64(told)
        except ValueError:
            return self._be(Backing.FOREIGN)
        self.version, self._private = version, None
        if private is not None:
            self._private = vodozemac.PkDecryption.from_key(vodozemac.Curve25519SecretKey.from_bytes(private))
            if self._storage.state is Storing.OPEN:
                await self._storage.keep({BACKUP: unpadded(private)})
            if (kept.key, kept.version) != (private, version):
                await self._keep(_Kept(private, version))
        self._uploaded = await asyncio.to_thread(self._ledger.uploaded, version)
        self._imported = set(await asyncio.to_thread(self._ledger.imported))
        self._seen = {}
        self._restore = self._private is not None and await asyncio.to_thread(self._ledger.restoring, version)
        if self._private is not None and not made and not any(True for _ in self._room_keys):
            # Remembered on disk: half of it read and then a crash would not look empty any more.
            await asyncio.to_thread(self._ledger.begin_restore, version)
            self._restore = True
        return self._be(Backing.READY)

    async def _stored_key(self) -> bytes | None:
        if self._storage.state is not Storing.OPEN:
            return None
        try:
            secret = await self._storage.secret(BACKUP)
            return None if secret is None else vault.unbase64(secret, KEY_BYTES)
        except vault.SealedError as error:
            log.warning("key_backup_secret_unreadable", error=str(error))
            return None

    async def _keep(self, kept: _Kept) -> None:
        assert kept.key is not None
        text = json.dumps({"key": unpadded(kept.key), "version": kept.version}, indent=1)
        await asyncio.to_thread(write_private, self._path, text)

    def _be(self, state: Backing) -> Backing:
        self.state = state
        return state

    # -- out of the store, into the backup ---------------------------------------------------------

    async def round(self) -> None:
        """Read the backup back where that is due, else upload one batch; raises one of the four families."""
        if self.state is not Backing.READY:
            return
        try:
            if self._restore:
                await self._restore_all()
        finally:
            await self._upload()

    async def _upload(self) -> None:
        assert self._public is not None
        batch = await self._next_batch()
        if not batch:
            return
        rooms: dict[str, dict[str, dict[str, Any]]] = {}
        for session_id, session in batch.items():
            ours = session_id not in self._imported and self._room_keys.is_ours(session)
            sessions = rooms.setdefault(session.room_id, {"sessions": {}})["sessions"]
            sessions[session_id] = sealed(session, self._public, ours=ours)
        told = await self._call(
            "PUT", _KEYS, {"rooms": rooms}, query={"version": self.version}, accept=_NOT_WRITABLE
        )
        if "errcode" in told:
            # Replaced or deleted by another client: which one is used is found out anew.
            self.state = Backing.UNKNOWN
            raise Retryable(f"PUT room_keys: {told.get('errcode')}")
        indices = {session_id: session.first_known_index for session_id, session in batch.items()}
        await asyncio.to_thread(self._ledger.record, self.version, indices)
        self._uploaded |= indices
        self._seen |= batch
        log.debug("room_keys_backed_up", count=len(batch), version=self.version)

    async def _next_batch(self) -> dict[str, InboundGroupSession]:
        """What is not in the backup, or not from as early a message; at most `BATCH`."""
        batch: dict[str, InboundGroupSession] = {}
        received = []
        for session_id, session in self._room_keys:
            before = self._seen.get(session_id)
            if before is session:
                continue
            if before is not None and session_id in self._imported:
                received.append(session_id)
            if session.first_known_index >= self._uploaded.get(session_id, session.first_known_index + 1):
                self._seen[session_id] = session
                continue
            batch[session_id] = session
            if len(batch) >= BATCH:
                break
        if received:
            self._imported.difference_update(received)
            await asyncio.to_thread(self._ledger.received, received)
        return batch

    # -- out of the backup, into the store ---------------------------------------------------------

    def is_imported(self, session_id: str) -> bool:
        """Whether we have this session from a backup only: its sender is the server's say-so."""
        return session_id in self._imported

    async def fetch(self, room_id: str, session_id: str) -> bool:
        """Look for one session in the backup and keep it; whether anything new came of it.

        What is not there, or not from an earlier message than we have it, is not asked for again for
        five minutes. Raises one of the four families.
        """
        if self.state is not Backing.READY or self._private is None:
            return False
        now = self._clock()
        if self._missing.get((room_id, session_id), now) > now:
            return False
        path = (*_KEYS, room_id, session_id)
        data = await self._call("GET", path, query={"version": self.version}, accept=_NOT_FOUND)
        taken = [] if "errcode" in data else await self._take({(room_id, session_id): data})
        if not taken:
            self._missing[room_id, session_id] = now + _FORGET_MISSING
            while len(self._missing) > _MISSING:
                self._missing.pop(next(iter(self._missing)))
        return bool(taken)

    async def _restore_all(self) -> None:
        told = await self._call(
            "GET", _KEYS, query={"version": self.version}, deadline=_RESTORE_DEADLINE, accept=_NOT_FOUND
        )
        if "errcode" in told:
            self.state = Backing.UNKNOWN
            raise Retryable(f"GET room_keys: {told.get('errcode')}")
        rooms = told.get("rooms")
        found: dict[tuple[str, str], Any] = {}
        for room_id, room in rooms.items() if isinstance(rooms, dict) else ():
            sessions = room.get("sessions") if isinstance(room, dict) else None
            for session_id, data in sessions.items() if isinstance(sessions, dict) else ():
                found[room_id, session_id] = data
        taken = 0
        for at in range(0, len(found), _SLICE):
            taken += len(await self._take(dict(list(found.items())[at : at + _SLICE])))
            await asyncio.sleep(0)  # opening them is work; whoever else runs gets a turn
        await asyncio.to_thread(self._ledger.end_restore)
        self._restore = False
        if found:
            log.info("room_keys_restored", found=len(found), taken=taken, version=self.version)

    async def _take(self, found: Mapping[tuple[str, str], object]) -> list[InboundGroupSession]:
        assert self._private is not None
        known = {session_id for session_id, _ in self._room_keys}
        sessions = []
        for (room_id, session_id), data in found.items():
            try:
                sessions.append(opened(data, self._private, room_id, session_id))
            except UnusableError as error:
                log.warning("backed_up_key_unusable", place=room_id, error=str(error))
        wanted = self._room_keys.wanted(sessions)
        if not wanted:
            return []
        # Noted before it is kept: after a crash in between it must not look as if its sender gave it to us.
        news = {session.id: session.first_known_index for session in wanted if session.id not in known}
        longer = {session.id: session.first_known_index for session in wanted if session.id in known}
        await asyncio.to_thread(self._ledger.record, self.version, news, imported=True)
        await asyncio.to_thread(self._ledger.record, self.version, longer)
        self._room_keys.keep(wanted)
        self._uploaded |= news | longer
        self._imported |= set(news)
        self._seen |= {session.id: session for session in wanted}
        self.news = True
        return wanted


def _load(path: Path) -> _Kept:
    """What is on disk; a file that cannot be read counts as none, as secret storage has the key too."""
    try:
        told = json.loads(path.read_text("utf-8"))
        return _Kept(vault.unbase64(told["key"], KEY_BYTES), str(told["version"]))
    except FileNotFoundError:
        return _Kept()
    except (ValueError, KeyError, TypeError) as error:
        log.warning("key_backup_file_damaged", path=str(path), error=type(error).__name__)
        return _Kept()
