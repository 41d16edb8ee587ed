"""One verification by short authentication strings, as a state machine. Pure but for the key it uses up.

    READY --start of theirs--> ACCEPTED --key--> SHOWN
      '-----start of ours----> STARTED --accept--> KEYED --key--> SHOWN
    SHOWN --people here say that it matches, and their MACs hold--> CLOSED (proven)
    any   --mismatch, garbage, time, cancel---------------------> CLOSED (cancelled)

Every function takes a `Flow` and gives a `Step`: the flow after it, what to send, what people are told.
Total: whatever the other side sends gives a step, never an exception. What arrives twice counts once, because
a batch that could not be committed is fetched again. Keys are those that were known when the flow began.
Refuses the deprecated methods (`curve25519`, `hkdf-hmac-sha256`, `hmac-sha256`).

Source: client-server API, "Key verification framework", "Short Authentication String (SAS) verification".
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import vodozemac

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SAS: Final = "m.sas.v1"
PREFIX: Final = "m.key.verification."
REQUEST: Final = f"{PREFIX}request"
READY: Final = f"{PREFIX}ready"
START: Final = f"{PREFIX}start"
ACCEPT: Final = f"{PREFIX}accept"
KEY: Final = f"{PREFIX}key"
MAC: Final = f"{PREFIX}mac"
DONE: Final = f"{PREFIX}done"
CANCEL: Final = f"{PREFIX}cancel"

TIMEOUT: Final = 600.0
"""Seconds after which a verification that is not complete has failed."""
START_AFTER: Final = 15.0
"""Seconds that the other side has to start, before we do: both may, and most clients do at once."""

_AGREEMENT: Final = "curve25519-hkdf-sha256"
_HASH: Final = "sha256"
_MAC_METHOD: Final = "hkdf-hmac-sha256.v2"
_STRINGS: Final = ("decimal", "emoji")
_MOST_KEYS: Final = 100
"""Keys in one MAC message that are looked at: people have a handful."""


class CancelCode(StrEnum):
    """Why a verification ended."""

    USER = "m.user"
    TIMEOUT = "m.timeout"
    UNKNOWN_TRANSACTION = "m.unknown_transaction"
    UNKNOWN_METHOD = "m.unknown_method"
    UNEXPECTED_MESSAGE = "m.unexpected_message"
    KEY_MISMATCH = "m.key_mismatch"
    USER_MISMATCH = "m.user_mismatch"
    INVALID_MESSAGE = "m.invalid_message"
    ACCEPTED = "m.accepted"
    MISMATCHED_COMMITMENT = "m.mismatched_commitment"
    MISMATCHED_SAS = "m.mismatched_sas"


REASONS: Final[Mapping[CancelCode, str]] = {
    CancelCode.USER: "declined",
    CancelCode.TIMEOUT: "not completed within ten minutes",
    CancelCode.UNKNOWN_TRANSACTION: "no such verification is open",
    CancelCode.UNKNOWN_METHOD: "no method in common",
    CancelCode.UNEXPECTED_MESSAGE: "not expected now",
    CancelCode.KEY_MISMATCH: "a key is not the one that is known",
    CancelCode.USER_MISMATCH: "another device than the one that began",
    CancelCode.INVALID_MESSAGE: "cannot be read",
    CancelCode.ACCEPTED: "accepted by another device",
    CancelCode.MISMATCHED_COMMITMENT: "the key is not the one that was committed to",
    CancelCode.MISMATCHED_SAS: "the signs differ",
}
"""The `reason` of a cancellation, for clients that do not know its code. Part of the protocol, in English."""


class Stage(StrEnum):
    """How far a verification has come."""

    READY = "ready"
    """Both sides want it; nobody has started."""
    STARTED = "started"
    """We sent `start`."""
    ACCEPTED = "accepted"
    """They started; we sent `accept`, and wait for their key."""
    KEYED = "keyed"
    """They accepted; we sent our key, and wait for theirs."""
    SHOWN = "shown"
    """Both sides show the signs."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Party:
    """One side: its device, that device's Ed25519 key, and its master key (public, unpadded base64)."""

    user: str
    device: str
    key: str
    master: str | None = None

    @property
    def keys(self) -> dict[str, str]:
        """The public keys by key id."""
        found = {f"ed25519:{self.device}": self.key}
        if self.master is not None:
            found[f"ed25519:{self.master}"] = self.master
        return found


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event to send: into the flow's room, else to the other device."""

    type: str
    content: dict[str, Any]


