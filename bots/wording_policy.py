"""What Hearth says of the policy of a place: a card that a parent can read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from bots.wording import quoted
from policies.document import Unreadable, limits_of, read
from policies.room import ANYONE, Voice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.document import Standing
    from policies.room import RoomPolicy

NAMED: Final = 5
"""Addresses that a card names; of more it says how many."""
HEARS: Final[Mapping[Voice, str]] = {
    Voice.OFF: "nothing",
    Voice.ASKED: "only what I am asked to hear",
    Voice.NAMED: "voice messages; I answer those that begin with my name",
    Voice.ALL: "every voice message, and I write it down",
}


def card(ceiling: RoomPolicy, standing: Standing | None) -> str:
    """What the bot may do in a place: what holds in the end, and what of it was decided by whom."""
    room = limits_of(standing)
    if standing is None or room is None:
        return f"{limits(ceiling)}\n\nWhoever runs me set this. This room has no rules of its own."
    by = f"{quoted(standing.set_by)} on {_day(standing.set_at)}"
    if isinstance(room, Unreadable):
        problem = quoted(str(room))
        return f"I answer nothing in this room: I cannot read its policy, {problem}.\n\nIt was set by {by}."
    return (
        f"{limits(ceiling.meet(room))}\n\n"
        f"Whoever runs me allows at most so much; this room's own rules were set by {by}."
    )


def changed(by: str, change: str, ceiling: RoomPolicy) -> str:
    """What is different after a change of the room's policy; `change` is JSON, `{"was": ..., "now": ...}`."""
    who = quoted(by)
    try:
        told = json.loads(change)
    except ValueError:  # its words are erased meanwhile
        return f"{who} changed this room's policy; `!policy` shows it."
    was, now = (None if one is None else read(one) for one in (told["was"], told["now"]))
    if isinstance(now, Unreadable):
        return (
            f"{who} changed this room's policy, and I cannot read it: {quoted(str(now))}. "
            "So I answer nothing here until it is mended."
        )
    before = [] if isinstance(was, Unreadable) else _lines(_met(ceiling, was))
    after = _lines(_met(ceiling, now))
    if not before:
        news = [f"- {what}: {words}" for what, words in after]
    else:
        old = dict(before)
        news = [f"- {what}: {words} (was: {old[what]})" for what, words in after if words != old[what]]
    if not news:
        return f"{who} changed this room's policy; what I may do here stays the same."
    return f"{who} changed what I may do in this room:\n" + "\n".join(news)


def _met(ceiling: RoomPolicy, room: RoomPolicy | None) -> RoomPolicy:
    return ceiling if room is None else ceiling.meet(room)


def limits(policy: RoomPolicy) -> str:
    """What a policy allows, one line for each thing."""
    return "What I may do here:\n" + "\n".join(f"- {what}: {words}" for what, words in _lines(policy))


def _lines(policy: RoomPolicy) -> list[tuple[str, str]]:
    return [
        ("Whom I answer", _people(policy.askers)),
        ("How often", _often(policy)),
        ("What I listen to", HEARS[policy.voice]),
        ("What leaves this room for other communities", "nothing"),
    ]


def _people(askers: frozenset[str]) -> str:
    if ANYONE in askers:
        return "everybody here"
    if not askers:
        return "nobody"
    shown = [quoted(one) for one in sorted(askers)[:NAMED]]
    more = len(askers) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _often(policy: RoomPolicy) -> str:
    limits = [
        f"{_answers(limit)} a day for {whom}"
        for limit, whom in ((policy.per_person_day, "each person"), (policy.per_place_day, "all together"))
        if limit is not None
    ]
    return ", ".join(limits) or "as often as you like"


def _answers(count: int) -> str:
    return "1 answer" if count == 1 else f"{count:,} answers"


def _day(at: int) -> str:
    """A day by UTC; a time that no calendar has is told as unknown."""
    try:
        return f"{datetime.fromtimestamp(at / 1000, UTC):%-d %B %Y}"
    except (OverflowError, OSError, ValueError):
        return "an unknown day"
