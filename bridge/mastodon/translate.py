"""What the API says of accounts, posts and notifications -> our nouns. Pure.

Promises: total on any JSON object; a post's question is all that its author put into it: content
warning, words, options of a poll, descriptions of images. Identities are account ids, never `acct`:
one server writes it short for its own people, another long. An event's age is measured between two
times of the instance, the notification's and the answer's, so a wrong clock here, or on the
author's server, makes no question old.

Source: https://docs.joinmastodon.org/entities/Status/, /Account/, /Notification/, /MediaAttachment/.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from bots.commands import visible
from bots.conversation import Attachment, Message, Person, Place, PlaceKind
from bridge.mastodon.text import clean, plain, urlsafe_path
from bridge.platform import Event, EventKind, PlaceFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bridge.mastodon.client import Me
    from bridge.mastodon.instance import Instance

ADMIN_POWER: Final = 100
HELP: Final = "!help"
BARE_COMMANDS: Final = frozenset({"help", "status", "why", "forget", "stop"})
"""What is a command in a private mention without its `!`."""
WIDE: Final = frozenset({"public", "unlisted"})
"""Visibilities that anybody may read."""

_NAME: Final = 100
_LONGEST_NOTE: Final = 2_000
_MOST_MEDIA: Final = 16
_MOST_OPTIONS: Final = 20
_LONGEST_URL: Final = 2_000
_LONGEST_SOUND: Final = 1_000_000
"""Seconds."""
_SOUND: Final = {"audio": "audio/mpeg", "video": "video/mp4", "unknown": ""}
"""Types of media in which somebody may be heard; `gifv` is soundless by definition."""
_CALLED: Final = {"gifv": "animation", "unknown": "file"}
_NOTHING: Final[Mapping[str, Any]] = {}


# -- people and places -----------------------------------------------------------------------------


def address(account: Mapping[str, Any], instance: Instance) -> str:
    """`@name@domain`; `acct` has the domain of others, and with some servers that of their own people."""
    acct = text_of(account.get("acct")) or text_of(account.get("username"))
    return f"@{acct}" if "@" in acct else f"@{acct}@{instance.domain}"


def person(account: Mapping[str, Any], instance: Instance, admins: frozenset[str]) -> Person:
    """Somebody, by full address; those in `admins` (addresses, in any case) have power 100."""
    who = address(account, instance)
    name = " ".join(clean(visible(text_of(account.get("display_name")))).split())[:_NAME]
    return Person(
        id=who,
        name=name or text_of(account.get("username")),
        power=ADMIN_POWER if who.casefold() in {admin.casefold() for admin in admins} else 0,
        is_bot=account.get("bot") is True,
    )


def place_of(event: Event, me: Me) -> PlaceFacts:
    """The place of a mention: its author, whatever the visibility was."""
    return PlaceFacts(Place(me.address, event.place, PlaceKind.DIRECT), members=(event.sender,))


# -- posts -----------------------------------------------------------------------------------------


def message(status: Mapping[str, Any], instance: Instance, me: Me, admins: frozenset[str]) -> Message:
    """A post as it is now."""
    account = dict_of(status.get("account"))
    return Message(
        id=text_of(status.get("id")),
        sender=person(account, instance, admins),
        text=words(status, me),
        sent_at=ms_of(status.get("created_at")),
        reply_to=text_of(status.get("in_reply_to_id")) or None,
        own=account.get("id") == me.id,
        attachments=attachments(status),
    )


def words(status: Mapping[str, Any], me: Me) -> str:
    """All that the author says: content warning, words, poll, and what the images show.

    A mention and nothing else asks what can be asked.

    A private mention that is one command word and nothing else gets the `!` of a command.
    """
    said = plain(
        text_of(status.get("content")),
        dicts_of(status.get("mentions")),
        me_id=me.id,
        quoted=bool(status.get("quote")),
    )
    parts = [clean(text_of(status.get("spoiler_text"))).strip(), said]
    options = [
        f"- {' '.join(clean(text_of(one.get('title'))).split())[:_LONGEST_NOTE]}"
        for one in dicts_of(dict_of(status.get("poll")).get("options"))[:_MOST_OPTIONS]
    ]
    parts += ["\n".join(["[poll]", *options])] if options else []
    parts += [_note(media) for media in dicts_of(status.get("media_attachments"))[:_MOST_MEDIA]]
    text = "\n".join(part for part in parts if part)
    if not text and not attachments(status):
        return HELP
    if status.get("visibility") == "direct" and text.casefold() in BARE_COMMANDS:
        return f"!{text}"
    return text


def _note(media: Mapping[str, Any]) -> str:
    """What a file shows, in its author's words; of an image without any, that it is there."""
    kind = text_of(media.get("type"))
    called = _CALLED.get(kind, kind if kind in ("image", "audio", "video") else "file")
    said = " ".join(clean(text_of(media.get("description"))).split())[:_LONGEST_NOTE]
    if said:
        return f"[{called}: {said}]"
    return "" if _sound(media) else f"[{called} without a description]"


