"""The port that every platform implements, and the nouns that cross it.

    platform --- events() ---> router, journal        what arrived, with a cursor
    platform <-- perform() --- delivery               do one stored action under its key
    platform <-- find() ------ delivery               did it already happen?
    platform <-- refresh() --- router                 is the question still what it was?

What is *not* stored before it is done, because it is idempotent or ephemeral: read receipts,
typing, joins and leaves, progress edits, key uploads, the greeting of a link room, the steps of a
verification (they mean nothing to a process that has lost its half of the keys). Everything else that
people or servers can see is an action in the outbox, stored with its key before it is performed.

Errors are four families; an adapter raises nothing else:

    PlatformError
     |- Retryable(after)             the same call may work later
     |   |- Unclear                  it may have worked already: look before it is tried again
     |- Refused(rule, remedy)        the other side says no to this action; trying again is no use
     |- Broken(what)                 this action can never work (too large, malformed)
     |- Misconfigured(path, remedy)  the operator must change something
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Protocol

from policies.room import Trust

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from bots.base import Comparing
    from bots.conversation import Action, Attachment, Message, Person, Place, Turn
    from policies.vote import Ballot


class PlatformError(Exception):
    """Anything that a platform can fail with."""


class Retryable(PlatformError):
    """The same call may work after `after` seconds (None: the caller's own backoff decides)."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


class Unclear(Retryable):
    """Whether it happened is not known, and the server may not remember its key: `find` it first."""


class Refused(PlatformError):
    """The other side refuses: `rule` is its code (`M_FORBIDDEN`), `remedy` what a person can do."""

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(f"{rule}: {remedy}")
        self.rule = rule
        self.remedy = remedy


class Broken(PlatformError):
    """This can never work as it is: `what` says why."""


class Misconfigured(PlatformError):
    """The operator must change the setting or file at `path`; `remedy` says how."""

    def __init__(self, path: str, remedy: str) -> None:
        super().__init__(f"{path}: {remedy}")
        self.path = path
        self.remedy = remedy


# -- what arrives ----------------------------------------------------------------------------------


class EventKind(StrEnum):
    """What an event means to us; anything else is not admitted at all."""

    MESSAGE = "message"
    EDIT = "edit"
    """`relates_to` is the message that `text` replaces."""
    REACTION = "reaction"
    """`text` is the emoji that somebody put on `relates_to`."""
    REDACTION = "redaction"
    """`relates_to` is the event that its sender, or a moderator, took back."""
    JOINED = "joined"
    """We joined the place."""
    POLICY = "policy"
    """The place's own policy was changed; `text` is JSON, `{"was": ..., "now": ...}`: documents or null."""
    VERIFICATION = "verification"
    """`sender` compares keys with us; `text` is JSON, `{"stage": ...}` and what belongs to it."""
    GRANT = "grant"
    """A grant was changed, that of the peer `relates_to`; `text` as for `POLICY`."""
    BALLOT = "ballot"
    """Somebody voted in the poll `relates_to`. What was voted is not told: it is read when it is counted."""
    ENVELOPE = "envelope"
    """`text` is the JSON text of what may be a signed envelope: nobody has looked at its signature yet."""
    LEFT = "left"
    """We left the place or were removed."""
    SEALED = "sealed"
    """An encrypted event that cannot be read yet; `sealed` holds the ciphertext. A late key opens it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a place, in the platform's order.

    `age_ms` is how old the event was when it reached us, by the server's own clock. `addressed`
    says that the platform's rules make this message ours to answer (a mention; a direct room);
    replies to what we said count too, and the journal finds those. `context_only` events are read
    but never answered (history from before we joined, notices, other bots' markers, own words).
    `key` is the action key that one of our own events carries.
    """

    id: str
    place: str
    kind: EventKind
    sender: Person
    sent_at: int
    age_ms: int = 0
    text: str = ""
    relates_to: str | None = None
    reply_to: str | None = None
    thread: str | None = None
    addressed: bool = False
    context_only: bool = False
    own: bool = False
    key: str | None = None
    sealed: str | None = None
    ratchet: str | None = None
    """Where it was encrypted, `session:index` of Megolm: a second event from there is a replay."""
    attachments: tuple[Attachment, ...] = ()
    trust: Trust = Trust.UNSIGNED
    """What vouches for the device that encrypted it."""


@dataclass(frozen=True, slots=True)
class PlaceFacts:
    """What is known of a place as of a batch: kept in the journal, replaced as a whole.

    `must_encrypt` never goes back to False in the journal, whatever a later batch says.
    Members (we among them) carry their own power level; `default_power` is everybody else's.
    """

    place: Place
    members: tuple[Person, ...] = ()
    must_encrypt: bool = False
    joined: bool = True
    default_power: int = 0
    policy_power: int = 50
    """The power that writing a policy document or a grant takes here."""
    ruled_by_members: bool = False
    """Whether a mere member has the power to write a policy document or a grant."""
    levels_power: int = 100
    """The power that changing power levels takes here."""
    moved_to: str = ""
    """The place that replaces this one, where somebody who may has moved it."""
    links: tuple[str, ...] | None = None
    """The bots of other communities (`bot:server`) that are in this link room; None: it is none."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Part of a place's history that was not fetched: between `since` and the batch it came with."""

    place: str
    since: str
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What arrived since the last cursor: committed as a whole, together with `cursor`, or not at all."""

    account: str
    cursor: str | None
    events: tuple[Event, ...] = ()
    places: tuple[PlaceFacts, ...] = ()
    gaps: tuple[Gap, ...] = ()
    opened: tuple[Event, ...] = ()
    """Events admitted as `sealed` earlier that can be read now (same ids)."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A question just before a bot takes it up, where the platform has to be asked how it stands.

    `context` is what was said before it, oldest first, as the asker could see it; None: the journal
    knows. `about` is the message with sound that a command points at, where the journal does not have
    it. `changed` is the edit or the redaction that was found: the journal applies it, and the turn is
    not run as it is.
    """

    context: tuple[Message, ...] | None = None
    about: Message | None = None
    changed: Event | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """A text in pieces that each fit one event, at least one; `rest` (Markdown) is what is held back."""

    shown: tuple[str, ...]
    rest: str = ""


# -- what we do ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredAction:
    """An action as the outbox has it: its key, its frozen payload, and what delivery knows of it.

    `target` is the remote id of the action that a `Revise`, `Redact` or `ClosePoll` refers to, of the
    `Upload` that a `Say` shows, or of the part that it follows. `must_encrypt`
    is the place's flag at delivery. `created_at` is ms since the epoch, `device` the device that
    was ours when it was stored.
    """

    key: str
    place: str
    action: Action
    created_at: int
    device: str = ""
    attempts: int = 0
    target: str | None = None
    must_encrypt: bool = False


class Found(StrEnum):
    """What a search for an action says where no event is found."""

    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ephemeral:
    """What people may see while a turn runs and that nobody needs afterwards."""

    place: str
    event_id: str
    thread: str | None = None
    answer: str | None = None
    """Remote id of the draft that progress edits replace."""
    text: str = ""
    mentions: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Reach:
    """Who can read us in an encrypted place: see `bots.base.Encryption`."""

    standing: str = ""
    devices: int = 0
    without: tuple[str, ...] = ()


class Verifying(Protocol):
    """The verifications that are open with an account."""

    @property
    def comparing(self) -> tuple[Comparing, ...]:
        """Those whose signs are shown now; oldest first."""
        ...

    def answer(self, which: Comparing, *, matches: bool) -> bool:
        """Whether both sides show the same, as people say; False where it has ended."""
        ...


class Platform(Protocol):
    """One account on one network."""

    account: str
    key_memory: float
    """Seconds for which the server surely remembers a key. Older actions are looked for before a resend."""

    @property
    def device(self) -> str:
        """The device (session) under which the server remembers keys; `""` where there is none."""
        ...

    @property
    def takes_files(self) -> bool:
        """Whether `Upload` works here. Where it does not, words take its place."""
        ...

    @property
    def verifying(self) -> Verifying | None:
        """The verifications of this account; None where nothing is encrypted."""
        ...

    @property
    def server_time(self) -> int | None:
        """The server's clock (ms since the epoch) at its last answer; None where there is none."""
        ...

    @property
    def takes_votes(self) -> bool:
        """Whether people can vote here, and decide what the place allows."""
        ...

    def withheld(self, place: str, session: str) -> str:
        """Why a sender's app keeps the key of an encrypted session from us, as a code; `""`: not known."""
        ...

    def reach(self, place: str) -> Reach | None:
        """Who can read us in `place` as far as this process knows; None where nothing is encrypted."""
        ...

    def events(
        self, cursor: str | None, sealed: Sequence[Event] = (), answered: Sequence[Event] = ()
    ) -> AsyncGenerator[Batch, None]:
        """Yield what arrived after `cursor`, for ever, in order.

        The consumer commits a batch before it asks for the next one; if it cannot, it closes the
        generator and starts again from the stored cursor with a fresh client. `sealed` are events
        stored earlier that could not be read; `answered` are the messages of the last day that were
        answered, for a platform that has to look whether they were taken back. Retries transient errors
        by itself with backoff; raises `Misconfigured` when only the operator can help.
        """
        ...

    async def refresh(self, turn: Turn) -> Fresh:
        """Look how the question of `turn` stands; nothing to do where the journal is told of everything."""
        ...

    async def fetch(self, attachment: Attachment, into: BinaryIO, limit: int) -> None:
        """Write the file of `attachment` to `into`, decrypted and whole, at most `limit` bytes.

        Raises `Broken` for a file that is larger or is not what its sender vouched for (hash),
        `Refused` for one that is gone, `Retryable` where another try may help. What was written
        before an error is of no use.
        """
        ...

    async def perform(self, action: StoredAction) -> str | None:
        """Do `action` under its key; the remote id of the event, or None where there is none.

        For an `Upload` it is what a `Say` needs to show the file (keys included, where it is encrypted).

        Performing the same key twice within `key_memory` shows it once.
        """
        ...

    async def find(self, action: StoredAction) -> str | Found:
        """Look for `action` in the place, back to its creation: the remote id, absent, or unknown."""
        ...

    async def ballots(self, place: str, poll: str) -> tuple[Ballot, ...]:
        """Every vote on `poll` (its event id) that stands in `place` now: answers, and `!vote` in its thread.

        Who may vote and what counts is not looked at. A vote that was taken back is not there; one that
        cannot be decrypted is left out. Raises one of the four families.
        """
        ...

    def parts(self, text: str, reply_to: str | None = None) -> Parts:
        """Cut `text` (Markdown), the answer to message `reply_to`, into pieces that each fit one event."""
        ...

    async def acknowledge(self, place: str, event_id: str, thread: str | None) -> None:
        """Show that `event_id` was seen (a read receipt). Best effort, never raises."""
        ...

    async def typing(self, place: str, *, on: bool) -> None:
        """Show that an answer is being made, or stop showing it. Best effort, never raises."""
        ...

    async def progress(self, shown: Ephemeral) -> None:
        """Replace what a draft shows, once; never retried, never raises."""
        ...

    async def close(self) -> None:
        """Let go of the network and of the stores."""
        ...
