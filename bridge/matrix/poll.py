"""A vote as a Matrix poll (MSC3381): the ballot that people see, what they answer or say below it. Pure.

Sends the unstable form, which clients of 2026 show, and reads both. The server takes anything from
anybody: bogus answers, answers to polls that have ended, ends by strangers. So nothing here is believed
beyond its form; who may vote and when is for `policies.vote`.

Source: https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/3381-polls.md; the unstable
names are those of its section on the unstable prefix, with MSC1767's for text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bots.commands import CommandName, parse
from bots.governance import spoken as spoken_choice
from bridge.matrix.translate import MARKER, POLL_RESPONSES, strip_reply_fallback
from policies.vote import Ballot, Choice

if TYPE_CHECKING:
    from collections.abc import Mapping

START: Final = "org.matrix.msc3381.poll.start"
RESPONSE: Final = POLL_RESPONSES[0]
END: Final = "org.matrix.msc3381.poll.end"
RESPONSES: Final = POLL_RESPONSES
ENDS: Final = (END, "m.poll.end")
_DISCLOSED: Final = "org.matrix.msc3381.poll.disclosed"
_TEXT: Final = "org.matrix.msc1767.text"


def start(question: str, answers: Mapping[str, str]) -> dict[str, Any]:
    """The content of a poll: one answer of each person, and everybody sees who said what.

    `answers` are the words of each choice (`policies.vote.Choice`), in the order in which they are shown.
    A client without polls shows all of it as text.
    """
    shown = "\n".join(f"{number}. {words}" for number, words in enumerate(answers.values(), 1))
    return {
        START: {
            "question": {_TEXT: question, "body": question, "msgtype": "m.text"},
            "kind": _DISCLOSED,
            "max_selections": 1,
            "answers": [{"id": str(choice), _TEXT: words} for choice, words in answers.items()],
        },
        _TEXT: f"{question}\n{shown}",
    }


def end(poll_id: str, result: str) -> dict[str, Any]:
    """The content that ends a poll; `result` is shown by clients without polls."""
    return {"m.relates_to": {"rel_type": "m.reference", "event_id": poll_id}, END: {}, _TEXT: result}


def is_end(raw: Mapping[str, Any], poll_id: str) -> bool:
    """Whether a (decrypted) event says that the poll is over; by whom it may be said is not looked at."""
    return raw.get("type") in ENDS and _refers_to(raw) == poll_id


def ballot(raw: Mapping[str, Any], poll_id: str) -> Ballot | None:
    """The vote in a (decrypted) event; None where it is no answer to this poll, or has no sender or time.

    An answer that names nothing we asked for is a spoiled vote, no answer at all takes the vote back:
    both are a ballot without a choice, because they replace what was said before. Of several answers
    the first counts.
    """
    if raw.get("type") not in RESPONSES or _refers_to(raw) != poll_id:
        return None
    selected = _selected(raw["content"])
    known = all(one in frozenset(Choice) for one in selected)
    return _cast(raw, Choice(selected[0]) if selected and known else None)


def spoken(raw: Mapping[str, Any], poll_id: str, *, own_id: str = "", own_name: str = "") -> Ballot | None:
    """The vote in a (decrypted) message in the thread of a poll: `!vote yes`; None where it is none.

    Read as the bot reads it (`bots.commands`, `bots.governance`), so that what was noted is what counts; a
    word that is no choice spoils the vote. The words as first sent count: an edit is another event. Notices
    and the words of bots are no votes.
    """
    content = raw.get("content")
    if raw.get("type") != "m.room.message" or _refers_to(raw, "m.thread") != poll_id:
        return None
    assert isinstance(content, dict)
    body, mark = content.get("body"), content.get(MARKER)
    if content.get("msgtype") != "m.text" or not isinstance(body, str):
        return None
    if isinstance(mark, dict) and mark.get("bot") is True:
        return None
    command = parse(strip_reply_fallback(body), own_id=own_id, own_name=own_name)
    if command is None or command.name is not CommandName.VOTE:
        return None
    return _cast(raw, spoken_choice(command.argument))


def _cast(raw: Mapping[str, Any], choice: Choice | None) -> Ballot | None:
    event_id, sender, sent_at = raw.get("event_id"), raw.get("sender"), raw.get("origin_server_ts")
    if not (isinstance(event_id, str) and isinstance(sender, str)):
        return None
    if isinstance(sent_at, bool) or not isinstance(sent_at, int):
        return None
    return Ballot(event_id, sender, sent_at, choice)


def _refers_to(raw: Mapping[str, Any], rel_type: str = "m.reference") -> str | None:
    content = raw.get("content")
    relation = content.get("m.relates_to") if isinstance(content, dict) else None
    if not isinstance(relation, dict) or relation.get("rel_type") != rel_type:
        return None
    event_id = relation.get("event_id")
    return event_id if isinstance(event_id, str) else None


def _selected(content: Mapping[str, Any]) -> list[str]:
    """The ids that were chosen; an id that is no text makes all of it nonsense."""
    unstable = content.get(RESPONSE)
    told = unstable.get("answers") if isinstance(unstable, dict) else content.get("m.selections")
    some = told[:1] if isinstance(told, list) else []
    return [one if isinstance(one, str) else "" for one in some]
