"""Room keys (inbound Megolm sessions) as a backup holds them, and matrix-nio's store of them.

What a backup proves: nothing of who sent a key. It is encrypted for a public key that the homeserver knows,
and its MAC is over an empty string (a mistake of libolm that all implementations repeat), so the homeserver
can put a key of its own making into it, under any sender's name. What is certain of a key that came back is
only what Megolm itself checks: its id is the public key that signs its messages, so it opens what was
sealed with it and nothing else. Therefore no key of a backup takes the place of one that a device gave us
itself, and `bridge.matrix.crypto.ledger` remembers which came from there.

Source: client-server API 1.19, "Backup algorithm: m.megolm_backup.v1.curve25519-aes-sha2" (step 5 and the
warning below it).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import vodozemac
from nio.crypto import InboundGroupSession

from bridge.matrix import wire
from bridge.matrix.identity import unpadded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bridge.matrix.client import Client

MEGOLM: Final = "m.megolm.v1.aes-sha2"
_PARTS: Final = ("ciphertext", "mac", "ephemeral")


class UnusableError(ValueError):
    """A backed-up key that does not open or is none."""


def packed(session: InboundGroupSession) -> dict[str, Any]:
    """`BackedUpSessionData`: what is encrypted, from the first message that the session can open."""
    return {
        "algorithm": MEGOLM,
        "sender_key": session.sender_key,
        "sender_claimed_keys": {"ed25519": session.ed25519},
        "forwarding_curve25519_key_chain": list(session.forwarding_chain),
        "session_key": session.export_session(session.first_known_index),
    }


def sealed(session: InboundGroupSession, key: vodozemac.Curve25519PublicKey, *, ours: bool) -> dict[str, Any]:
    """`KeyBackupData` of a session, for the backup with the public `key`; a fresh ephemeral key each time.

    `ours` says that this device made the session: only of those we know by ourselves whose they are.
    """
    clear = json.dumps(packed(session), separators=(",", ":")).encode()
    box = vodozemac.PkEncryption.from_key(key).encrypt(clear)
    # Not by its `to_base64`: that gives the parts in another order than it says (vodozemac 0.10).
    parts = (box.ciphertext, box.mac, box.ephemeral_key)
    return {
        "first_message_index": session.first_known_index,
        "forwarded_count": len(session.forwarding_chain),
        "is_verified": ours,
        "session_data": dict(zip(_PARTS, map(unpadded, parts), strict=True)),
    }


def opened(data: object, key: vodozemac.PkDecryption, room_id: str, session_id: str) -> InboundGroupSession:
    """The session in a `KeyBackupData`; raises `UnusableError` where it is not that of this room and id."""
    boxed = data.get("session_data") if isinstance(data, dict) else None
    boxed = boxed if isinstance(boxed, dict) else {}
    parts = wire.texts([boxed.get(name) for name in _PARTS])
    if len(parts) != len(_PARTS):
        raise UnusableError("it has not the shape of a backed-up key")
    try:
        told = wire.json_object(key.decrypt(vodozemac.Message.from_base64(*parts)))
        session = _unpacked(told, room_id)
    except ValueError as error:  # vodozemac's are all of that family
        raise UnusableError(str(error)) from error
    if session.id != session_id:
        raise UnusableError("it is the key of another session")
    return session


def _unpacked(told: Mapping[str, Any], room_id: str) -> InboundGroupSession:
    sender_key, exported = told.get("sender_key"), told.get("session_key")
    claimed = told.get("sender_claimed_keys")
    signing = claimed.get("ed25519") if isinstance(claimed, dict) else None
    texts = (sender_key, signing, exported)
    if told.get("algorithm") != MEGOLM or not all(isinstance(one, str) for one in texts):
        raise UnusableError("it has not the content of a backed-up key")
    if told.get("room_id", room_id) != room_id:
        raise UnusableError("it is the key of another room")
    chain = wire.texts(told.get("forwarding_curve25519_key_chain"))
    return InboundGroupSession.import_session(exported, signing, sender_key, room_id, chain)


def continues(known: InboundGroupSession, found: InboundGroupSession) -> bool:
    """Whether `found` is the same ratchet as `known`, from an earlier message on.

    Two sessions of one id that are not the same ratchet: one of them was made up.
    """
    at = known.first_known_index
    if found.id != known.id or found.room_id != known.room_id or found.first_known_index >= at:
        return False
    return bool(found.export_session(at) == known.export_session(at))


class RoomKeys:
    """The room keys of one client, as matrix-nio keeps them: in memory, and in its store on disk."""

    def __init__(self, client: Client) -> None:
        self._olm = client.olm

    def __iter__(self) -> Iterator[tuple[str, InboundGroupSession]]:
        # Not by `session.id`, which is computed anew each time: this runs in every round of the sync loop.
        for by_sender in self._olm.inbound_group_store._entries.values():  # noqa: SLF001 - it has no other way to list ids
            for sessions in by_sender.values():
                yield from sessions.items()

    def is_ours(self, session: InboundGroupSession) -> bool:
        """Whether this device made the session."""
        return bool(session.sender_key == self._olm.account.identity_keys["curve25519"])

    def wanted(self, found: Iterable[InboundGroupSession]) -> list[InboundGroupSession]:
        """Those sessions of a backup that are new here, or reach further back than what we have."""
        known = dict(self)
        wanted = []
        for session in found:
            before = known.get(session.id)
            if before is not None:
                if not continues(before, session):
                    continue
                # Who sent it we know from the device itself, and keep that.
                session.sender_key, session.ed25519 = before.sender_key, before.ed25519
                session.forwarding_chain = before.forwarding_chain
            wanted.append(session)
        return wanted

    def keep(self, sessions: Iterable[InboundGroupSession]) -> None:
        """Keep what was `wanted`, in memory and on disk."""
        for session in sessions:
            self._olm.inbound_group_store.add(session)
            self._olm.save_inbound_group_session(session)
