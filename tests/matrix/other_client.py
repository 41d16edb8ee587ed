"""A second client of the bot's own account: what its owner does in Element, with keys of its own seeds.

It logs in by password and makes its own requests; identity, secret storage and backup it sets up with the
pure functions under test, which `tests.matrix.test_recovery` holds to the vectors of other implementations.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import vodozemac
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bridge.matrix.crypto import recovery, room_keys, vault
from bridge.matrix.crypto.backup import ALGORITHM
from bridge.matrix.crypto.storage import BACKUP, IDENTITY
from bridge.matrix.identity import Identity, public, sign, unpadded
from tests.human import Human

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nio.crypto import InboundGroupSession

    from tests.matrix.conftest import World


def bytes_of(word: str) -> bytes:
    """32 bytes that are those of `word` in every run."""
    return hashlib.sha256(word.encode()).digest()


def identity_of(word: str) -> Identity:
    """An identity that is that of `word` in every run."""
    return Identity(
        *(Ed25519PrivateKey.from_private_bytes(bytes_of(f"{word} {usage}")) for usage in ("m", "s", "u"))
    )


class OtherClient:
    """One session of the account."""

    def __init__(self, human: Human) -> None:
        self.user_id = human.user_id
        self._client = human.client
        self.key_id = "theirs"

    @classmethod
    async def of(cls, world: World, account: str) -> OtherClient:
        return cls(await world._stack.enter_async_context(Human(world.server.url, account, "pw")))

    async def call(
        self,
        method: str,
        path: tuple[str, ...],
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The answer, `errcode` and all."""
        url = "/_matrix/client/" + "/".join(quote(part, safe="") for part in path)
        answer = await self._client.send(
            method,
            f"{url}?{urlencode(query or {})}",
            None if body is None else json.dumps(body),
            {"Authorization": f"Bearer {self._client.access_token}"},
        )
        told: dict[str, Any] = await answer.json()
        return told

    async def account_data(self) -> dict[str, Any]:
        """All of it, by type, as a sync tells it."""
        told = await self.call("GET", ("v3", "sync"), query={"timeout": "0", "full_state": "true"})
        return {event["type"]: event["content"] for event in told["account_data"]["events"]}

    async def put(self, kind: str, content: Mapping[str, Any]) -> None:
        await self.call("PUT", ("v3", "user", self.user_id, "account_data", kind), content)

    async def set_identity(self, identity: Identity) -> None:
        """Publish an identity, in the place of any that is there; the password is `pw`."""
        path = ("v3", "keys", "device_signing", "upload")
        told = await self.call("POST", path, identity.published(self.user_id))
        if "session" in told:
            auth = {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": self.user_id},
                "password": "pw",
                "session": told["session"],
            }
            told = await self.call("POST", path, {**identity.published(self.user_id), "auth": auth})
        assert told == {}

    async def set_storage(self, key: bytes, identity: Identity | None, **more: str) -> str:
        """Secret storage with an identity in it, and `more` secrets; the recovery key that people see."""
        secrets = dict(more)
        if identity is not None:
            secrets |= {name: identity.seeds()[usage] for usage, name in IDENTITY.items()}
        iv = bytes_of("iv")[:16]
        await self.put(f"m.secret_storage.key.{self.key_id}", vault.describe(key, iv, "Theirs"))
        for name, secret in secrets.items():
            await self.put(name, {"encrypted": {self.key_id: vault.seal(key, name, secret, iv)}})
        await self.put("m.secret_storage.default_key", {"key": self.key_id})
        return recovery.encode(key)

    async def set_backup(self, private: bytes, identity: Identity | None) -> str:
        """A new backup, signed by an identity or by nobody; its version."""
        key = vodozemac.Curve25519SecretKey.from_bytes(private).public_key()
        auth_data: dict[str, Any] = {"public_key": key.to_base64()}
        if identity is not None:
            sign(auth_data, self.user_id, public(identity.master), identity.master)
        body = {"algorithm": ALGORITHM, "auth_data": auth_data}
        return str((await self.call("POST", ("v3", "room_keys", "version"), body))["version"])

    async def back_up(self, private: bytes, version: str, session: InboundGroupSession) -> None:
        key = vodozemac.Curve25519SecretKey.from_bytes(private).public_key()
        path = ("v3", "room_keys", "keys", session.room_id, session.id)
        data = room_keys.sealed(session, key, ours=False)
        assert "count" in await self.call("PUT", path, data, {"version": version})

    async def backup(self) -> dict[str, Any]:
        """The newest version, with how many keys are in it."""
        return await self.call("GET", ("v3", "room_keys", "version"))


__all__ = ["BACKUP", "OtherClient", "bytes_of", "identity_of", "unpadded"]
