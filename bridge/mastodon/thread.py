"""How a question stands just before a bot takes it up, and what was said before it.

Promises: one request for the post (together with others, where the instance can), and one for the
thread where it is a reply to something. What was said before is what the asker could surely read:
public posts, and those that the asker wrote or is mentioned in; never another person's private words,
never another bot's. Nothing of it is kept. Refuses to listen to somebody else's recording, unless the
asker asks for it by a command of the scribe.

Source: https://docs.joinmastodon.org/methods/statuses/#context.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from bots.commands import parse
from bots.conversation import TurnKind
from bridge.answer import OF_THE_SCRIBE
from bridge.mastodon.translate import (
    dict_of,
    dicts_of,
    edited,
    gone,
    mentions_us,
    message,
    text_of,
    visible_to,
)
from bridge.platform import Broken, Fresh, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bots.conversation import Message, Turn
    from bridge.mastodon.client import Client

MOST: Final = 30
"""Posts of a thread that are read."""
LONGEST: Final = 2_000
"""Characters of one of them."""
WHOLE: Final = 12_000
"""Characters of all of them."""

_ASKED: Final = frozenset({TurnKind.MESSAGE, TurnKind.REVISION, TurnKind.ANSWERED})


async def refresh(client: Client, turn: Turn, *, admins: frozenset[str]) -> Fresh:
    """Look how the question of `turn` stands. The place of a turn is the asker's account id.

    Raises `Retryable` where the instance does not answer, `Misconfigured` where the token is no good.
    """
    if turn.kind not in _ASKED:
        return Fresh(context=())
    asked, asker, me = turn.message, turn.place.id, client.me
    status = await client.status(asked.id)
    if status is None or not mentions_us(status, me):
        return Fresh(changed=gone(asked.id, asker, asked.sender, client.server_now()))
    now = message(status, client.instance, me, admins)
    heard_before = turn.heard is not None and asked.text == turn.heard.text
    if now.text != ("" if heard_before else asked.text):
        return Fresh(changed=edited(status, asker, now))
    command = parse(asked.text, own_id=me.address, own_name=me.username)
    wants_sound = command is not None and command.name in OF_THE_SCRIBE
    if now.reply_to is None or (command is not None and not wants_sound):
        return Fresh(context=())
    chain = await _above(client, status)
    parent = chain[-1] if chain else None
    about = None
    if parent is not None and visible_to(parent, asker) and (wants_sound or _is_by(parent, asker)):
        heard = message(parent, client.instance, me, admins)
        about = heard if any(one.has_sound for one in heard.attachments) else None
    readable = [one for one in chain if visible_to(one, asker) and _may_be_read(one, me.id)]
    said = [message(one, client.instance, me, admins) for one in readable[-MOST:]]
    return Fresh(context=capped(said), about=about)


async def _above(client: Client, status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The posts that `status` replies to, one by one, oldest first; a missing one ends it."""
    try:
        context = dict_of(await client.call("status_context", text_of(status.get("id"))))
    except (Refused, Broken):
        return []
    known = {text_of(one.get("id")): one for one in dicts_of(context.get("ancestors"))}
    chain: list[Mapping[str, Any]] = []
    parent = known.pop(text_of(status.get("in_reply_to_id")), None)
    while parent is not None:
        chain.append(parent)
        parent = known.pop(text_of(parent.get("in_reply_to_id")), None)
    return chain[::-1]


def _is_by(status: Mapping[str, Any], account_id: str) -> bool:
    return dict_of(status.get("account")).get("id") == account_id


def _may_be_read(status: Mapping[str, Any], me_id: str) -> bool:
    """Whether a post is a person's or ours: other bots' words stay out."""
    return _is_by(status, me_id) or dict_of(status.get("account")).get("bot") is not True


def capped(said: Sequence[Message]) -> tuple[Message, ...]:
    """The newest of `said` that fit, oldest first, each cut at its own limit; none without any words."""
    kept: list[Message] = []
    room = WHOLE
    for one in reversed(said[-MOST:]):
        text = one.text[:LONGEST]
        room -= len(text)
        if room < 0:
            break
        if text:
            kept.append(replace(one, text=text))
    return tuple(reversed(kept))
