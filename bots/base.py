"""What a bot is: it reads a turn and returns what to do. It cannot send, store or fetch anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from models.client import Chunk as Chunk  # noqa: PLC0414, TC001 - bots speak of it, models own it
from models.hearing import Heard as Heard  # noqa: PLC0414, TC001 - as above

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from bots.conversation import Message, OpenPoll, Person, PutState, Turn, Upload
    from models.transcript import Transcript
    from policies.classes import Class
    from policies.decide import Request
    from policies.document import Standing
    from policies.proposal import Proposal
    from policies.room import RoomPolicy
    from policies.verdict import Verdict
    from policies.vote import Ballot, Rule


@dataclass(frozen=True, slots=True)
class Draft:
    """The answer so far, whole, while it is being written. Shown if it takes long, never kept.

    `done` (0 to 1) is how far a long work has come, where that is known: its progress is then shown
    evenly over the whole of it.
    """

    text: str
    done: float | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The model is busy: `position` conversations are before this one. Shown after a few seconds."""

    position: int


@dataclass(frozen=True, slots=True)
class Passage:
    """Lines `first` to `last` of a note at `path` (relative), under its headings `trail`."""

    collection: str
    path: str
    first: int
    last: int
    trail: str
    text: str

    @property
    def source(self) -> str:
        """Where it stands, as `pool.md:12-18`."""
        lines = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.path}:{lines}"


class Forget(StrEnum):
    """What a person asked to erase: their own words in every place of this account, or all of this place."""

    MINE = "mine"
    ROOM = "room"


@dataclass(frozen=True, slots=True)
class Wait:
    """The turn goes on when somebody replies to what it said, or at `until` (ms since the epoch).

    `state` is kept and handed to the turn that continues (`Turn.waited`); JSON values only.
    """

    until: int
    state: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opening:
    """A vote to open: what is proposed, how it is decided, who may vote (addresses), until when (ms)."""

    proposal: Proposal
    rule: Rule
    voters: tuple[str, ...]
    due: int
    poll: OpenPoll


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote of this place as the journal has it. `poll` is the event of its ballot, once it is sent.

    `state` is one of `policies.vote.State`, or `stopped`, `withdrawn`; `tally` what was counted at the end.
    """

    id: int
    place: str
    cause: str
    proposer: str
    proposal: Proposal
    rule: Rule
    voters: frozenset[str]
    opened_at: int
    due: int
    extended: bool
    message: str
    """The proposal; `cause` is that, or the edit of it that opened the vote."""
    poll_key: str
    poll: str | None
    state: str
    reason: str = ""
    tally: Mapping[str, object] | None = None
    closed_at: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether people can still vote."""
        return self.state in ("open", "extended")


@dataclass(frozen=True, slots=True)
class Peer:
    """The bot of another community, as this place knows it.

    `name`, `key` (Ed25519, unpadded base64), `capabilities` and `languages` are what it shows on its card:
    proven by nothing. `asked` counts our last questions to it, at most thirty, `answered` those that it
    answered, in `wait_ms` (the median); None where it never did.
    """

    address: str
    """`bot:server`."""
    name: str = ""
    key: str = ""
    capabilities: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    linked: bool = False
    """Whether we share a link room with it, in which it is."""
    asked_here: bool = False
    """Whether this place has asked it before."""
    asked: int = 0
    answered: int = 0
    wait_ms: int | None = None


@dataclass(frozen=True, slots=True)
class AskPeer:
    """Ask `peer` (`bot:server`) what stands in `text`, just so; an answer is taken until `until` (ms).

    `share` is `answers` (what its model says) or `information` (passages of its notes).
    """

    peer: str
    text: str
    cls: Class
    share: str
    until: int


@dataclass(frozen=True, slots=True)
class AnswerPeer:
    """What the bot that asks is answered: words, or passages of notes. `model` wrote the words."""

    text: str = ""
    passages: tuple[Passage, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True)
