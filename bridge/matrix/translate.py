"""One event as the server sent it, and what is known of the room -> one `Event`, or nothing. Pure.

Total: any JSON object gives an `Event` or None, never an exception. Refuses to believe what
encryption cannot vouch for: membership and redactions count only as the server states them, and
words only as messages; a reaction is sent in clear everywhere, and means an ear, a yes, a no, or nothing.
What it gives can be stored: no lone surrogates, which no server lets pass but anybody can encrypt.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bots.commands import is_ear, is_sign
from bots.conversation import PlaceKind
from bridge.matrix import files
from bridge.matrix.facts import RoomState, age_of
from bridge.platform import Event, EventKind
from policies.document import STATE_TYPE
from policies.room import Trust

if TYPE_CHECKING:
    from collections.abc import Mapping

MARKER: Final = "community.hearth"
"""Key in the content of every message of ours: `{"bot": true, "key": …, "progress": true?}`."""

POLL_RESPONSES: Final = ("org.matrix.msc3381.poll.response", "m.poll.response")
"""Types of an answer to a poll (MSC3381): the one that clients send today, and the stable one."""

ENVELOPE: Final = "community.hearth.link.envelope"
"""Type of an event that carries a signed envelope, in unpadded base64; only ever sent encrypted."""

WORDS: Final = frozenset({"m.text", "m.emote", "m.notice"})

_REPLY_FALLBACK = re.compile(r"\A> (?:\* )?<[@!#][^>\n]*>[^\n]*\n(?:>[^\n]*\n)*\n?")
_HIDDEN = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
_PILL = re.compile(r"""href=["']?(?:https://matrix\.to/#/|matrix:u/)([^"'?\s>]+)""", re.IGNORECASE)
_LONE = re.compile("[\ud800-\udfff]")
_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Us:
    """Who we are: our address, the addresses of bots that the operator knows."""

    id: str
    known_bots: frozenset[str] = frozenset()


def translate(
    raw: Mapping[str, Any],
    clear: Mapping[str, Any] | None,
    room: RoomState,
    us: Us,
    *,
    before_join: bool = False,
    trust: Trust = Trust.UNSIGNED,
) -> Event | None:
    """What `raw` means to us, None if nothing.

    `clear` is the decrypted `type` and `content` of an encrypted event, None if it cannot be read; `trust`
    is what vouches for the device that encrypted it. `before_join` marks history that is context at most.
    """
    event_id, sender, kind = _id(raw.get("event_id")), _id(raw.get("sender")), raw.get("type")
    if event_id is None or sender is None or not isinstance(kind, str):
        return None
    seen = _Seen(raw, event_id, sender, room, us, before_join, Trust.UNSIGNED if clear is None else trust)
    content = _dict(raw.get("content"))
    if kind == "m.room.member":
        return _membership(seen, content)
    if "state_key" in raw:
        return None
    if kind == "m.room.redaction":
        return _redaction(seen, content)
    if not content or "redacted_because" in _dict(raw.get("unsigned")):
        return None
    return _words(seen, kind, content, clear)


def document_change(
    raw: Mapping[str, Any], room: RoomState, us: Us, *, before_join: bool = False
) -> Event | None:
    """The change of the policy or of a grant that `raw` makes, before the room has taken it; None if none."""
    event_id, sender, after = _id(raw.get("event_id")), _id(raw.get("sender")), room.document_after(raw)
    if event_id is None or sender is None or after is None:
        return None
    before = room.documents.get((after.type, after.key))
    was, now = None if before is None else before.standing.text, after.standing.text
    if was == now:
        return None
    kind = EventKind.POLICY if after.type == STATE_TYPE else EventKind.GRANT
    seen = _Seen(raw, f"{kind}:{event_id}", sender, room, us, before_join)
    return seen.event(kind, text=json.dumps({"was": was, "now": now}), relates_to=after.key or None)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What all events share."""

    raw: Mapping[str, Any]
    id: str
    sender: str
    room: RoomState
    us: Us
    before_join: bool
    trust: Trust = Trust.UNSIGNED

    @property
    def own(self) -> bool:
        return self.sender == self.us.id

    def event(
        self, kind: EventKind, *, is_bot: bool = False, context_only: bool = False, **more: Any
    ) -> Event:
        sent_at = self.raw.get("origin_server_ts")
        return Event(
            id=self.id,
            place=self.room.id,
            kind=kind,
            sender=self.room.person(self.sender, self.us.known_bots, is_bot=is_bot),
            sent_at=sent_at if isinstance(sent_at, int) and not isinstance(sent_at, bool) else 0,
            age_ms=age_of(self.raw),
            context_only=context_only or self.before_join,
            own=self.own,
            trust=self.trust,
            **more,
        )


def _words(
    seen: _Seen, kind: str, content: Mapping[str, Any], clear: Mapping[str, Any] | None
) -> Event | None:
    if kind == "m.room.encrypted":
        if clear is None:
            return _sealed(seen, content)
        kind, content = str(clear.get("type")), _dict(clear.get("content"))
        if kind == ENVELOPE:
            return _envelope(seen, content)
    match kind:
        case "m.room.message" if content:
            return _message(seen, content)
        case "m.reaction":
            return _reaction(seen, content)
        case answer if answer in POLL_RESPONSES:
            return _ballot(seen, content)
    return None


def _membership(seen: _Seen, content: Mapping[str, Any]) -> Event | None:
    if seen.raw.get("state_key") != seen.us.id:
        return None
    unsigned = _dict(seen.raw.get("unsigned"))
    before = _dict(unsigned.get("prev_content")).get("membership")
    now = content.get("membership")
    if now == "join" and before != "join":
        return seen.event(EventKind.JOINED)
    if now in ("leave", "ban") and before == "join":
        return seen.event(EventKind.LEFT)
    return None


def _redaction(seen: _Seen, content: Mapping[str, Any]) -> Event | None:
    # Room version 11 moved `redacts` into the content; servers should send both (MSC2174).
    target = _id(seen.raw.get("redacts")) or _id(content.get("redacts"))
    if target is None:
        return None
    return seen.event(EventKind.REDACTION, relates_to=target, key=_own_key(seen, {}))


def _sealed(seen: _Seen, content: Mapping[str, Any]) -> Event:
    relation = _dict(content.get("m.relates_to"))
    return seen.event(
        EventKind.SEALED,
        relates_to=_target(relation) if relation.get("rel_type") == "m.replace" else None,
        reply_to=_reply(relation),
        thread=_thread(relation),
        key=_own_key(seen, {}),
        sealed=json.dumps(dict(seen.raw), separators=(",", ":")),
    )


def _message(seen: _Seen, content: Mapping[str, Any]) -> Event | None:
    relation = _dict(content.get("m.relates_to"))
    mark = _dict(content.get(MARKER))
    edits = relation.get("rel_type") == "m.replace"
    target = _target(relation)
    if (seen.own and mark.get("progress") is True) or (edits and target is None):
        return None
    said = _dict(content.get("m.new_content")) if edits else content
    msgtype = said.get("msgtype")
    body = strip_reply_fallback(_text(said.get("body")))
    file = files.attachment(said)
    is_words = isinstance(msgtype, str) and msgtype in WORDS
    text = body if is_words else files.caption(said, body) if file is not None else ""
    says_something = is_words or (file is not None and (file.has_sound or bool(text)))
    marked = mark.get("bot") is True
    is_notice = msgtype == "m.notice"
    return seen.event(
        EventKind.EDIT if edits else EventKind.MESSAGE,
        is_bot=not seen.own and (marked or is_notice),
        context_only=seen.own or marked or is_notice or not says_something,
        text=text,
        relates_to=target if edits else None,
        reply_to=None if edits else _reply(relation),
        thread=None if edits else _thread(relation),
        addressed=not seen.own
        and (seen.room.kind is PlaceKind.DIRECT or mentions(said, text, seen.room, seen.us)),
        key=_own_key(seen, mark),
        attachments=() if file is None else (file,),
    )


def _reaction(seen: _Seen, content: Mapping[str, Any]) -> Event | None:
    relation = _dict(content.get("m.relates_to"))
    target, emoji = _target(relation), _text(relation.get("key"))
    if relation.get("rel_type") != "m.annotation" or target is None:
        return None
    if not (is_ear(emoji) or is_sign(emoji)):
        return None
    marked = _dict(content.get(MARKER)).get("bot") is True
    return seen.event(
        EventKind.REACTION,
        is_bot=not seen.own and marked,
        context_only=seen.own or marked,
        text=emoji,
        relates_to=target,
        key=_own_key(seen, {}),
    )


def _ballot(seen: _Seen, content: Mapping[str, Any]) -> Event | None:
    """That somebody voted. What was voted is read when it is counted: it may be taken back until then."""
    relation = _dict(content.get("m.relates_to"))
    target = _target(relation)
    bot = _dict(content.get(MARKER)).get("bot") is True or seen.sender in seen.us.known_bots
    if relation.get("rel_type") != "m.reference" or target is None or seen.own or bot:
        return None
    return seen.event(EventKind.BALLOT, relates_to=target)


def _envelope(seen: _Seen, content: Mapping[str, Any]) -> Event | None:
    """What may be a signed envelope, from whomever; None where it is no text at all."""
    mark = _dict(content.get(MARKER))
    try:
        raw = _text(content.get("envelope")).encode("ascii")
        envelope = base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True).decode()
    except (UnicodeError, binascii.Error):
        return None
    if not envelope:
        return None
    return seen.event(
        EventKind.ENVELOPE,
        is_bot=not seen.own,
        context_only=seen.own,
        text=envelope,
        key=_own_key(seen, mark),
    )


def _own_key(seen: _Seen, mark: Mapping[str, Any]) -> str | None:
    """The action key of one of our events: in what we wrote, else the server's memory of our request."""
    if not seen.own:
        return None
    return _id(mark.get("key")) or _id(_dict(seen.raw.get("unsigned")).get("transaction_id"))


def mentions(said: Mapping[str, Any], text: str, room: RoomState, us: Us) -> bool:
    """Whether a message names us.

    `m.mentions` decides alone where it is present (MSC3952); clients that do not know it are read:
    a pill, our address, our name or the local part of our address as a whole word.
    """
    told = said.get("m.mentions")
    if isinstance(told, dict):
        users = told.get("user_ids")
        return isinstance(users, list) and us.id in users
    for pill in _PILL.findall(_text(said.get("formatted_body"))):
        if pill.replace("%40", "@").replace("%3A", ":").replace("%3a", ":").lstrip("@") == us.id.lstrip("@"):
            return True
    own = room.members.get(us.id)
    names = [us.id, own.name if own is not None else "", us.id[1:].partition(":")[0]]
    plain = _HIDDEN.sub("", text).casefold()
    return any(_names(plain, _HIDDEN.sub("", name).casefold()) for name in names)


def _names(text: str, name: str) -> bool:
    return bool(name) and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def strip_reply_fallback(body: str) -> str:
    """The body without the quoted lines that clients before MSC2781 (2024) put in front of a reply."""
    return _REPLY_FALLBACK.sub("", body, count=1)


def _reply(relation: Mapping[str, Any]) -> str | None:
    if relation.get("rel_type") == "m.thread" and relation.get("is_falling_back") is True:
        return None
    return _id(_dict(relation.get("m.in_reply_to")).get("event_id"))


def _thread(relation: Mapping[str, Any]) -> str | None:
    return _target(relation) if relation.get("rel_type") == "m.thread" else None


def _target(relation: Mapping[str, Any]) -> str | None:
    return _id(relation.get("event_id"))


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and value and not _LONE.search(value) else None


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NOTHING


def _text(value: object) -> str:
    return _LONE.sub("\ufffd", value) if isinstance(value, str) else ""
