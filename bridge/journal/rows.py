"""What the journal hands out and takes in: frozen rows, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from policies.room import Trust

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bots.base import Opening
    from bots.conversation import Keyed, Message, Place, Turn
    from bridge.journal.links import Step
    from bridge.platform import PlaceFacts
    from models.transcript import Transcript
    from policies.verdict import Verdict


class TurnState(StrEnum):
    """Where a turn stands. What it sends has states of its own."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SETTLED = "settled"
    PARKED = "parked"


class Outcome(StrEnum):
    """How a turn ended. Exactly one per turn."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"
    STOPPED = "stopped"
    WITHDRAWN = "withdrawn"
    """The question was taken back."""
    SUPERSEDED = "superseded"
    """The question was edited while its turn waited for somebody."""
    LEFT = "left"
    """We are no longer in the place."""
    CONTINUED = "continued"
    """A waiting turn whose child turn has settled."""


class ActionState(StrEnum):
    """Where an action stands."""

    PENDING = "pending"
    SENT = "sent"
    WITHDRAWN = "withdrawn"
    PARKED = "parked"


# -- T1: what the router decides about one event -----------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal knows about an event when it is judged."""

    place: PlaceFacts | None
    replies_to_us: bool
    waiting_turn: int | None
    """The waiting turn whose words this event replies to."""
    waiting_bot: str = ""
    """The bot of that turn, which goes on with it."""
    waiting_offer: bool = False
    """Whether it waits for the answer to an offer that nobody asked for, beside what it answered."""
    about: Message | None = None
    """The message with sound that this event is, replies to or reacts to, if need be by way of what we
    said about it."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What an event is to us: nothing but context (no bot), work for `bot`, or a control.

    `unasked`: nobody addressed it to us. `votes`: it is a vote in the thread of a ballot, too.
    `takes_up`: it answers what a bot has offered.
    """

    bot: str = ""
    lane: str = ""
    control: str = ""
    unasked: bool = False
    votes: bool = False
    takes_up: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a committed batch changed: turns to cancel, and whether there is something new to do.

    `erased` are the places in which words were taken back.
    """

    cancelled: tuple[int, ...] = ()
    erased: frozenset[str] = frozenset()
    work: bool = False
    controls: bool = False
    deliveries: bool = False
    ballots: bool = False


# -- T2: what the router gets --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counters:
    """Facts for `decide`: answered and refused questions in 24 hours, messages and loop refusals in a minute.

    `refused_today` counts what this person was told, not what was passed over in silence.
    """

    asked_today: int
    place_today: int
    recent: int
    loop_notices: int
    refused_today: int = 0


LONG = "\x1flong"
"""How the lane of long work ends."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A running turn with everything that deciding and answering it needs.

    `revision` must be given back when the turn settles: it changes when the question is edited,
    so an answer to the old words is refused. `draft_key` is the draft of an earlier run.
    `said` are the keys of what earlier turns about this message said, in order.
    """

    turn: Turn
    lane: str
    revision: int
    attempts: int
    age_ms: int
    facts: PlaceFacts
    counters: Counters
    draft_key: str | None = None
    said: tuple[str, ...] = ()
    parent: int | None = None
    waiting_key: str | None = None
    """What the turn that this one continues said."""
    trust: Trust = Trust.UNSIGNED
    """What vouches for the device of the asker: the least of the message and its edits."""

    @property
    def long(self) -> bool:
        """Whether this is long work, beside which the talk of its place goes on."""
        return self.lane.endswith(LONG)


# -- T3 ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a turn ends, as data: applied in one transaction or not at all."""

    outcome: Outcome
    verdict: Verdict
    actions: tuple[Keyed, ...] = ()
    features: Mapping[str, float | int | str] = field(default_factory=dict)
    forget: str | None = None
    """`mine` or `room` (`bots.base.Forget`)."""
    heard: Transcript | None = None
    """What was heard in the message that the turn is about."""
    wait_until: int | None = None
    wait_state: Mapping[str, object] | None = None
    park: bool = False
    leaves_wait: bool = False
    """The turn that this one continues waits on: nothing was looked at, whoever said it may not."""
    vote: Opening | None = None
    step: Step | None = None
    """What it does with bots of other communities."""
    documents: Mapping[str, str] = field(default_factory=dict)
    """Documents (by peer, `""` for the policy) that hold for the whole account from now on."""


# -- inspection ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One turn, for people: never with its words."""

    id: int
    account: str
    place: str
    thread: str | None
    lane: str
    kind: str
    bot: str
    cause: str
    asker: str
    state: str
    outcome: str | None
    code: str | None
    rule: str | None
    attempts: int
    deaths: int
    created_at: int
    settled_at: int | None


@dataclass(frozen=True, slots=True)
class ActionRow:
    """One action of the outbox, for people: never with its words."""

    key: str
    kind: str
    role: str
    index: int
    state: str
    attempts: int
    remote_id: str | None
    error: str | None
    possible_duplicates: int
    created_at: int
    done_at: int | None


@dataclass(frozen=True, slots=True)
class TurnDetail:
    """A turn with what it did and the turns that continued it."""

    row: TurnRow
    actions: tuple[ActionRow, ...]
    children: tuple[TurnRow, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is open, per state."""

    pending: int
    running: int
    waiting: int
    parked: int
    undelivered: int
    undeliverable: int
    sealed: int


@dataclass(frozen=True, slots=True)
class Control:
    """A control that nobody has handled yet: `name` is the command, `replies_to` what it points at."""

    seq: int
    event: str
    name: str
    place: Place
    message: Message
    facts: PlaceFacts


@dataclass(frozen=True, slots=True)
class Legible:
    """What could be read in an encrypted place, and what not; times in ms since the epoch."""

    place: str
    name: str
    unread: int
    last_unread: int | None
    last_read: int | None


@dataclass(frozen=True, slots=True)
class Unread:
    """An event that could not be read, where people can be told so; times in ms since the epoch."""

    event: str
    place: str
    sender: str
    name: str
    thread: str | None
    sealed: str
    admitted_at: int
