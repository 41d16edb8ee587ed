"""Votes of a room: who may, what counts, when it is decided. Pure; time is an argument.

    open ---- due, or no longer in doubt ----> passed | failed
      |                                           ^
      '-- due, with an objection --> extended ----'     once, by a week

A proposal passes when yes >= R and yes >= ratio x against, where R = min(N, ceil(1.5 sqrt N)) and N is the
electorate: a quorum of approval and not of turnout, so that nobody helps a proposal by voting against it,
and nobody harms it by staying away (research/federation.md, Votes; Debian constitution, A.6). Promises:
the same ballots in any order give the same count and the same hash; ballots of outsiders, bots and late
joiners, spoiled ones and those outside the hours of voting never count.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RULE_VERSION: Final = 1
"""Stands in every tally's hash: a later rule counts differently and says so."""
DAY_MS: Final = 86_400_000
EXTENSION_MS: Final = 7 * DAY_MS
CONSENT_AT_MOST: Final = 12
"""Members up to whom one open objection blocks; above, it asks for a clearer majority."""
USUAL_RATIO: Final = 2
CLEAR_RATIO: Final = 3
"""Yes for each vote against: for what the rule itself changes, and over an objection in a large room."""


class Choice(StrEnum):
    """What a member can say. An objection is a no with a reason that somebody has to answer."""

    YES = "yes"
    NO = "no"
    OBJECTION = "objection"
    ABSTAIN = "abstain"


class Mode(StrEnum):
    """How a room decides, from the strictest on."""

    CONSENT = "consent"
    MAJORITY = "majority"

    @classmethod
    def usual(cls, members: int) -> Mode:
        """Consent in a room of few, majority in one of many."""
        return cls.CONSENT if members <= CONSENT_AT_MOST else cls.MAJORITY


@dataclass(frozen=True, slots=True)
class Rule:
    """How one vote is decided: its mode, and how many yes one vote against is worth."""

    mode: Mode
    ratio: int = USUAL_RATIO

    def meet(self, other: Rule) -> Rule:
        """The stricter of two: a change of the rule needs both the old one and the new one."""
        mode = Mode.CONSENT if Mode.CONSENT in (self.mode, other.mode) else Mode.MAJORITY
        return Rule(mode, max(self.ratio, other.ratio))


# -- who may vote ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who is in the room, since `joined_at` (ms since the epoch)."""

    address: str
    joined_at: int
    is_bot: bool = False


def electorate(members: Iterable[Member], *, opened_at: int, min_age_ms: int) -> frozenset[str]:
    """The addresses of those who may vote: people who had been here for `min_age_ms` when it opened."""
    return frozenset(
        one.address for one in members if not one.is_bot and one.joined_at <= opened_at - min_age_ms
    )


def electorate_hash(addresses: Iterable[str]) -> str:
    """SHA-256 (hex) of the sorted addresses, one in a line: published when a vote opens."""
    return hashlib.sha256("".join(f"{one}\n" for one in sorted(set(addresses))).encode()).hexdigest()


