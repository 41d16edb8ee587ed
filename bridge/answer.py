"""Pure decisions of the router: what an event is, what a turn asks of the policy, what it does.

Nothing here waits, sends, stores or looks at a clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bots.commands import CommandName, parse
from bots.conversation import Keyed, PlaceKind, Redact, Revise, Role, Say, TurnKind
from bridge.journal import Admission
from bridge.platform import EventKind
from policies.decide import Code, Deed, Request, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bots.conversation import Message, Turn
    from bridge.journal import Claimed, Known
    from bridge.platform import Event

CHAT = "chat"
STEWARD = "steward"
STOP = "stop"

PROGRESS_EDITS = 11
"""Edits of a draft before the final one; with it, twelve (a message of a thousand edits kills clients)."""


def judge(event: Event, known: Known, *, own_id: str, own_name: str) -> Admission:
    """T1: work for a bot, a control, or context.

    A message is ours if the platform says so (mention, direct room), if it replies to what we
    said, or if it is one of our commands. Commands need no mention, because `!why` is a reply to
    anybody's message; an unknown `!word` is ours only if it is addressed to us.
    """
    lane = lane_of(event.place, event.thread)
    if event.kind is EventKind.JOINED:
        # A room that we were in before our first start has been greeted, or does not want to be.
        return Admission() if event.context_only else Admission(STEWARD, lane)
    if not event.text.strip():
        return Admission()
    addressed = event.addressed or known.replies_to_us or known.waiting_turn is not None
    command = parse(event.text, own_id=own_id, own_name=own_name)
    if command is not None and command.name == CommandName.STOP:
        return Admission(control=STOP)
    if command is not None and (addressed or command.name != CommandName.UNKNOWN):
        return Admission(STEWARD, lane)
    return Admission(CHAT, lane) if addressed else Admission()


def lane_of(place: str, thread: str | None, length: str = "talk") -> str:
    """Turns of one lane run one after the other; a long work (`long`) does not hold up talk."""
    return "\x1f".join((place, thread or "", length))


def request_for(claimed: Claimed, *, max_age_ms: int | None) -> Request:
    """What a turn asks of the policy."""
    turn = claimed.turn
    return Request(
        deed=Deed.COMMAND if turn.bot == STEWARD else Deed.ANSWER,
        asker=turn.asker.id,
        asker_is_bot=turn.asker.is_bot,
        power=turn.asker.power,
        direct=turn.place.kind is PlaceKind.DIRECT,
        asked_today=claimed.counters.asked_today,
        place_today=claimed.counters.place_today,
        recent=claimed.counters.recent,
        age_ms=claimed.age_ms,
        max_age_ms=max_age_ms,
    )


def needs_no_request(turn: Turn) -> bool:
    """Whether a turn is ours to take without asking: the greeting on joining, and the end of a wait."""
    return turn.kind in (TurnKind.WELCOME, TurnKind.DEADLINE)


def speaks(verdict: Verdict, *, loop_notices: int) -> bool:
    """Whether a refusal is said aloud: not to bots, not about old questions, and a loop once a minute."""
    match verdict.code:
        case Code.BOT | Code.EXPIRED:
            return False
        case Code.LOOP:
            return loop_notices == 0
        case _:
            return True


def say(turn: Turn, text: str, *, notice: bool = False) -> Say:
    """The words of a turn, where and to whom they belong.

    In its thread, else as a reply; in a room of many the asker is mentioned, and nobody else.
    """
    message = turn.message
    greeting = turn.kind is TurnKind.WELCOME
    mention = turn.place.kind is PlaceKind.GROUP and not notice and not greeting
    return Say(
        text=text,
        reply_to=None if greeting else message.id,
        thread=None if greeting else message.thread,
        mentions=(message.sender.id,) if mention else (),
        notice=notice,
    )


def plan(
    turn: Turn,
    parts: Sequence[str],
    *,
    notice: bool = False,
    draft_key: str | None = None,
    said: Sequence[str] = (),
) -> tuple[Keyed, ...]:
    """The actions of a settled turn.

    Without a draft every part is said. With a draft (or, for an edited question, with what was
    `said` before) the common parts are revised, what is more is said, the surplus is taken back.
    """
    standing = [draft_key] if draft_key is not None else list(said)
    actions: list[Keyed] = []
    for index, part in enumerate(parts):
        words = say(turn, part, notice=notice)
        if index < len(standing):
            revise = Revise(standing[index], part, words.mentions, notice)
            actions.append(Keyed(revise, Role.FINAL, index))
        else:
            # Only the first part calls the asker; a long answer is one call, not five.
            said_once = words if index == 0 else Say(part, words.reply_to, words.thread, (), notice)
            actions.append(Keyed(said_once, Role.ANSWER, index))
    actions += [
        Keyed(Redact(key), Role.REDACT, index) for index, key in enumerate(standing) if index >= len(parts)
    ]
    return tuple(actions)


def next_edit(edits: int) -> float:
    """Seconds between progress edit `edits` and the one after it: at least one, growing.

    1.0 1.3 1.7 2.2 ... 13.8: eleven edits cover about a minute, quick at first, when it matters.
    """
    return float(1.3**edits)


def owner_to_stop(
    message: Message, candidates: Sequence[tuple[int, str]], *, may_stop_others: bool
) -> tuple[tuple[int, ...], str | None]:
    """Which of `candidates` (turn, asker) a `!stop` ends, and whose they are.

    One's own first; a moderator without an own one ends all of them. The second value is the
    owner that the policy is asked about, None if nothing is running.
    """
    asker = message.sender.id
    own = tuple(turn for turn, owner in candidates if owner == asker)
    if own:
        return own, asker
    if not candidates:
        return (), None
    if may_stop_others:
        return tuple(turn for turn, _ in candidates), candidates[0][1]
    return (candidates[0][0],), candidates[0][1]
