"""What a peer sees instead of a person and of a room: one opaque name for each pair. Pure.

HMAC-SHA256 (RFC 2104) under a secret that only we have, over what it stands for and for whom, of which 128
bits are kept. Two peers that compare what they were sent cannot tell that it was the same person; nor can
one peer tell it of two rooms. Whoever holds the secret can tell, by trying each member.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Final

BYTES: Final = 16
LEAST_SECRET: Final = 32
"""Bytes of the secret, at least."""


def asker_ref(secret: bytes, *, peer: str, room: str, person: str) -> str:
    """The pseudonym of `person` as `peer` sees it from `room`: 26 characters of base32 in lower case."""
    return _reference(secret, "asker", peer, room, person)


def room_ref(secret: bytes, *, peer: str, room: str) -> str:
    """The pseudonym of `room` as `peer` sees it: 26 characters of base32 in lower case."""
    return _reference(secret, "room", peer, room)


def _reference(secret: bytes, *what: str) -> str:
    """Raises `ValueError` for a secret that could be guessed."""
    if len(secret) < LEAST_SECRET:
        raise ValueError(f"the secret has at least {LEAST_SECRET} bytes")
    # As a JSON array, so that no two lists of names run together to the same text.
    said = json.dumps(what).encode()
    digest = hmac.new(secret, said, hashlib.sha256).digest()[:BYTES]
    return base64.b32encode(digest).decode().rstrip("=").lower()