# -- counting --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ballot:
    """One vote as the room has it; `choice` is None where it was taken back or says nothing valid.

    A redacted ballot is not a ballot: leave it out, and the one before it counts again (as MSC3381 has it).
    """

    event_id: str
    voter: str
    sent_at: int
    choice: Choice | None


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted: the numbers, the ballots that count, and a hash over both."""

    members: int
    yes: int
    no: int
    objections: int
    abstained: int
    counted: tuple[str, ...]
    """Event ids, sorted."""
    sha256: str
    latest: int = 0
    """When the last ballot that was looked at was sent (ms)."""

    @property
    def against(self) -> int:
        """Noes and objections."""
        return self.no + self.objections

    @property
    def silent(self) -> int:
        """Members of whom nothing counts."""
        return self.members - self.yes - self.against - self.abstained


def tally(ballots: Iterable[Ballot], voters: frozenset[str], *, opened_at: int, closes_at: int) -> Tally:
    """Count: the last ballot of each of `voters` sent from `opened_at` on and before `closes_at`.

    The last one counts even if it is spoiled: whoever takes a vote back has none.
    """
    last: dict[str, Ballot] = {}
    for ballot in ballots:
        if ballot.voter not in voters or not opened_at <= ballot.sent_at < closes_at:
            continue
        known = last.get(ballot.voter)
        if known is None or (known.sent_at, known.event_id) < (ballot.sent_at, ballot.event_id):
            last[ballot.voter] = ballot
    chosen = {one.event_id: (one.voter, one.choice) for one in last.values() if one.choice is not None}
    counts = Counter(choice for _, choice in chosen.values())
    return Tally(
        members=len(voters),
        yes=counts[Choice.YES],
        no=counts[Choice.NO],
        objections=counts[Choice.OBJECTION],
        abstained=counts[Choice.ABSTAIN],
        counted=tuple(sorted(chosen)),
        sha256=_hash(voters, chosen),
        latest=max((one.sent_at for one in last.values()), default=0),
    )


def _hash(voters: frozenset[str], chosen: Mapping[str, tuple[str, Choice]]) -> str:
    said = sorted([event_id, voter, str(choice)] for event_id, (voter, choice) in chosen.items())
    whole = {"rule": RULE_VERSION, "electorate": electorate_hash(voters), "ballots": said}
    return hashlib.sha256(json.dumps(whole, ensure_ascii=True, sort_keys=True).encode()).hexdigest()


# -- deciding --------------------------------------------------------------------------------------


class State(StrEnum):
    """How a vote stands."""

    OPEN = "open"
    EXTENDED = "extended"
    """An objection was open when it was due: it goes on for a week, once."""
    PASSED = "passed"
    FAILED = "failed"


class Reason(StrEnum):
    """Why it stands so; the words are made elsewhere."""

    VOTING = "voting"
    OBJECTION = "objection"
    ENOUGH = "enough"
    TOO_FEW_YES = "too_few_yes"
    TOO_MANY_AGAINST = "too_many_against"


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a vote stands and why; `due` is when it ends by itself (ms since the epoch)."""

    state: State
    reason: Reason
    required: int
    due: int


def required(members: int) -> int:
    """How many yes a room of so many needs, min(N, ceil(1.5 sqrt N)): of 12 six, of 100 fifteen."""
    # In whole numbers: the smallest k with 4 k^2 >= 9 N.
    return min(members, math.isqrt((9 * members + 3) // 4 - 1) + 1) if members > 0 else 0


def judge(rule: Rule, count: Tally, *, now: int, due: int, extended: bool = False) -> Judgement:
    """How a vote stands at `now`, with what was counted so far. Total: any count has a judgement.

    It ends before it is due where those who are silent could no longer change the result; those who
    have voted are taken at their word.
    """
    needed = required(count.members)
    if now < due and not _is_settled(rule, count, extended=extended):
        return Judgement(State.EXTENDED if extended else State.OPEN, Reason.VOTING, needed, due)
    state, reason = _result(rule, count, extended=extended)
    return Judgement(state, reason, needed, max(now, due) + EXTENSION_MS if state is State.EXTENDED else due)


def _result(rule: Rule, count: Tally, *, extended: bool) -> tuple[State, Reason]:
    """What comes of a vote that ends now."""
    needed = required(count.members)
    ratio = max(rule.ratio, CLEAR_RATIO) if count.objections and extended else rule.ratio
    if count.yes < needed or needed == 0:
        return State.FAILED, Reason.TOO_FEW_YES
    if count.yes < ratio * count.against:
        return State.FAILED, Reason.TOO_MANY_AGAINST
    if count.objections and not extended:
        return State.EXTENDED, Reason.OBJECTION
    if count.objections and rule.mode is Mode.CONSENT:
        return State.FAILED, Reason.OBJECTION
    return State.PASSED, Reason.ENOUGH


def _is_settled(rule: Rule, count: Tally, *, extended: bool) -> bool:
    """Whether nothing that the silent could still say changes the result.

    A vote that cannot pass any more goes on while anybody is silent: nobody is to lose it by a slip of the
    thumb, and whoever said no may be convinced.
    """
    if count.silent == 0:
        # An objection may be answered and withdrawn for as long as the vote is open.
        return count.objections == 0
    worst = count.against + count.silent
    clear = count.yes >= max(rule.ratio, CLEAR_RATIO) * worst
    return extended and rule.mode is Mode.MAJORITY and count.yes >= required(count.members) and clear


# -- the brake -------------------------------------------------------------------------------------


def brake(members: int) -> int:
    """How many members together can stop what a vote has allowed, at once: max(2, ceil(N / 10))."""
    return max(2, -(-members // 10))