class RefusePeer:
    """Why the bot that asks is not answered. `failed`: we would have."""

    code: str
    rule: str
    retry_after_ms: int | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """One signed envelope, for `!proof`: what it was, its digest, and whether the pinned key signed it."""

    kind: str
    sender: str
    to: str
    at: int
    digest: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Crossed:
    """One envelope that came `in` or went `out`, or was kept from it, for `!audit`."""

    at: int
    peer: str
    way: str
    kind: str
    allowed: bool
    code: str
    rule: str


@dataclass(frozen=True, slots=True)
class Encryption:
    """How well a place can be read and written, where it is encrypted; times in ms since the epoch.

    `standing` is what the apps of others find when they look at our device: `signed`, `foreign`,
    `no_password`; `""`: not known yet. `without` are the people with devices that could not be given a
    key of ours when something was last said, out of `devices` in all.
    """

    standing: str = ""
    devices: int = 0
    without: tuple[str, ...] = ()
    unread: int = 0
    """Messages of others for which there is no key."""
    last_unread: int | None = None
    last_read: int | None = None


@dataclass(frozen=True, slots=True)
class FromPeer:
    """How a question to a peer ended: it `answered`, it `refused`, or we `dropped` its answer.

    `text` and `passages` (words, source) are the other side's: data. `through` are those who passed it on;
    `age_ms` is how old it was when it reached us, `waited_ms` how long the question was under way. `code`
    and `rule` say why it refused, or why what it answered was dropped.
    """

    end: str
    peer: str
    name: str = ""
    text: str = ""
    passages: tuple[tuple[str, str], ...] = ()
    model: str = ""
    through: tuple[str, ...] = ()
    age_ms: int = 0
    waited_ms: int = 0
    code: str = ""
    rule: str = ""
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """How a turn ends: the words (Markdown; empty for silence) and what else becomes true with them.

    `notice` is for words that are not an answer. `features` (sizes, counts, seconds; never text)
    are kept with the verdict. `forget` is applied in the transaction that settles the turn, and so
    is `heard`, the transcript of `turn.about`. `files` are shown after the words, `state` is set and
    the `vote` opened. `peer` is what another community's bot is asked, or answered; `link` is the bot
    (`bot:server`) to share a link room with.
    """

    text: str
    notice: bool = False
    forget: Forget | None = None
    wait: Wait | None = None
    features: Mapping[str, float | int | str] = field(default_factory=dict)
    heard: Transcript | None = None
    files: tuple[Upload, ...] = ()
    state: tuple[PutState, ...] = ()
    vote: Opening | None = None
    peer: AskPeer | AnswerPeer | RefusePeer | None = None
    link: str = ""
    closes: str = ""
    """What the words become by which the turn before this one said that it waits."""
    verdict: Verdict | None = None
    """What was decided on the way, where that is more than that the turn may be taken (`!why`)."""


@dataclass(frozen=True, slots=True)
class Comparing:
    """A verification whose signs are shown now: `user` should see the same `signs` (sign, name) or `numbers`.

    `place` is where people were told; `""`: nowhere.
    """

    id: str
    user: str
    place: str
    signs: tuple[tuple[str, str], ...]
    numbers: tuple[int, ...]


class Unfetchable(Exception):
    """A file that cannot be had: `code` is `too_large`, `gone` or `broken`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided about one message, for `!why`. `text` of the message is never part of it."""

    state: str
    verdict: Verdict | None
    outcome: str | None
    deliveries: tuple[str, ...] = ()
    possible_duplicates: int = 0
    notes: str = ""
    """The collections of notes that were read for it."""
    chosen: str = ""
    """Why the peer `peer` was asked, out of `among` that could be (`bots.asking.Chosen`)."""
    peer: str = ""
    among: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """What `!status` tells: the model in use, how much waits, what is kept and for how long."""

    version: str
    model: str
    model_is_bundled: bool
    model_ready: bool
    pending: int
    running: int
    undelivered: int
    parked: int
    sealed: int
    retention_days: int
    encrypted: bool
    speech_model: str = ""
    """`""`: voice is off."""
    speech_is_bundled: bool = False
    speech_ready: bool = False
    hears_all: bool = False
    """Every voice message here is listened to, whether it is for us or not."""


