"""What vouches for a device, read from what the homeserver publishes. Pure.

    our user-signing key --> their master key --> their self-signing key --> their device

The server is believed in nothing: each arrow is a signature that is checked, the first with a key of ours. A
device whose id is that of a cross-signing key vouches for nobody (spec, "Key and signature security").

Source: client-server API, "Cross-signing", `POST /keys/query`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.matrix.crypto.sas import Party
from bridge.matrix.identity import is_signed_by
from policies.room import Trust

if TYPE_CHECKING:
    from collections.abc import Mapping


def trust(keys: Mapping[str, Any], user: str, device: str, *, us: str, user_signing: str) -> Trust:
    """What vouches for `device` of `user`, by an answer of `/keys/query`.

    `us` is our address, `user_signing` our public user-signing key (`""`: we have none).
    """
    published = _device(keys, user, device)
    master, lower = _published(keys, "master", user), _published(keys, "self_signing", user)
    master_key, lower_key = _only_key(master), _only_key(lower)
    if published is None or master_key is None or lower_key is None or _is_ambiguous(keys, user):
        return Trust.UNSIGNED
    if not (is_signed_by(lower, user, master_key) and is_signed_by(published, user, lower_key)):
        return Trust.UNSIGNED
    if user_signing and is_signed_by(master, us, user_signing):
        return Trust.VERIFIED
    return Trust.SIGNED


def device_of(keys: Mapping[str, Any], user: str, *, curve25519: str, ed25519: str) -> str | None:
    """The device of `user` that has these two keys (unpadded base64); None: it has none such."""
    for device in _dict(_dict(keys.get("device_keys")).get(user)):
        published = _device(keys, user, device)
        held = {} if published is None else _dict(published.get("keys"))
        if held.get(f"curve25519:{device}") == curve25519 and held.get(f"ed25519:{device}") == ed25519:
            return str(device)
    return None


def party_of(keys: Mapping[str, Any], user: str, device: str) -> Party | None:
    """One side of a verification; None where the device has no key that it signed, or ids are ambiguous."""
    published = _device(keys, user, device)
    if published is None or _is_ambiguous(keys, user) or not f"{user}{device}".isprintable():
        return None
    key = _dict(published.get("keys")).get(f"ed25519:{device}")
    if not isinstance(key, str) or not _signs_itself(published, user, device, key):
        return None
    return Party(user, device, key, master_of(keys, user))


def master_of(keys: Mapping[str, Any], user: str) -> str | None:
    """The public master key of `user`; None: there is none."""
    return _only_key(_published(keys, "master", user))


def master_object(keys: Mapping[str, Any], user: str) -> dict[str, Any]:
    """The master key of `user` as it is to be signed: as it was published, without any signature."""
    held = _published(keys, "master", user)
    return {name: value for name, value in held.items() if name not in ("signatures", "unsigned")}


def _signs_itself(published: Mapping[str, Any], user: str, device: str, key: str) -> bool:
    """Whether a device signed its own keys. Its signature stands under its id, not under its key."""
    given = _dict(_dict(published.get("signatures")).get(user)).get(f"ed25519:{device}")
    return is_signed_by({**published, "signatures": {user: {f"ed25519:{key}": given}}}, user, key)


def _is_ambiguous(keys: Mapping[str, Any], user: str) -> bool:
    devices = _dict(_dict(keys.get("device_keys")).get(user))
    return any(_only_key(_published(keys, usage, user)) in devices for usage in ("master", "self_signing"))


def _device(keys: Mapping[str, Any], user: str, device: str) -> Mapping[str, Any] | None:
    """A device's keys, where they are what they are published as."""
    found = _dict(_dict(_dict(keys.get("device_keys")).get(user)).get(device))
    named = found.get("user_id") == user and found.get("device_id") == device
    return found if named else None


def _published(keys: Mapping[str, Any], usage: str, user: str) -> Mapping[str, Any]:
    found = _dict(_dict(keys.get(f"{usage}_keys")).get(user))
    usages = found.get("usage")
    named = found.get("user_id") == user and isinstance(usages, list) and usage in usages
    return found if named else {}


def _only_key(published: Mapping[str, Any]) -> str | None:
    held = _dict(published.get("keys"))
    for name, key in held.items():
        if len(held) == 1 and isinstance(key, str) and name == f"ed25519:{key}":
            return key
    return None


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
