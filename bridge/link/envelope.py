"""The envelope: who says something to whom, until when, and how often it may be passed on; and its signature.

A sealed text is the canonical JSON of four members:

    {"body": {...}, "chain": [...], "envelope": {...}, "signature": "..."}

`envelope` is the header, with the hash of `body` in it; `signature` is over the header; `chain` has the
signed headers, without their bodies, of those who passed it on before. Header and signature together have the
hash (`Signed.digest`) by which everything else refers to it, so that a proof outlives the words.

Sources: RFC 8785 (canonical JSON), RFC 8032 (Ed25519), DESIGN 7.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from bridge.link.bodies import Answer, Ask, Id, Kind, RoomRef, wire_name
from bridge.link.canonical import canonical, sha256
from policies.room import PEER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bridge.link.bodies import Body

VERSION: Final = 1
LARGEST: Final = 32_768
"""Bytes of a sealed text in UTF-8. In base64 (4/3), encrypted by Megolm and again in base64 (4/3) that is
60,000, and a Matrix event has at most 65,536 with all that servers add to it."""
MOST_HOPS: Final = 3
"""Communities that can have passed one thing on: the most that a policy can allow (`max_hops`)."""
LONGEST_LIFE_MS: Final = 7 * 86_400_000
"""From `iat` to `exp`: so long does an ask wait for a peer that is offline, at most."""
SKEW_MS: Final = 120_000
"""How far two clocks may be apart, ms."""
CONTEXT: Final = b"community.hearth.link/1\n"
"""Stands before what is signed, so that no signature by this key means anything elsewhere (RFC 8032, 8.3)."""
LATEST_TIME: Final = 2**53 - 1

Address = Annotated[str, StringConstraints(pattern=rf"^{PEER}$", max_length=255)]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
HashOrNone = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]
Time = Annotated[int, Field(ge=0, le=LATEST_TIME)]

PASSED_ON: Final = frozenset({Kind.ASK, Kind.ANSWER})
"""The kinds that can have a path."""
REPLIES: Final = frozenset({Kind.PROGRESS, Kind.ANSWER, Kind.REFUSE, Kind.CANCEL})
"""The kinds that are about an ask: their `prev` is its digest."""


class Hop(BaseModel):
    """One community that passed something on, and the digest of what it had signed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    community: Address = Field(description="Its bot, `bot:server`.")
    sha256: Hash = Field(description="Digest of the signed envelope that it sent.")


class Header(BaseModel):
    """The signed fields. Every one is required."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=wire_name, validate_by_name=True
    )

    v: Literal[1] = Field(description="Version of the protocol: 1.")
    id: Id = Field(
        description="Names this envelope. Never used twice by its sender; random, at least 128 bits."
    )
    kind: Kind = Field(description="What it is for; says which shape the body has.")
    sender: Address = Field(description="The bot that signs, `bot:server`.")
    to: Address = Field(description="The bot that it is for, and nobody else.")
    room_ref: RoomRef = Field(
        alias="room_ref",
        description="Pseudonym of the room of the ask (section Pseudonyms); empty where no room is meant.",
    )
    iat: Time = Field(description="When it was signed, ms since the epoch.")
    exp: Time = Field(description="When it ends, ms since the epoch; at most 7 days after `iat`.")
    hops: int = Field(
        ge=0, le=MOST_HOPS, description="How often an ask may still be passed on; 0 for other kinds."
    )
    path: Annotated[tuple[Hop, ...], Field(max_length=MOST_HOPS)] = Field(
        description="Who passed it on, first the community where it began; empty where nobody did."
    )
    prev: HashOrNone = Field(description="Digest of the signed envelope that this one follows, or empty.")
    body_sha256: Hash = Field(alias="body_sha256", description="SHA-256 of the canonical body.")

    def plain(self) -> dict[str, Any]:
        """The JSON object, by its names on the wire."""
        return self.model_dump(mode="json", by_alias=True)


@dataclass(frozen=True)
class Signed:
    """A header and its signature (unpadded base64 of 64 bytes): the proof, without the words."""

    header: Header
    signature: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical `{"envelope": ..., "signature": ...}`."""
        return sha256(self.plain())

    def plain(self) -> dict[str, Any]:
        """The JSON object, as it stands in a chain."""
        return {"envelope": self.header.plain(), "signature": self.signature}

    def is_by(self, key: str) -> bool:
        """Whether the signature is the one of the public key `key` (unpadded base64). Total."""
        try:
            raw = Ed25519PublicKey.from_public_bytes(unbase64(key, 32))
            raw.verify(unbase64(self.signature, 64), CONTEXT + canonical(self.header.plain()))
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Sealed:
    """What can be sent: its text, and the proof of it that stays with us."""

    text: str
    signed: Signed
    chain: tuple[Signed, ...]


