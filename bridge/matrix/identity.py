"""Cross-signing keys: who vouches for this device, so that other people's clients talk to it.

Since 2026 clients share room keys only with devices that their owner has signed (MSC4153), and
matrix-nio knows nothing of it. Owns the three private keys of the account (master, self-signing,
user-signing), kept as seeds in one 0600 file before they are published. Idempotent: each start looks at the
server first. Refuses to replace an identity that somebody else made: it is joined, where secret storage
gives its keys (`bridge.matrix.crypto.keeper`), or reported.

Source: client-server API, "Cross-signing", "Signing JSON"; research/two-homeservers.md, section 2.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bridge.credentials import MATRIX_RECOVERY_KEY
from bridge.matrix.client import REQUEST_DEADLINE
from bridge.matrix.errors import raise_for_response
from bridge.matrix.session import write_private
from bridge.platform import Misconfigured, Retryable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

log = structlog.get_logger(__name__)

_UNAUTHORIZED: Final = 401
_SEED_BYTES: Final = 32
OLD: Final = "cross-signing.old.json"
"""Where the seeds of an identity go that somebody replaced on the server."""
_USAGES: Final = ("master", "self_signing", "user_signing")


class Standing(StrEnum):
    """What other people's clients find when they look at this device."""

    SIGNED = "signed"
    """The device is signed by its owner's identity, which is ours."""
    FOREIGN = "foreign"
    """The account has an identity whose keys we do not have, made by another client before or since ours."""
    NO_PASSWORD = "no_password"  # noqa: S105 - a state, not a password
    """The homeserver wants the password to accept an identity, and we have none."""


REMEDIES: Final[Mapping[Standing, str]] = {
    Standing.FOREIGN: (
        "this account was set up with another client, whose keys Hearth does not have; give the recovery key "
        f"of that client as credential {MATRIX_RECOVERY_KEY} and restart, or use an account of Hearth's own"
    ),
    Standing.NO_PASSWORD: "give the password once as credential matrix-password, then restart",
}


REPLACED: Final = (
    "another client has replaced the identity that Hearth made for this account, and people are warned of "
    f"that; give the recovery key of that client as credential {MATRIX_RECOVERY_KEY} and restart, or use "
    "another account"
)
"""The remedy where the account had our identity before."""

Publics = tuple[str | None, ...]
"""The public master, self-signing and user-signing keys, unpadded base64; None for what is not there."""


