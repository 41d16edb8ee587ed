"""What we write to a peer and read of it, between the nouns of bots and those of the protocol. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from bots.base import RefusePeer
from bridge.link import bodies
from bridge.link.canonical import NotCanonical, parse
from bridge.link.envelope import LARGEST
from policies.grant import DAY_MS
from policies.verdict import Code

if TYPE_CHECKING:
    from bots.base import AnswerPeer
    from bridge.journal.peers import Ask
    from bridge.link.bodies import Body
    from bridge.link.envelope import Signed
    from policies.verdict import Verdict

MOST_PASSAGES: Final = 8
_LONGEST_LINE: Final = 200
_DELETE: Final = "\x7f"


def plain(through: tuple[Signed, ...]) -> str:
    """Signed headers as JSON: the proof of what was said, without the words."""
    return json.dumps([one.plain() for one in through])


def replies_to(text: str) -> str:
    """The digest of the ask to which an envelope claims to reply; `""`: to none. Proven by nothing."""
    if len(text) > LARGEST:
        return ""
    try:
        whole = parse(text)
    except NotCanonical:
        return ""
    header = whole.get("envelope") if isinstance(whole, dict) else None
    claimed = header if isinstance(header, dict) else {}
    prev = claimed.get("prev")
    return (
        prev
        if claimed.get("kind") in (bodies.Kind.ANSWER, bodies.Kind.REFUSE) and isinstance(prev, str)
        else ""
    )


def tag(language: str) -> str | None:
    """`language` as an envelope carries it; None where what a room has written is no language tag."""
    return language if re.fullmatch(bodies.LANGUAGE, language) else None


def because(verdict: Verdict, now: int) -> RefusePeer:
    """A verdict as what a peer is told of it: codes, and when to ask again."""
    after: int | None = None
    if verdict.code is Code.PEER_QUOTA:
        after = DAY_MS
    elif verdict.code is Code.NOT_YET:
        after = max(0, int(verdict.params.get("from", now)) - now)
    return RefusePeer(str(verdict.code), verdict.rule, after)


def reply_to(ask: Ask, said: AnswerPeer | RefusePeer, name: str) -> Body:
    """The answer to `ask`, or its refusal; `name` is the id of the envelope."""
    if isinstance(said, RefusePeer):
        return bodies.Refuse(
            id=ask.id,
            context_id=ask.room_ref,
            status=bodies.Rejected(state="TASK_STATE_FAILED" if said.failed else "TASK_STATE_REJECTED"),
            metadata=bodies.Because(code=said.code, rule=said.rule, retry_after_ms=said.retry_after_ms),
        )
    return bodies.Answer(
        id=ask.id,
        context_id=ask.room_ref,
        status=bodies.Completed(message=bodies.Said(message_id=name, parts=_parts(said))),
        metadata=bodies.By(share=bodies.Share(ask.share), model=_line(said.model) or None),
    )


def words(answer: bodies.Answer) -> dict[str, Any]:
    """What an answer says, as fields of `FromPeer`."""
    parts = answer.status.message.parts
    return {
        "text": "\n".join(part.text for part in parts if part.text),
        "passages": tuple((part.data.passage, part.data.source) for part in parts if part.data),
        "model": answer.metadata.model or "",
    }


def _parts(said: AnswerPeer) -> tuple[bodies.Part, ...]:
    """What is said as parts of an answer, no longer than one may be."""
    left = bodies.LONGEST_ANSWER
    parts = []
    if text := _clean(said.text)[:left]:
        parts.append(bodies.Part(text=text))
        left -= len(text)
    for one in said.passages[:MOST_PASSAGES]:
        if text := _clean(one.text)[:left]:
            parts.append(bodies.Part(data=bodies.Passage(passage=text, source=_line(one.source))))
            left -= len(text)
    return tuple(parts) or (bodies.Part(text="\u2013"),)  # an answer has at least one


def _clean(text: str) -> str:
    """`text` without the controls that no envelope carries."""
    return "".join(char for char in text if char in "\n\t" or (char >= " " and char != _DELETE)).strip()


def _line(text: str) -> str:
    return " ".join(_clean(text).split())[:_LONGEST_LINE]
