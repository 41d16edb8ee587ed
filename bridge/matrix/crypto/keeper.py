"""What becomes of the account's keys at each start, and on each round of the sync loop.

    start   recovery key --> secret storage --> identity: ours, joined from there, made, or FOREIGN
            settled as far as the server answers: the identity in secret storage, the backup open, restored
    round   what was not settled, and a batch of room keys into the backup

Owns `recovery-key` beside `cross-signing.json`, made with the first identity and never changed after.
Promises: a recovery key is on disk before anything is sealed with it; a wrong one changes nothing on the
server; after a failure of the server nothing is tried again before a pause that grows. The bot answers
also while none of this works: only an operator's wrong key stops it.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

import structlog

from bridge.credentials import MATRIX_RECOVERY_KEY
from bridge.matrix.crypto import recovery, vault
from bridge.matrix.crypto.backup import Backing, Backup
from bridge.matrix.crypto.ledger import Ledger
from bridge.matrix.crypto.room_keys import RoomKeys
from bridge.matrix.crypto.storage import IDENTITY, Storage, Storing
from bridge.matrix.errors import LoggedOut
from bridge.matrix.identity import Identity, Standing, ensure_signed, load
from bridge.matrix.session import write_private
from bridge.platform import Misconfigured, PlatformError, Retryable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bridge.matrix.client import Client
    from bridge.matrix.identity import Publics

log = structlog.get_logger(__name__)

RECOVERY_FILE: Final = "recovery-key"
IDENTITY_FILE: Final = "cross-signing.json"
PAUSE_FIRST: Final = 30.0
PAUSE_CAP: Final = 3600.0

STORAGE_REMEDIES: Final = {
    Storing.NO_KEY: (
        f"give the account's recovery key as credential {MATRIX_RECOVERY_KEY}, so that Hearth can keep its "
        "identity there"
    ),
    Storing.WRONG_KEY: (
        "the recovery key of this account was changed in another client; give the new one as credential "
        f"{MATRIX_RECOVERY_KEY} and restart"
    ),
    Storing.UNKNOWN: (
        "secret storage of this account uses an algorithm that Hearth does not know; keep a copy of "
        "cross-signing.json in a safe place"
    ),
}
BACKUP_REMEDIES: Final = {
    Backing.FOREIGN: (
        "delete this key backup in the client that made it (in Element: Settings, Encryption), then "
        "restart; Hearth makes its own"
    ),
    Backing.OFF: "switch key storage on in the client that switched it off, then restart",
    Backing.NO_STORAGE: "see what is said of the secret storage: the backup's own key has to be kept there",
}


def read_recovery_key(folder: Path, given: str | None) -> bytes | None:
    """The recovery key: what the operator has `given`, else our own; None where there is none.

    Raises `Misconfigured`. Blocking.
    """
    path, text = MATRIX_RECOVERY_KEY, given
    if text is None:
        try:
            text = (folder / RECOVERY_FILE).read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(str(folder / RECOVERY_FILE), f"cannot be read ({error})") from error
        path = str(folder / RECOVERY_FILE)
    try:
        return recovery.decode(text)
    except recovery.NotAKeyError as error:
        raise Misconfigured(
            path, f"this is not a recovery key ({error}); write it as it was shown"
        ) from error


class Keeper:
    """The account's keys for the life of one client. `recovery_key` is what the operator gave, or None."""

    def __init__(
        self,
        client: Client,
        *,
        user_id: str,
        device_id: str,
        folder: Path,
        password: str | None,
        recovery_key: str | None,
        clock: Callable[[], float],
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.backup: Backup | None = None
        """None until there is an identity of ours."""
        self._client = client
        self._user = user_id
        self._device = device_id
        self._folder = folder
        self._password = password
        self._given = recovery_key
        self._clock = clock
        self._random = random
        self._storage = Storage(client.call, user_id, random)
        self._identity: Identity | None = None
        self._key: bytes | None = None
        self._stored = False
        self._again_at = clock()
        self._pause = PAUSE_FIRST

    async def start(self) -> Standing:
        """Make sure that this device is vouched for, and settle the rest as far as the server answers.

        Raises one of the four families: `Misconfigured` where the recovery key given is not the account's.
        """
        self._key = await asyncio.to_thread(read_recovery_key, self._folder, self._given)
        state = await self._storage.look(self._key)
        if state is Storing.WRONG_KEY and self._given is not None:
            raise Misconfigured(
                MATRIX_RECOVERY_KEY,
                f"this recovery key does not open the secret storage of {self._user}; give the one that the "
                "account was set up with, or remove the credential",
            )
        standing = await ensure_signed(
            self._client.call,
            user_id=self._user,
            device_id=self._device,
            path=self._folder / IDENTITY_FILE,
            password=self._password,
            sign_as_device=self._client.olm.account.sign,
            join=self._join,
        )
        if standing is Standing.SIGNED:
            self._identity = await asyncio.to_thread(load, self._folder / IDENTITY_FILE)
        await self.round()
        return standing

    async def round(self) -> None:
        """Do what is left to do, unless it is too early after a failure. Raises `LoggedOut` only."""
        if self._identity is None or self._clock() < self._again_at:
            return
        try:
            await self._settle(self._identity)
        except LoggedOut:
            raise
        except PlatformError as error:
            wait = error.after if isinstance(error, Retryable) else None
            self._again_at = self._clock() + max(wait or 0.0, self._pause)
            log.warning("keys_not_safe_yet", error=str(error), again_in=round(self._again_at - self._clock()))
            self._pause = min(PAUSE_CAP, self._pause * 2)
        else:
            self._pause = PAUSE_FIRST

    @property
    def identity(self) -> Identity | None:
        """Ours, where it vouches for this device."""
        return self._identity

    def take_news(self) -> bool:
        """Whether room keys came out of the backup since this was asked last."""
        if self.backup is None or not self.backup.news:
            return False
        self.backup.news = False
        return True

    # -- the identity ------------------------------------------------------------------------------

    async def _join(self, published: Publics) -> Identity | None:
        """The identity in secret storage, where it is the published one; None where there is none for us."""
        if self._storage.state is not Storing.OPEN:
            if self._given is not None and published[0] is not None:
                raise Misconfigured(
                    MATRIX_RECOVERY_KEY,
                    f"{self._user} has an identity, but it is not in secret storage, so that no recovery key "
                    "opens it; set recovery up in the client that has it, or use another account",
                )
            return None
        try:
            seeds = {usage: await self._storage.secret(name) for usage, name in IDENTITY.items()}
            identity = Identity.from_seeds({usage: seed for usage, seed in seeds.items() if seed is not None})
        except (vault.SealedError, ValueError, KeyError) as error:
            found = f"its secret storage holds no whole identity ({error})"
        else:
            if published[0] is None or identity.publics() == published:
                return identity
            found = "the identity in its secret storage is not the one that the homeserver tells"
        log.warning("identity_not_in_storage", user=self._user, found=found)
        if self._given is not None and published[0] is not None:
            raise Misconfigured(
                MATRIX_RECOVERY_KEY,
                f"it opens the secret storage of {self._user}, but {found}; set recovery up again in the "
                "client that has the identity, or use another account",
            )
        return None

    # -- what is kept on the server ----------------------------------------------------------------

    async def _settle(self, identity: Identity) -> None:
        if not self._stored:
            await self._store(identity)
            self._stored = True
        if self.backup is None:
            account = self._client.olm.account
            self.backup = Backup(
                self._client.call,
                user_id=self._user,
                device_id=self._device,
                fingerprint=str(account.identity_keys["ed25519"]),
                identity=identity,
                storage=self._storage,
                room_keys=RoomKeys(self._client),
                ledger=Ledger(self._folder),
                folder=self._folder,
                sign_as_device=account.sign,
                random=self._random,
                clock=self._clock,
            )
        if self.backup.state is Backing.UNKNOWN:
            state = await self.backup.open()
            if state in BACKUP_REMEDIES:
                log.warning("room_keys_not_backed_up", state=state, remedy=BACKUP_REMEDIES[state])
        await self.backup.round()

    async def _store(self, identity: Identity) -> None:
        """The identity into secret storage, which is made where there is none."""
        seeds = identity.seeds()
        kept = {name: seeds[usage] for usage, name in IDENTITY.items()}
        state = self._storage.state
        if state is Storing.OPEN:
            changed = await self._storage.keep(kept)
            if changed:
                log.info("identity_stored", secrets=changed)
        elif state is Storing.ABSENT:
            if self._key is None:
                self._key = self._random(recovery.KEY_BYTES)
                path = self._folder / RECOVERY_FILE
                await asyncio.to_thread(write_private, path, recovery.encode(self._key) + "\n")
                log.warning("recovery_key_made", path=str(path), remedy="keep a copy of it in a safe place")
            await self._storage.make(self._key, kept)
            log.info("identity_stored", secrets=list(kept))
        else:
            log.warning("identity_not_stored", state=state, remedy=STORAGE_REMEDIES[state])
