"""The bot's identity in secret storage on its server, under a recovery key that the operator keeps.

    no identity here, one on the server --recovery key--> the secrets there --> the same identity here
    identity here ----------------------recovery key--> its secrets lie on the server, for a lost disk

Owns the account data `m.secret_storage.default_key`, `m.secret_storage.key.<id>` and `m.cross_signing.*`.
Promises that what is read is believed only if its public keys are those that the server shows, that what
somebody else keeps there under another key is left as it is, and that no secret is ever sent in clear.

Source: client-server API, "Secret storage" and "Cross-signing".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from bridge.credentials import MATRIX_RECOVERY_KEY as CREDENTIAL
from bridge.matrix.crypto import recovery, vault
from bridge.platform import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.matrix.identity import Caller

log = structlog.get_logger(__name__)

DEFAULT: Final = "m.secret_storage.default_key"
KEY: Final = "m.secret_storage.key."
SECRETS: Final[Mapping[str, str]] = {
    usage: f"m.cross_signing.{usage}" for usage in ("master", "self_signing", "user_signing")
}
"""By what the key is used for, the name of its seed: unpadded base64 of 32 bytes."""
_NOT_FOUND: Final = 404
_ID_BYTES: Final = 16


class Kept(StrEnum):
    """How the identity stands in secret storage."""

    HERE = "here"
    """All three secrets, under our recovery key."""
    OTHERS = "others"
    """There is a secret storage under a key that is not ours."""
    NONE = "none"
    """There is none."""


class RecoveryKey(Protocol):
    """Where the operator keeps the recovery key (a credential file); both block."""

    def get(self) -> str | None:
        """As it was written down, or None."""
        ...

    def put(self, text: str) -> None:
        """Keep a new one."""
        ...


@dataclass(frozen=True, slots=True)
class SecretStorage:
    """The secret storage of one account. `random` gives that many bytes, never the same twice."""

    call: Caller
    user_id: str
    kept: RecoveryKey
    random: Callable[[int], bytes]

    async def restored(self) -> dict[str, str] | None:
        """The seeds of the identity by use, as the server keeps them; None without a key or a storage.

        Raises `Misconfigured` where the key is none, or does not open what is there.
        """
        key = await self._key()
        if key is None:
            return None
        name = await self._default()
        if name is None:
            return None
        if not vault.is_of(key, await self._data(KEY + name)):
            raise Misconfigured(
                CREDENTIAL, "it is not the recovery key of this account; correct it, or remove it"
            )
        seeds = {}
        for usage, secret in SECRETS.items():
            sealed = (await self._data(secret)).get("encrypted")
            try:
                opened = vault.unseal(key, secret, sealed.get(name) if isinstance(sealed, dict) else None)
                seeds[usage] = opened.decode("ascii").strip()
            except (vault.WrongKey, UnicodeDecodeError):
                log.warning("secret_not_stored", secret=secret)
                return None
        return seeds

    async def keep(self, seeds: Mapping[str, str]) -> Kept:
        """Make sure that the server keeps the identity under our recovery key; where there is none, make it.

        A storage under another key is somebody's who set up this account elsewhere; it stays as it is.
        """
        key, name = await self._key(), await self._default()
        if name is not None:
            told = await self._data(KEY + name)
            if key is None or not vault.is_of(key, told):
                log.info("secret_storage_of_others", user=self.user_id)
                return Kept.OTHERS
        if key is None:
            key = self.random(32)
            # Kept before it is used: a crash in between must not leave secrets that nobody can open.
            await asyncio.to_thread(self.kept.put, recovery.encode(key))
            log.info("recovery_key_made", user=self.user_id, credential=CREDENTIAL)
        if name is None:
            name = self.random(_ID_BYTES).hex()
            await self._put(KEY + name, vault.description(key, self.random(vault.IV_BYTES)))
        for usage, secret in SECRETS.items():
            await self._keep_one(key, name, secret, seeds[usage].encode())
        if await self._default() != name:  # last: what it points at is there
            await self._put(DEFAULT, {"key": name})
        return Kept.HERE

    async def state(self) -> Kept:
        """How it stands; changes nothing. Raises `Misconfigured` where the recovery key is none."""
        key, name = await self._key(), await self._default()
        if name is None:
            return Kept.NONE
        if key is None or not vault.is_of(key, await self._data(KEY + name)):
            return Kept.OTHERS
        return Kept.HERE if await self.restored() is not None else Kept.NONE

    async def _keep_one(self, key: bytes, name: str, secret: str, seed: bytes) -> None:
        there = (await self._data(secret)).get("encrypted")
        encrypted = there if isinstance(there, dict) else {}
        try:
            if vault.unseal(key, secret, encrypted.get(name)) == seed:
                return
        except vault.WrongKey:
            pass
        sealed = vault.seal(key, secret, seed, self.random(vault.IV_BYTES)).plain()
        await self._put(secret, {"encrypted": {**encrypted, name: sealed}})

    async def _key(self) -> bytes | None:
        text = await asyncio.to_thread(self.kept.get)
        try:
            return None if text is None else recovery.decode(text)
        except recovery.NoRecoveryKey as error:
            raise Misconfigured(CREDENTIAL, f"is no recovery key: {error}") from error

    async def _default(self) -> str | None:
        name = (await self._data(DEFAULT)).get("key")
        return name if isinstance(name, str) and name else None

    async def _data(self, kind: str) -> dict[str, Any]:
        found = await self.call("GET", self._path(kind), accept=frozenset({_NOT_FOUND}))
        return {} if "errcode" in found else found

    async def _put(self, kind: str, content: Mapping[str, Any]) -> None:
        await self.call("PUT", self._path(kind), content)

    def _path(self, kind: str) -> tuple[str, ...]:
        return ("v3", "user", self.user_id, "account_data", kind)