class News(StrEnum):
    """What people are told."""

    SHOWN = "shown"
    PROVEN = "proven"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Flow:
    """One verification. `id` is the event id of the request in `room`, else the transaction id.

    `opened_at` (s) is by the caller's clock. `proven` are the key ids that their MACs vouched for.
    """

    id: str
    room: str | None
    ours: Party
    theirs: Party
    opened_at: float
    stage: Stage = Stage.READY
    we_started: bool = False
    start: Mapping[str, Any] = field(default_factory=dict)
    """The content of the `start` that counts, as it was sent."""
    commitment: str = ""
    ephemeral: vodozemac.Sas | None = None
    """Our half of the key exchange, until it is used."""
    secret: vodozemac.EstablishedSas | None = None
    emoji: tuple[int, ...] = ()
    decimals: tuple[int, ...] = ()
    confirmed: bool = False
    """People here say that both sides show the same."""
    proven: frozenset[str] | None = None
    heard: Mapping[str, str] = field(default_factory=dict)
    """What has arrived, by type, to know it again."""
    code: CancelCode | str | None = None
    """Why it was cancelled; None: it was not."""
    by_us: bool = False

    @property
    def closed(self) -> bool:
        """Whether nothing more will happen."""
        return self.stage is Stage.CLOSED

    def content(self, **more: Any) -> dict[str, Any]:
        """The content of an event of this verification."""
        if self.room is None:
            return {**more, "transaction_id": self.id}
        return {**more, "m.relates_to": {"rel_type": "m.reference", "event_id": self.id}}


@dataclass(frozen=True, slots=True)
class Step:
    """What follows: the flow from now on, the events to send in order, and what people are told."""

    flow: Flow
    sends: tuple[Outgoing, ...] = ()
    news: News | None = None


# -- what we do ------------------------------------------------------------------------------------


def ready(flow: Flow) -> Step:
    """Say that we take part, in answer to their request."""
    return Step(flow, (_out(flow, READY, from_device=flow.ours.device, methods=[SAS]),))


def begin(flow: Flow) -> Step:
    """Start, where nobody has yet."""
    if flow.stage is not Stage.READY:
        return Step(flow)
    start = _out(
        flow,
        START,
        from_device=flow.ours.device,
        method=SAS,
        key_agreement_protocols=[_AGREEMENT],
        hashes=[_HASH],
        message_authentication_codes=[_MAC_METHOD],
        short_authentication_string=list(_STRINGS),
    )
    after = replace(flow, stage=Stage.STARTED, we_started=True, start=start.content)
    return Step(after, (start,))


def answer(flow: Flow, *, matches: bool) -> Step:
    """What people here say of the signs."""
    if flow.closed:
        return Step(flow)
    if not matches:
        return cancel(flow, CancelCode.MISMATCHED_SAS if flow.stage is Stage.SHOWN else CancelCode.USER)
    if flow.stage is not Stage.SHOWN or flow.confirmed or flow.secret is None:
        return Step(flow)
    sender, receiver = flow.ours, flow.theirs
    keys = flow.ours.keys
    mac = {one: _mac(flow, flow.secret, key, sender, receiver, one) for one, key in keys.items()}
    listed = _mac(flow, flow.secret, ",".join(sorted(keys)), sender, receiver, "KEY_IDS")
    return _finished(Step(replace(flow, confirmed=True), (_out(flow, MAC, mac=mac, keys=listed),)))


def tick(flow: Flow, now: float) -> Step:
    """What time brings: the end after ten minutes; our start, where they leave it to us."""
    if flow.closed:
        return Step(flow)
    if now - flow.opened_at >= TIMEOUT:
        return cancel(flow, CancelCode.TIMEOUT)
    if flow.stage is Stage.READY and now - flow.opened_at >= START_AFTER:
        return begin(flow)
    return Step(flow)


def cancel(flow: Flow, code: CancelCode) -> Step:
    """End it, and say why."""
    if flow.closed:
        return Step(flow)
    return Step(_closed(flow, code, by_us=True), (cancellation(flow, code),), News.CANCELLED)


def cancellation(flow: Flow, code: CancelCode) -> Outgoing:
    """The event that ends a verification."""
    return _out(flow, CANCEL, code=str(code), reason=REASONS[code])


