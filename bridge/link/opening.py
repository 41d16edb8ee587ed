"""`open_envelope`: whether what arrived is believed, or the one code why not. Pure and total.

Promises: no text makes it raise; it takes at most a few milliseconds for any text; and no key is ever taken
from what a peer sends. The one exception is a card, whose key proves only that whoever wrote it holds it:
it is shown to people, and pinned by a grant or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from bridge.link.bodies import Answer, Card, Granted, Kind, read_body
from bridge.link.canonical import NotCanonical, canonical, parse, sha256
from bridge.link.chain import wrong_path
from bridge.link.codes import Code
from bridge.link.envelope import (
    LARGEST,
    LONGEST_LIFE_MS,
    MOST_HOPS,
    REPLIES,
    SKEW_MS,
    VERSION,
    Header,
    Signed,
    fits,
    is_well_formed,
    unbase64,
)

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from bridge.link.bodies import Body

_MEMBERS: Final = {"body", "chain", "envelope", "signature"}


@dataclass(frozen=True, slots=True)
class Asked:
    """An ask that is open: what a reply to it must match."""

    id: str
    room_ref: str
    peer: str
    """The other side, `bot:server`."""
    ours: bool
    """Whether we asked the peer (an answer can come), or the peer us (a cancel can come)."""
    hops: int = 0
    """As it was signed: how many communities can have passed the answer on."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the receiver knows when something arrives."""

    us: str
    """Our bot, `bot:server`."""
    keys: Mapping[str, str]
    """The key that a grant pins, for each peer (unpadded base64)."""
    seen: Container[tuple[str, str]] = ()
    """`(from, id)` of what was opened before; each is kept until its `Opened.keep_until`."""
    asks: Mapping[str, Asked] = field(default_factory=dict)
    """Open asks by the digest of their signed envelope."""
    newest: Mapping[str, int] = field(default_factory=dict)
    """For each peer the `iat` of the newest grant or revoke that was taken, ms."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """The key on the last card of each peer; only ever tells `key_changed` from `bad_signature`."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An envelope that is believed to be what its sender signed, now and for us. Its words are data."""

    signed: Signed
    body: Body
    chain: tuple[Signed, ...]

    @property
    def header(self) -> Header:
        """The signed fields."""
        return self.signed.header

    @property
    def through(self) -> tuple[Signed, ...]:
        """What to give as `via` if it is passed on."""
        return (*self.chain, self.signed)

    @property
    def keep_until(self) -> int:
        """Until when `(from, id)` must be remembered, ms since the epoch."""
        return self.header.exp + SKEW_MS


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an envelope is not believed. `claims` is what it says of itself: proven by nothing."""

    code: Code
    claims: Header | None = None


def open_envelope(  # noqa: PLR0911 - one for each thing that can be wrong
    text: str, known: Known, *, sender: str, now: int
) -> Opened | Refusal:
    """What `text` is, as it came from `sender` (whom the transport vouches for) at `now` (ms). Total."""
    if len(text) > LARGEST or len(text.encode("utf-8", "surrogatepass")) > LARGEST:
        return Refusal(Code.TOO_LARGE)
    try:
        whole = parse(text)
        if not _has_members(whole):
            return Refusal(_version_of(whole))
        signed = _signed({name: whole[name] for name in ("envelope", "signature")})
        chain = tuple(_signed(one) for one in whole["chain"])
    except (NotCanonical, ValidationError, ValueError):
        return Refusal(Code.MALFORMED)
    header = signed.header
    if not is_well_formed(header):
        return Refusal(Code.MALFORMED, header)
    body = _body(header, whole["body"])
    code = (
        _wrong_address(header, known.us, sender)
        or _wrong_key(signed, body, known)
        or _wrong_time(header, now)
        or _wrong_order(header, known)
        or wrong_path(signed, chain, known.us, known.keys)
    )
    if code is None and body is None:
        code = Code.BAD_BODY
    if code is not None or body is None:
        return Refusal(code or Code.BAD_BODY, header)
    if header.kind in REPLIES and not _is_about(header, body, known.asks.get(header.prev)):
        return Refusal(Code.NOT_OURS, header)
    return Opened(signed, body, chain)


# -- form ------------------------------------------------------------------------------------------


def _has_members(whole: Any) -> bool:
    """Whether all four are there, of the right type, and the version is ours."""
    return (
        isinstance(whole, dict)
        and set(whole) == _MEMBERS
        and isinstance(whole["envelope"], dict)
        and isinstance(whole["body"], dict)
        and isinstance(whole["chain"], list)
        and len(whole["chain"]) <= MOST_HOPS
        and _version_of(whole) is not Code.VERSION
    )


def _version_of(whole: Any) -> Code:
    """`VERSION` if a later one of this protocol was meant, whatever else it has; otherwise `MALFORMED`."""
    envelope = whole.get("envelope") if isinstance(whole, dict) else None
    v = envelope.get("v") if isinstance(envelope, dict) else None
    is_other = isinstance(v, int) and not isinstance(v, bool) and v != VERSION
    return Code.VERSION if is_other else Code.MALFORMED


def _signed(value: Any) -> Signed:
    if not isinstance(value, dict) or set(value) != {"envelope", "signature"}:
        raise ValueError("no signed envelope")
    signature = value["signature"]
    if not isinstance(signature, str):
        raise ValueError("no signature")  # noqa: TRY004 - one family for all that is malformed
    unbase64(signature, 64)
    header = Header.model_validate_json(canonical(value["envelope"]), by_alias=True, by_name=False)
    return Signed(header, signature)


def _body(header: Header, value: Any) -> Body | None:
    """The body, if it is the one that was signed and has the shape of its kind."""
    text = canonical(value)
    if sha256(value) != header.body_sha256:
        return None
    try:
        body = read_body(header.kind, text)
    except ValidationError:
        return None
    if isinstance(body, Granted) and body.read(header.to) is None:
        return None
    return body if body.plain() == value and fits(header, body) else None


# -- belief ----------------------------------------------------------------------------------------


def _wrong_address(header: Header, us: str, sender: str) -> Code | None:
    if header.sender != sender:
        return Code.WRONG_SENDER
    return None if header.to == us else Code.NOT_FOR_US


def _wrong_key(signed: Signed, body: Body | None, known: Known) -> Code | None:
    peer = signed.header.sender
    pinned = known.keys.get(peer, "")
    if signed.header.kind is Kind.CARD:
        if not isinstance(body, Card):
            return Code.BAD_BODY
        if not signed.is_by(body.key):
            return Code.BAD_SIGNATURE
        return Code.KEY_CHANGED if pinned and body.key != pinned else None
    if not pinned:
        return Code.UNKNOWN_KEY
    if signed.is_by(pinned):
        return None
    other = known.shown.get(peer, pinned)
    return Code.KEY_CHANGED if other != pinned and signed.is_by(other) else Code.BAD_SIGNATURE


def _wrong_time(header: Header, now: int) -> Code | None:
    if header.iat > now + SKEW_MS:
        return Code.FROM_THE_FUTURE
    if header.exp - header.iat > LONGEST_LIFE_MS:
        return Code.TOO_LONG_LIVED
    return Code.EXPIRED if header.exp + SKEW_MS < now else None


def _wrong_order(header: Header, known: Known) -> Code | None:
    if (header.sender, header.id) in known.seen:
        return Code.REPLAYED
    is_late = header.iat <= known.newest.get(header.sender, -1)
    return Code.OUT_OF_ORDER if header.kind in (Kind.GRANT, Kind.REVOKE) and is_late else None


def _is_about(header: Header, body: Body, ask: Asked | None) -> bool:
    """Whether a reply is about that ask, which is open between its sender and us."""
    if ask is None or ask.peer != header.sender or ask.room_ref != header.room_ref:
        return False
    if ask.ours is (header.kind is Kind.CANCEL) or ask.id != getattr(body, "id", ""):
        return False
    return not isinstance(body, Answer) or len(header.path) <= ask.hops