def attachments(status: Mapping[str, Any]) -> tuple[Attachment, ...]:
    """The files of a post in which somebody may be heard. Their names are the server's, and left out."""
    found = []
    for media in dicts_of(status.get("media_attachments"))[:_MOST_MEDIA]:
        source = {key: text_of(media.get(key))[:_LONGEST_URL] for key in ("remote_url", "type", "url")}
        media_type = _sound(media)
        if media_type and (source["url"] or source["remote_url"]):
            found.append(
                Attachment(
                    source=json.dumps(source, sort_keys=True, separators=(",", ":")),
                    media_type=media_type,
                    duration_ms=_duration(dict_of(media.get("meta"))),
                )
            )
    return tuple(found)


def _sound(media: Mapping[str, Any]) -> str:
    """`audio/…` or `video/…` where there may be sound: what the server says, else the name's ending."""
    kind = text_of(media.get("type"))
    if kind not in _SOUND:
        return ""
    urls = (text_of(media.get("remote_url")), text_of(media.get("url")))
    guesses = [text_of(dict_of(media.get("pleroma")).get("mime_type"))]
    guesses += [mimetypes.guess_type(urlsafe_path(url))[0] or "" for url in urls]
    wanted = (kind,) if kind != "unknown" else ("audio", "video")
    for guess in guesses:
        if guess.partition("/")[0] in wanted:
            return guess[:_NAME]
    return _SOUND[kind]


def _duration(meta: Mapping[str, Any]) -> int | None:
    told = dict_of(meta.get("original")).get("duration", meta.get("duration"))
    if not isinstance(told, int | float) or isinstance(told, bool) or not 0 < told < _LONGEST_SOUND:
        return None
    return round(told * 1000)


# -- notifications ---------------------------------------------------------------------------------


def mentions_us(status: Mapping[str, Any], me: Me) -> bool:
    """Whether a post still mentions us: an edit may have taken that back, and the notification stays."""
    return _mentions(status, me.id)


def visible_to(status: Mapping[str, Any], asker_id: str) -> bool:
    """Whether the account `asker_id` can surely read a post.

    Followers-only posts of others are left out: whether the asker follows them is not ours to know.
    """
    if text_of(status.get("visibility")) in WIDE:
        return True
    return dict_of(status.get("account")).get("id") == asker_id or _mentions(status, asker_id)


def _mentions(status: Mapping[str, Any], account_id: str) -> bool:
    return any(one.get("id") == account_id for one in dicts_of(status.get("mentions")))


def not_ours(notification: Mapping[str, Any], me: Me) -> str | None:
    """Why a notification asks nothing of us; None where it does."""
    if notification.get("type") != "mention":
        return "other_type"
    status = dict_of(notification.get("status"))
    author = dict_of(status.get("account"))
    for reason, applies in (
        ("no_status", not text_of(status.get("id")) or not text_of(author.get("id"))),
        ("own", author.get("id") == me.id),
        ("boost", bool(status.get("reblog"))),
        ("mention_gone", not mentions_us(status, me)),
    ):
        if applies:
            return reason
    return None


def mention(
    notification: Mapping[str, Any], *, instance: Instance, me: Me, admins: frozenset[str], now: int
) -> Event | None:
    """What a mention asks; None where `not_ours` says why. `now` is the instance's clock (ms)."""
    if not_ours(notification, me) is not None:
        return None
    status = dict_of(notification.get("status"))
    said = message(status, instance, me, admins)
    return Event(
        id=said.id,
        place=text_of(dict_of(status.get("account")).get("id")),
        kind=EventKind.MESSAGE,
        sender=said.sender,
        sent_at=said.sent_at,
        age_ms=max(0, now - (ms_of(notification.get("created_at")) or now)),
        text=said.text,
        reply_to=said.reply_to,
        addressed=True,
        attachments=said.attachments,
    )


def gone(status_id: str, place: str, sender: Person, now: int) -> Event:
    """The event that says: this post is gone, or mentions us no more."""
    return Event(
        id=f"gone:{status_id}",
        place=place,
        kind=EventKind.REDACTION,
        sender=sender,
        sent_at=now,
        relates_to=status_id,
    )


def edited(status: Mapping[str, Any], place: str, said: Message) -> Event:
    """The event that says: this post reads otherwise now.

    The words are in its id too: not every server says when, and a server may learn late what an image is.
    """
    when = text_of(status.get("edited_at"))
    digest = hashlib.sha256(said.text.encode()).hexdigest()[:12]
    return Event(
        id=f"edit:{said.id}:{when}:{digest}",
        place=place,
        kind=EventKind.EDIT,
        sender=said.sender,
        sent_at=ms_of(when) or said.sent_at,
        text=said.text,
        relates_to=said.id,
        addressed=True,
    )


# -- JSON ------------------------------------------------------------------------------------------


def ms_of(value: object) -> int:
    """Milliseconds since the epoch of an ISO 8601 time; 0 where it is none."""
    try:
        moment = datetime.fromisoformat(text_of(value))
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0


def dict_of(value: object) -> Mapping[str, Any]:
    """`value` where it is an object; else an empty one."""
    return value if isinstance(value, dict) else _NOTHING


def dicts_of(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list; nothing where it is none."""
    return list(_objects(value)) if isinstance(value, list) else []


def _objects(values: Iterable[object]) -> Iterable[Mapping[str, Any]]:
    return (value for value in values if isinstance(value, dict))


def text_of(value: object) -> str:
    """`value` where it is text; else none."""
    return value if isinstance(value, str) else ""