# -- what they do ----------------------------------------------------------------------------------


def receive(
    flow: Flow, kind: str, content: Mapping[str, Any], *, ephemeral: Callable[[], vodozemac.Sas]
) -> Step:
    """Take an event of the other side. `ephemeral` makes a new key pair for the exchange."""
    if flow.closed:
        return Step(flow)
    if kind == CANCEL:
        code = content.get("code")
        return Step(_closed(flow, code if isinstance(code, str) else "", by_us=False), news=News.CANCELLED)
    try:
        text = canonical(content)
    except (ValueError, TypeError, RecursionError):
        return cancel(flow, CancelCode.INVALID_MESSAGE)
    if flow.heard.get(kind) == text:
        return Step(flow)
    if kind in flow.heard:
        return cancel(flow, CancelCode.UNEXPECTED_MESSAGE)
    return _next(replace(flow, heard={**flow.heard, kind: text}), kind, content, ephemeral)


def _next(flow: Flow, kind: str, content: Mapping[str, Any], ephemeral: Callable[[], vodozemac.Sas]) -> Step:
    match kind.removeprefix(PREFIX), flow.stage:
        case "start", Stage.READY | Stage.STARTED:
            return _started(flow, content, ephemeral)
        case "accept", Stage.STARTED:
            return _accepted(flow, content, ephemeral)
        case "key", Stage.ACCEPTED | Stage.KEYED:
            return _keyed(flow, content)
        case "mac", Stage.SHOWN:
            return _proven(flow, content)
    return cancel(flow, CancelCode.UNEXPECTED_MESSAGE)


def _started(flow: Flow, content: Mapping[str, Any], ephemeral: Callable[[], vodozemac.Sas]) -> Step:
    method, device = content.get("method"), content.get("from_device")
    if not isinstance(method, str) or not isinstance(device, str):
        return cancel(flow, CancelCode.INVALID_MESSAGE)
    if device != flow.theirs.device:
        return cancel(flow, CancelCode.USER_MISMATCH)
    if flow.stage is Stage.STARTED:
        if method != SAS:
            return cancel(flow, CancelCode.UNEXPECTED_MESSAGE)
        # Both have started: of the two, that of the smaller address counts.
        if (flow.ours.user, flow.ours.device) < (flow.theirs.user, flow.theirs.device):
            return Step(flow)
    offered = (
        (content.get("key_agreement_protocols"), _AGREEMENT),
        (content.get("hashes"), _HASH),
        (content.get("message_authentication_codes"), _MAC_METHOD),
    )
    strings = [one for one in _STRINGS if one in _texts(content.get("short_authentication_string"))]
    if method != SAS or not strings or any(wanted not in _texts(given) for given, wanted in offered):
        return cancel(flow, CancelCode.UNKNOWN_METHOD)
    pair = ephemeral()
    accept = _out(
        flow,
        ACCEPT,
        method=SAS,
        key_agreement_protocol=_AGREEMENT,
        hash=_HASH,
        message_authentication_code=_MAC_METHOD,
        short_authentication_string=strings,
        commitment=commitment(pair.public_key.to_base64(), content),
    )
    after = replace(flow, stage=Stage.ACCEPTED, we_started=False, start=dict(content), ephemeral=pair)
    return Step(after, (accept,))


def _accepted(flow: Flow, content: Mapping[str, Any], ephemeral: Callable[[], vodozemac.Sas]) -> Step:
    promise = content.get("commitment")
    chosen = tuple(
        content.get(name) for name in ("key_agreement_protocol", "hash", "message_authentication_code")
    )
    if not isinstance(promise, str):
        return cancel(flow, CancelCode.INVALID_MESSAGE)
    strings = _texts(content.get("short_authentication_string"))
    if chosen != (_AGREEMENT, _HASH, _MAC_METHOD) or not any(one in strings for one in _STRINGS):
        return cancel(flow, CancelCode.UNKNOWN_METHOD)
    pair = ephemeral()
    after = replace(flow, stage=Stage.KEYED, commitment=promise.rstrip("="), ephemeral=pair)
    return Step(after, (_out(flow, KEY, key=pair.public_key.to_base64()),))


