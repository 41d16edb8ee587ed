"""The account data of secret storage: which key it has, whether ours opens it, secrets read and kept.

    m.secret_storage.default_key      {key: <id>}
    m.secret_storage.key.<id>         what the key can be tried on
    m.cross_signing.master, ...       {encrypted: {<id>: {iv, ciphertext, mac}}}

Promises: nothing that another key seals is removed; a key is the default one only once the secrets under
it are there. Refuses to write under a key that the account does not have. Source: client-server API 1.19,
"Secrets", "Storage".
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from bridge.matrix.crypto import vault
from bridge.matrix.identity import unpadded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.matrix.identity import Caller

IDENTITY: Final[Mapping[str, str]] = {
    "master": "m.cross_signing.master",
    "self_signing": "m.cross_signing.self_signing",
    "user_signing": "m.cross_signing.user_signing",
}
"""The secrets with the seeds of an identity, by what a key is for."""
BACKUP: Final = "m.megolm_backup.v1"
"""The secret with the key that opens the backup of the room keys."""

_DEFAULT: Final = "m.secret_storage.default_key"
_KEY: Final = "m.secret_storage.key."
_NAME: Final = "Hearth"
_ID_BYTES: Final = 24
_ABSENT: Final = frozenset({404})


class Storing(StrEnum):
    """What we can do with the secret storage of the account."""

    ABSENT = "absent"
    """There is none."""
    OPEN = "open"
    """Our recovery key is its key."""
    NO_KEY = "no key"
    """There is one, and no recovery key here to try on it."""
    WRONG_KEY = "wrong key"
    """There is one, and our recovery key does not open it."""
    UNKNOWN = "unknown"
    """There is one of a kind that Hearth does not know."""


class Storage:
    """Secret storage of one account, seen with the key that we have; `look` before anything else."""

    def __init__(self, call: Caller, user_id: str, random: Callable[[int], bytes]) -> None:
        self.state = Storing.ABSENT
        self._call = call
        self._user = user_id
        self._random = random
        self._key: bytes | None = None
        self._key_id = ""

    async def look(self, key: bytes | None) -> Storing:
        """Find out what `key` can do; raises one of the four families."""
        self._key, self._key_id = key, ""
        chosen = (await self.content(_DEFAULT)).get("key")
        # Clients take account data back by writing {}: a key that nobody describes is none.
        description = await self.content(_KEY + chosen) if isinstance(chosen, str) and chosen else {}
        if not description:
            self.state = Storing.ABSENT
        elif key is None:
            self.state = Storing.NO_KEY
        else:
            self._key_id = str(chosen)
            try:
                fitting = vault.fits(key, description)
                self.state = Storing.OPEN if fitting else Storing.WRONG_KEY
            except vault.SealedError:
                self.state = Storing.UNKNOWN
        return self.state

    async def content(self, kind: str) -> dict[str, Any]:
        """The account data of a type; empty where there is none."""
        told = await self._call("GET", self._path(kind), accept=_ABSENT)
        return {} if "errcode" in told else told

    async def put(self, kind: str, content: Mapping[str, Any]) -> None:
        """Replace the account data of a type."""
        await self._call("PUT", self._path(kind), content)

    async def secret(self, name: str) -> str | None:
        """A secret under our key, None where there is none. Raises `SealedError` if it does not open."""
        assert self.state is Storing.OPEN
        assert self._key is not None
        sealed = _under(await self.content(name)).get(self._key_id)
        return vault.unseal(self._key, name, sealed) if isinstance(sealed, dict) else None

    async def keep(self, secrets: Mapping[str, str]) -> list[str]:
        """Write those secrets that are not there as they are; their names."""
        assert self.state is Storing.OPEN
        changed = []
        for name, secret in secrets.items():
            try:
                known = await self.secret(name)
            except vault.SealedError:
                known = None
            if known != secret:
                await self._write(name, secret)
                changed.append(name)
        return changed

    async def make(self, key: bytes, secrets: Mapping[str, str]) -> None:
        """Set secret storage up with `key`, which must be kept safe before, and these secrets in it."""
        assert self.state is Storing.ABSENT
        self._key, self._key_id = key, unpadded(self._random(_ID_BYTES)).replace("/", "_").replace("+", "-")
        await self.put(_KEY + self._key_id, vault.describe(key, self._random(vault.IV_BYTES), _NAME))
        for name, secret in secrets.items():
            await self._write(name, secret)
        await self.put(_DEFAULT, {"key": self._key_id})
        self.state = Storing.OPEN

    async def _write(self, name: str, secret: str) -> None:
        assert self._key is not None
        others = _under(await self.content(name))
        sealed = vault.seal(self._key, name, secret, self._random(vault.IV_BYTES))
        await self.put(name, {"encrypted": {**others, self._key_id: sealed}})

    def _path(self, kind: str) -> tuple[str, ...]:
        return ("v3", "user", self._user, "account_data", kind)


def _under(content: Mapping[str, Any]) -> Mapping[str, Any]:
    encrypted = content.get("encrypted")
    return encrypted if isinstance(encrypted, dict) else {}