class Caller(Protocol):
    """One request to the homeserver, as `Client.call` makes it."""

    async def __call__(
        self,
        method: str,
        path: tuple[str, ...],
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        deadline: float = REQUEST_DEADLINE,
        accept: frozenset[int] = frozenset(),
    ) -> dict[str, Any]:
        """Make it."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """The three private keys."""

    master: Ed25519PrivateKey
    self_signing: Ed25519PrivateKey
    user_signing: Ed25519PrivateKey

    @classmethod
    def from_seeds(cls, seeds: Mapping[str, str]) -> Identity:
        """From unpadded base64 seeds of 32 bytes; raises ValueError or KeyError if they are not that."""
        keys = []
        for usage in _USAGES:
            raw = base64.b64decode(seeds[usage] + "=" * (-len(seeds[usage]) % 4), validate=True)
            if len(raw) != _SEED_BYTES:
                raise ValueError(usage)
            keys.append(Ed25519PrivateKey.from_private_bytes(raw))
        return cls(*keys)

    @classmethod
    def generate(cls) -> Identity:
        """Three new keys."""
        return cls(*(Ed25519PrivateKey.generate() for _ in _USAGES))

    def seeds(self) -> dict[str, str]:
        """The private keys as unpadded base64."""
        keys = (self.master, self.self_signing, self.user_signing)
        return {usage: unpadded(key.private_bytes_raw()) for usage, key in zip(_USAGES, keys, strict=True)}

    def publics(self) -> Publics:
        """The three public keys."""
        return tuple(public(key) for key in (self.master, self.self_signing, self.user_signing))

    def published(self, user_id: str) -> dict[str, Any]:
        """The three public key objects, the lower two signed by the master key."""
        master = _key_object(user_id, "master", self.master)
        lower = {
            "self_signing_key": _key_object(user_id, "self_signing", self.self_signing),
            "user_signing_key": _key_object(user_id, "user_signing", self.user_signing),
        }
        for key in lower.values():
            sign(key, user_id, public(self.master), self.master)
        return {"master_key": master, **lower}


async def ensure_signed(
    call: Caller,
    *,
    user_id: str,
    device_id: str,
    path: Path,
    password: str | None,
    sign_as_device: Callable[[str], str],
    join: Callable[[Publics], Awaitable[Identity | None]],
) -> Standing:
    """Make sure that the server knows an identity of ours that vouches for this device.

    The device's own keys must be uploaded. `sign_as_device` signs canonical JSON with the device
    key, so that other devices of ours know the identity too. `join` is asked for the private keys of
    what is published where they are not here. Raises one of the four families.
    """
    known = await call("POST", ("v3", "keys", "query"), {"device_keys": {user_id: []}})
    device = _pick(known, "device_keys", user_id, device_id)
    if not device:
        raise Retryable("keys/query: the server does not know this device's keys yet")
    on_server = published_keys(known, user_id)
    identity = await asyncio.to_thread(load, path)
    if identity is None or (on_server[0] is not None and public(identity.master) != on_server[0]):
        before, identity = identity, await join(on_server)
        if identity is None and on_server[0] is not None:
            remedy = REMEDIES[Standing.FOREIGN] if before is None else REPLACED
            log.warning("identity_is_foreign", user=user_id, remedy=remedy)
            return Standing.FOREIGN
        if before is not None:
            old = path.with_name(OLD)
            await asyncio.to_thread(write_private, old, json.dumps(before.seeds(), indent=1))
        if identity is not None:
            log.info("identity_joined", user=user_id)
        identity = identity or Identity.generate()
        # Kept before published: a crash in between must not leave an identity without its keys.
        await asyncio.to_thread(write_private, path, json.dumps(identity.seeds(), indent=1))
    ours = identity.publics()
    if on_server != ours:
        keys = identity.published(user_id)
        signature = sign_as_device(canonical(keys["master_key"]).decode())
        keys["master_key"]["signatures"] = {user_id: {f"ed25519:{device_id}": signature}}
        # Synapse answers 500 when a changed key comes together with a master key that it has.
        known_keys = {f"{usage}_key" for usage, a, b in zip(_USAGES, on_server, ours, strict=True) if a == b}
        keys = {name: key for name, key in keys.items() if name not in known_keys}
        if not await _publish(call, user_id, keys, password):
            log.warning("identity_needs_password", user=user_id, remedy=REMEDIES[Standing.NO_PASSWORD])
            return Standing.NO_PASSWORD
        log.info("identity_published", user=user_id)
    if not is_signed_by(device, user_id, public(identity.self_signing)):
        await _sign_device(call, user_id, device_id, device, identity)
        log.info("device_signed", user=user_id, device=device_id)
    return Standing.SIGNED


async def _publish(call: Caller, user_id: str, keys: Mapping[str, Any], password: str | None) -> bool:
    """Upload the three keys together; False if the server wants a password that we do not have."""
    path = ("v3", "keys", "device_signing", "upload")
    told = await call("POST", path, keys, accept=frozenset({_UNAUTHORIZED}))
    if "session" not in told and "flows" not in told:
        if "errcode" in told:
            raise_for_response("POST keys/device_signing", _UNAUTHORIZED, told)
        return True
    if password is None:
        return False
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user_id},
        "password": password,
        "session": told.get("session"),
    }
    told = await call("POST", path, {**keys, "auth": auth}, accept=frozenset({_UNAUTHORIZED}))
    if "flows" in told or "errcode" in told:
        raise Misconfigured(
            "matrix-password", "the homeserver does not accept it to publish the bot's identity; correct it"
        )
    return True


async def _sign_device(
    call: Caller, user_id: str, device_id: str, device: Mapping[str, Any], identity: Identity
) -> None:
    signed = {key: value for key, value in device.items() if key not in ("signatures", "unsigned")}
    sign(signed, user_id, public(identity.self_signing), identity.self_signing)
    told = await call("POST", ("v3", "keys", "signatures", "upload"), {user_id: {device_id: signed}})
    # The status is 200 even when nothing was accepted.
    failure = _pick(told, "failures", user_id, device_id)
    if failure:
        raise Retryable(f"keys/signatures/upload: {failure.get('errcode')}")


def load(path: Path) -> Identity | None:
    """The identity in a file; None where there is none. Raises `Misconfigured`. Blocking."""
    try:
        return Identity.from_seeds(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            str(path),
            "this file is damaged; restore it from a copy, or delete it where Hearth has the recovery key",
        ) from error


# -- signed JSON -----------------------------------------------------------------------------------


def canonical(value: Mapping[str, Any]) -> bytes:
    """Canonical JSON without `signatures` and `unsigned` (spec appendix, "Signing JSON")."""
    bare = {key: item for key, item in value.items() if key not in ("signatures", "unsigned")}
    return json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sign(value: dict[str, Any], user_id: str, key_id: str, key: Ed25519PrivateKey) -> None:
    """Add a signature in place, under `ed25519:<key_id>`."""
    signature = unpadded(key.sign(canonical(value)))
    value.setdefault("signatures", {}).setdefault(user_id, {})[f"ed25519:{key_id}"] = signature


def is_signed_by(value: Mapping[str, Any], user_id: str, key: str) -> bool:
    """Whether `value` carries a good signature of `user_id` by the public key `key` (unpadded base64)."""
    given = _pick(value, "signatures", user_id).get(f"ed25519:{key}")
    if not isinstance(given, str):
        return False
    try:
        signature, raw = (base64.b64decode(text + "=" * (-len(text) % 4)) for text in (given, key))
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, canonical(value))
    except (InvalidSignature, ValueError):
        return False
    return True


def public(key: Ed25519PrivateKey) -> str:
    """The public key, unpadded base64."""
    return unpadded(key.public_key().public_bytes_raw())


def unpadded(raw: bytes) -> str:
    """Base64 without padding: Synapse accepts padded signatures and then keeps them for ever."""
    return base64.b64encode(raw).decode().rstrip("=")


def _key_object(user_id: str, usage: str, key: Ed25519PrivateKey) -> dict[str, Any]:
    return {"user_id": user_id, "usage": [usage], "keys": {f"ed25519:{public(key)}": public(key)}}


def _pick(value: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for key in path:
        inner = value.get(key)
        value = inner if isinstance(inner, dict) else {}
    return value


def published_keys(answer: Mapping[str, Any], user_id: str) -> Publics:
    """The public keys of a user's identity in an answer of `/keys/query`."""
    return tuple(_only_key(_pick(answer, f"{usage}_keys", user_id)) for usage in _USAGES)


def _only_key(value: Mapping[str, Any]) -> str | None:
    keys = list(_pick(value, "keys").values())
    return keys[0] if len(keys) == 1 and isinstance(keys[0], str) else None