def _keyed(flow: Flow, content: Mapping[str, Any]) -> Step:
    given, pair = content.get("key"), flow.ephemeral
    if not isinstance(given, str) or pair is None:
        return cancel(flow, CancelCode.INVALID_MESSAGE)
    own = pair.public_key.to_base64()
    if flow.we_started and commitment(given, flow.start) != flow.commitment:
        return cancel(flow, CancelCode.MISMATCHED_COMMITMENT)
    try:
        secret = pair.diffie_hellman(vodozemac.Curve25519PublicKey.from_base64(given))
    except ValueError:  # no key of 32 bytes, or one that makes the secret guessable
        return cancel(flow, CancelCode.INVALID_MESSAGE)
    sides = ((flow.ours, own), (flow.theirs, given))
    (first, first_key), (second, second_key) = sides if flow.we_started else sides[::-1]
    info = "|".join(
        (
            "MATRIX_KEY_VERIFICATION_SAS",
            *(first.user, first.device, first_key),
            *(second.user, second.device, second_key),
            flow.id,
        )
    )
    shown = secret.bytes(info)
    after = replace(
        flow,
        stage=Stage.SHOWN,
        ephemeral=None,
        secret=secret,
        emoji=tuple(shown.emoji_indices),
        decimals=tuple(shown.decimals),
    )
    sends = () if flow.we_started else (_out(flow, KEY, key=own),)
    return Step(after, sends, News.SHOWN)


def _proven(flow: Flow, content: Mapping[str, Any]) -> Step:
    macs, listed, secret = content.get("mac"), content.get("keys"), flow.secret
    if not isinstance(macs, dict) or not isinstance(listed, str) or secret is None or len(macs) > _MOST_KEYS:
        return cancel(flow, CancelCode.INVALID_MESSAGE)
    known = flow.theirs.keys
    claims = [("KEY_IDS", ",".join(sorted(macs)), listed)]
    claims += [(one, known[one], mac) for one, mac in macs.items() if one in known]
    if not all(_holds(flow, secret, *claim) for claim in claims):
        return cancel(flow, CancelCode.KEY_MISMATCH)
    proven = frozenset(macs) & frozenset(known)
    if f"ed25519:{flow.theirs.device}" not in proven:
        # Of a device that does not vouch for its own key nothing was learnt.
        return cancel(flow, CancelCode.KEY_MISMATCH)
    return _finished(Step(replace(flow, proven=proven)))


def _finished(step: Step) -> Step:
    """Close the flow where people and keys both agree."""
    flow = step.flow
    if not flow.confirmed or flow.proven is None:
        return step
    after = replace(flow, stage=Stage.CLOSED, secret=None)
    return Step(after, (*step.sends, _out(flow, DONE)), News.PROVEN)


# -- the arithmetic --------------------------------------------------------------------------------


def commitment(key: str, start: Mapping[str, Any]) -> str:
    """What binds the side that did not start to its key: SHA-256 over it and the `start`, unpadded base64."""
    digest = sha256(key.encode() + canonical(start).encode()).digest()
    return base64.b64encode(digest).decode().rstrip("=")


def canonical(value: Mapping[str, Any]) -> str:
    """Canonical JSON (spec appendix) of a whole content. Raises ValueError where it has none."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    text.encode()  # a lone surrogate has no bytes
    return text


def _info(flow: Flow, sender: Party, receiver: Party, what: str) -> str:
    sides = f"{sender.user}{sender.device}{receiver.user}{receiver.device}"
    return f"MATRIX_KEY_VERIFICATION_MAC{sides}{flow.id}{what}"


def _mac(
    flow: Flow, secret: vodozemac.EstablishedSas, text: str, sender: Party, receiver: Party, what: str
) -> str:
    return secret.calculate_mac(text, _info(flow, sender, receiver, what))


def _holds(flow: Flow, secret: vodozemac.EstablishedSas, what: str, text: str, mac: object) -> bool:
    if not isinstance(mac, str):
        return False
    try:
        secret.verify_mac(text, _info(flow, flow.theirs, flow.ours, what), mac)
    except ValueError:
        return False
    return True


def _closed(flow: Flow, code: CancelCode | str, *, by_us: bool) -> Flow:
    return replace(flow, stage=Stage.CLOSED, code=code, by_us=by_us, ephemeral=None, secret=None)


def _out(flow: Flow, kind: str, **content: Any) -> Outgoing:
    return Outgoing(kind, flow.content(**content))


def _texts(values: object) -> list[str]:
    return [one for one in values if isinstance(one, str)] if isinstance(values, list) else []