class Tools(Protocol):
    """What a bot may ask of the bridge while it thinks."""

    @property
    def takes_files(self) -> bool:
        """Whether this platform shows files; where it does not, words must do."""
        ...

    @property
    def ceiling(self) -> RoomPolicy:
        """What whoever runs the bot allows at most, in any room."""
        ...

    @property
    def policy(self) -> RoomPolicy:
        """What holds in this place: the ceiling, and the room's own limits and wording."""
        ...

    async def may(self, request: Request) -> Verdict:
        """Ask the policy of this place."""
        ...

    def chat(self, messages: Sequence[Mapping[str, str]], *, max_tokens: int) -> AsyncIterator[Chunk]:
        """Stream an answer of the chat model to OpenAI-shaped `messages`.

        Raises `models.client.ModelError` (its four families are in that module).
        """
        ...

    def hear(self, message: Message, *, hotwords: Sequence[str] = ()) -> AsyncIterator[Heard]:
        """Fetch the first attachment with sound of `message` and listen to it; nothing of it is kept.

        The last `Heard` carries the whole transcript. `hotwords` are spelled as they should be;
        the names of the place are added. Raises `Unfetchable`, `models.client.ModelError`.
        """
        ...

    async def count_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Tokens that `messages` take as a prompt of the chat model, template included."""
        ...

    async def context_size(self) -> int:
        """Tokens that prompt and answer may take together."""
        ...

    async def decided(self, event_id: str) -> Decided | None:
        """What was decided about a message of this place, or None if it is not known."""
        ...

    async def notes(self, question: str, limit: int) -> tuple[Passage, ...]:
        """Passages of the notes that may be read here which are about `question`, best first."""
        ...

    async def collections(self) -> tuple[str, ...]:
        """The collections of notes that may be read here."""
        ...

    async def status(self) -> Status:
        """How the house is doing."""
        ...

    @property
    def now(self) -> int:
        """Milliseconds since the epoch."""
        ...

    @property
    def admins(self) -> tuple[str, ...]:
        """Whom the settings name as admin of this account (addresses), sorted."""
        ...

    @property
    def comparing(self) -> tuple[Comparing, ...]:
        """The verifications whose signs are shown now, in any place of this account; oldest first."""
        ...

    def compared(self, which: Comparing, *, matches: bool) -> bool:
        """Say whether both sides of a verification show the same; False where it has ended."""
        ...

    @property
    def takes_votes(self) -> bool:
        """Whether people can vote on this platform."""
        ...

    @property
    def people(self) -> tuple[Person, ...]:
        """Who is in this place, we and other bots among them, with their power."""
        ...

    @property
    def policy_power(self) -> int:
        """The power that writing the place's policy takes."""
        ...

    @property
    def ruled_by_members(self) -> bool:
        """Whether a mere member could write what the place allows."""
        ...

    @property
    def levels_power(self) -> int:
        """The power that changing power levels takes."""
        ...

    async def proof(self, event_id: str) -> tuple[Signature, ...]:
        """The signed envelopes behind what we said in `event_id`, in order; empty: there are none."""
        ...

    async def crossings(self, limit: int = 20) -> tuple[Crossed, ...]:
        """The last of what crossed between this community and others, newest first; never with words."""
        ...

    async def encryption(self) -> Encryption | None:
        """How encryption stands in this place; None where nothing is encrypted."""
        ...

    async def peers(self) -> tuple[Peer, ...]:
        """The peers that this place has a grant for, or that we are linked with; sorted by address."""
        ...

    async def votes(self, limit: int = 20) -> tuple[Vote, ...]:
        """The votes of this place, newest first."""
        ...

    async def ballots(self, vote: Vote) -> tuple[Ballot, ...]:
        """The ballots of a vote as they stand in the place now. Raises the platform's errors."""
        ...

    async def documents(self, limit: int = 20) -> tuple[tuple[str, Standing], ...]:
        """What stood in this place as its policy (`""`) or as a grant (the peer), newest first."""
        ...

    async def asked(self, since: int) -> tuple[Mapping[str, object], ...]:
        """Features (never words) of the questions that were put here since then (ms)."""
        ...


class Bot(Protocol):
    """One voice of Hearth."""

    name: str

    def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        """Yield drafts while thinking, then exactly one `Reply`, last."""
        ...
