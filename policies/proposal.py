"""`Proposal`: what a room votes on, as data, and what becomes of its documents once it passes. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from policies.classes import Class
from policies.document import Unreadable, read, written
from policies.grant import DAY_MS, Direction, Grant, Status
from policies.room import ANYONE, DECIDING, Mode, RoomPolicy
from policies.vote import CLEAR_RATIO, USUAL_RATIO, Rule
from policies.vote import Mode as Voting

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_DAYS: Final = 180


@dataclass(frozen=True, slots=True)
class Proposal:
    """Either `changes` of the policy (field to JSON value; None: as where nothing is set), or a `peer`.

    `days` is how long the peer is to be allowed, `per_day` questions in 24 hours, `key` the key to pin,
    `notes` the collections from which its questions are answered.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    peer: str = ""
    direction: Direction = Direction.ASK
    classes: tuple[Class, ...] = ()
    days: int = LONGEST_DAYS
    per_day: int | None = None
    key: str = ""
    notes: tuple[str, ...] = ()

    @property
    def matter(self) -> str:
        """What it is about: two proposals on one matter are not voted on at once."""
        return f"peer:{self.peer}" if self.peer else "policy:" + ",".join(sorted(self.changes))

    @property
    def touches_rule(self) -> bool:
        """Whether it changes how the room decides: that takes a clearer majority."""
        return not DECIDING.isdisjoint(self.changes)

    def policy(self, base: RoomPolicy) -> RoomPolicy | Unreadable:
        """The room's policy with this decided. Unreadable where the values make no policy."""
        changes = dict(self.changes)
        if self.peer:
            if self.direction.covers(Direction.ASK):
                changes["ask_peers"] = sorted(_with(base.ask_peers, self.peer))
                changes["classes_out"] = sorted(base.classes_out | set(self.classes))
            if self.direction.covers(Direction.ANSWER):
                changes["answer_peers"] = sorted(_with(base.answer_peers, self.peer))
                changes["classes_in"] = sorted(base.classes_in | set(self.classes))
        said: dict[str, Any] = json.loads(written(base)) | changes
        return read(json.dumps({name: value for name, value in said.items() if value is not None}))

    def grant(self, base: RoomPolicy, now: int, decided_by: str, *, renews: bool) -> Grant | None:
        """The grant that this decides at `now`: a trial at first, the whole term for one that `renews`."""
        if not self.peer:
            return None
        term = min(self.days, base.term_days)
        trial = not renews and base.trial_days > 0
        days = min(term, base.trial_days) if trial else term
        return Grant(
            v=1,
            peer=self.peer,
            app_ed25519=self.key,
            direction=self.direction,
            classes=frozenset(self.classes),
            notes=frozenset(self.notes),
            per_day=self.per_day,
            not_before=now,
            until=now + days * DAY_MS,
            status=Status.TRIAL if trial else Status.ACTIVE,
            decided_by=decided_by,
        )

    def renews(self, known: Grant | Unreadable | None, now: int) -> bool:
        """Whether it lets go on what is allowed with the peer at `now` (ms), and adds nothing to that."""
        if not isinstance(known, Grant) or not known.is_in_force(now):
            return False
        often = known.per_day is None or (self.per_day is not None and self.per_day <= known.per_day)
        return (
            often
            and (self.peer, self.key) == (known.peer, known.app_ed25519)
            and known.direction.covers(self.direction)
            and known.classes.issuperset(self.classes)
            and known.notes.issuperset(self.notes)
        )

    def rule(self, base: RoomPolicy, members: int) -> Rule:
        """How a room of so many `members` votes on it: to change the rule takes the old and the new one."""
        ratio = CLEAR_RATIO if self.touches_rule else USUAL_RATIO
        rule = Rule(_voting(base.mode, members), ratio)
        after = self.policy(base)
        return rule if isinstance(after, Unreadable) else rule.meet(Rule(_voting(after.mode, members), ratio))

    def text(self) -> str:
        """JSON, for the journal."""
        return json.dumps(asdict(self))


def proposed(text: str) -> Proposal:
    """The proposal that `Proposal.text` wrote."""
    told = json.loads(text)
    classes = tuple(Class(one) for one in told["classes"])
    notes = tuple(told.get("notes", ()))
    return Proposal(
        **(told | {"direction": Direction(told["direction"]), "classes": classes, "notes": notes})
    )


def _with(peers: frozenset[str], peer: str) -> frozenset[str]:
    return peers if ANYONE in peers else peers | {peer}


def _voting(mode: Mode, members: int) -> Voting:
    """Consent is for rooms of few. A room whose admins decide votes as usual, if it is asked all the same."""
    return Voting.MAJORITY if mode is Mode.MAJORITY else Voting.usual(members)