def seal(
    body: Body,
    *,
    key: Ed25519PrivateKey,
    id: str,  # noqa: A002 - as the field is called
    sender: str,
    to: str,
    iat: int,
    exp: int,
    room_ref: str = "",
    hops: int = 0,
    prev: str = "",
    via: tuple[Signed, ...] = (),
) -> Sealed:
    """`body` signed. `via`: the chain of an ask or an answer that is passed on, as `Opened.through` gives it.

    `prev` is the digest of the ask for a reply; for an ask it follows from `via`. Raises `ValueError` for
    what no receiver would take because of its form (`pydantic.ValidationError` is one).
    """
    kind = body.kind
    content = body.plain()
    header = Header(
        v=VERSION,
        id=id,
        kind=kind,
        sender=sender,
        to=to,
        room_ref=room_ref,
        iat=iat,
        exp=exp,
        hops=hops,
        path=tuple(Hop(community=one.header.sender, sha256=one.digest) for one in via),
        prev=via[-1].digest if via and kind is Kind.ASK else prev,
        body_sha256=sha256(content),
    )
    if not (is_well_formed(header) and fits(header, body)):
        raise ValueError("the fields of the envelope and its body do not belong together")
    signed = Signed(header, base64text(key.sign(CONTEXT + canonical(header.plain()))))
    text = canonical(_whole(signed, content, via)).decode()
    if len(text.encode()) > LARGEST:
        raise ValueError(f"a sealed text has at most {LARGEST:,} bytes")
    return Sealed(text, signed, via)


def _whole(signed: Signed, content: Mapping[str, Any], chain: tuple[Signed, ...]) -> dict[str, Any]:
    return {**signed.plain(), "body": content, "chain": [one.plain() for one in chain]}


def is_well_formed(header: Header) -> bool:
    """Whether the fields of a header can stand together, whoever sent it to whom and when."""
    if header.exp <= header.iat or header.sender == header.to:
        return False
    if header.kind is not Kind.ASK and header.hops:
        return False
    if header.kind not in PASSED_ON and header.path:
        return False
    if header.kind is Kind.ASK:
        return header.prev == (header.path[-1].sha256 if header.path else "")
    return bool(header.prev) == (header.kind in REPLIES)


def fits(header: Header, body: Body) -> bool:
    """Whether what stands in both, header and body, is the same."""
    if body.kind is not header.kind:
        return False
    if isinstance(body, Ask) and body.message_id != header.id:
        return False
    if isinstance(body, Answer) and body.status.message.message_id != header.id:
        return False
    return getattr(body, "context_id", header.room_ref) == header.room_ref


def base64text(raw: bytes) -> str:
    """Base64 (RFC 4648, 4) without padding."""
    return base64.b64encode(raw).decode().rstrip("=")


def unbase64(text: str, length: int) -> bytes:
    """The `length` bytes that only this text stands for. Raises `ValueError`."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("no base64") from error
    # The last character has bits that no byte takes: two texts for one value, if they were not looked at.
    if len(raw) != length or base64text(raw) != text:
        raise ValueError("another spelling, or another length")
    return raw
