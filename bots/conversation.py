"""The nouns that every part of Hearth speaks: places, people, messages, turns, actions.

Standard library only, frozen, no behaviour beyond derivation: a platform fills them in, a bot
reads them, the journal stores them. Times are milliseconds since the Unix epoch, as given by
the server that saw the event; ids are opaque strings of the platform.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.transcript import Transcript
    from policies.document import Standing

HEARTH_NS = uuid.UUID("6f1d2f0c-3d0b-5a51-9c0e-8e7f5c1b2a90")
"""Namespace of every action key (RFC 9562, version 5). Changing it would answer everything twice."""


class PlaceKind(StrEnum):
    """Whether a place is a conversation of two or a room of many."""

    DIRECT = "direct"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Place:
    """Where people talk: a Matrix room, a Mastodon thread, the terminal.

    `account` is the bot's own address there; (`account`, `id`) is unique.
    """

    account: str
    id: str
    kind: PlaceKind = PlaceKind.GROUP
    name: str = ""
    policy: Standing | None = None
    """The policy document that is in force there; None: it has none of its own."""
    written: Standing | None = None
    """The document as it stands there; where the place votes, what it widens waits for a vote."""
    base: str | None = None
    """The text of the last policy that held and could be read: what a change begins from."""
    grants: tuple[tuple[str, Standing], ...] = ()
    """The grants that are in force there, by peer (`bot:server`), sorted."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in a place, by full address, with the name shown there and the power held there."""

    id: str
    name: str = ""
    power: int = 0
    is_bot: bool = False
    since: int = 0
    """When this person joined the place (ms since the epoch); 0: not known."""

    @property
    def shown(self) -> str:
        """The name to call this person by."""
        return self.name or self.id


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a message; `source` is what the platform needs to fetch it.

    Size (bytes), media type and duration are what the sender announced, and nothing to rely on.
    `voice` marks what was spoken into the client, as opposed to a file that was chosen.
    """

    source: str
    media_type: str = ""
    size: int | None = None
    name: str = ""
    duration_ms: int | None = None
    voice: bool = False

    @property
    def has_sound(self) -> bool:
        """Whether somebody may be heard in it, as far as its announced type says."""
        return self.voice or self.media_type.startswith(("audio/", "video/"))


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody said, as its latest edit has it. `own` marks what the bot itself said.

    `sign_on` is the message that a reaction was put on; `text` is then the emoji.
    """

    id: str
    sender: Person
    text: str
    sent_at: int = 0
    thread: str | None = None
    reply_to: str | None = None
    own: bool = False
    attachments: tuple[Attachment, ...] = ()
    sign_on: str | None = None


class TurnKind(StrEnum):
    """Why a bot is asked to speak."""

    MESSAGE = "message"
    """Somebody said something to us."""
    REVISION = "revision"
    """A question that was already answered has been edited."""
    WELCOME = "welcome"
    """We joined a place: say what is read, what is kept, how to stop it."""
    POLICY = "policy"
    """The place's own policy was changed: say what is different, and who did it."""
    VERIFICATION = "verification"
    """Somebody compares keys with us, or has: `message.text` says (JSON) how far that is."""
    ANSWERED = "answered"
    """What a waiting turn waited for has arrived."""
    DEADLINE = "deadline"
    """What a waiting turn waited for has not arrived in time."""
    ASKED = "asked"
    """A bot of another community asks; `waited` is what it asks, `message.text` the question."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message that we owe a decision, with what is known as of that message.

    `context` is what was said before it, oldest first. `waited` is the state that a waiting turn
    left for the turn that continues it. `about` is the message with sound that this turn is about:
    the message itself, or the one that it replies or reacts to; `heard` is its transcript, if there
    is one already. `unasked`: nobody addressed it to us; it is read because the room wants that.
    """

    id: int
    kind: TurnKind
    place: Place
    cause: str
    message: Message
    bot: str
    context: tuple[Message, ...] = ()
    waited: dict[str, object] = field(default_factory=dict)
    about: Message | None = None
    heard: Transcript | None = None
    unasked: bool = False

    @property
    def asker(self) -> Person:
        """Who is owed the answer."""
        return self.message.sender


# -- actions ---------------------------------------------------------------------------------------


class Role(StrEnum):
    """What an action is for. Part of its key, so the values never change."""

    ANSWER = "answer"
    FINAL = "final"
    REDACT = "redact"
    FILE = "file"
    """An upload; the message that shows it is an `answer`."""
    BALLOT = "ballot"
    """The poll of a vote, and what ends it."""
    STATE = "state"
    """A policy document or a grant that the room has decided."""
    ENVELOPE = "envelope"
    """What is said to the bot of another community."""
    LINK = "link"
    """The room that is shared with that bot."""


@dataclass(frozen=True, slots=True)
class Say:
    """Say `text` (Markdown) in the place; `mentions` are the addresses to notify, and nobody else.

    `notice` marks words that ask for no attention (progress, errors); answers are not notices,
    because push rules suppress those (Matrix `.m.rule.suppress_notices`).
    """

    kind: ClassVar[str] = "say"
    text: str
    reply_to: str | None = None
    thread: str | None = None
    mentions: tuple[str, ...] = ()
    notice: bool = False
    upload: str | None = None
    """Key of the `Upload` whose file this message shows; `text` is then the file's name."""
    follows: str | None = None
    """Key of the part that this one comes after, where a long answer is said in several."""
    unasked: bool = False
    """A refusal: whom bots are to leave alone is spared it, where the platform knows who that is."""


@dataclass(frozen=True, slots=True)
class Revise:
    """Replace what the action `target` (a key) said by `text`, in the same event."""

    kind: ClassVar[str] = "revise"
    target: str
    text: str
    mentions: tuple[str, ...] = ()
    notice: bool = False


@dataclass(frozen=True, slots=True)
class Redact:
    """Take back what the action `target` (a key) said."""

    kind: ClassVar[str] = "redact"
    target: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """Put a small text file (a transcript) where the place's people can fetch it."""

    kind: ClassVar[str] = "upload"
    name: str
    media_type: str
    text: str


@dataclass(frozen=True, slots=True)
class OpenPoll:
    """Open a vote; `answers` are the words of each choice (`policies.vote.Choice`), in the order shown."""

    kind: ClassVar[str] = "open_poll"
    text: str
    answers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ClosePoll:
    """End the poll that the action `target` (a key) opened; `text` is the result."""

    kind: ClassVar[str] = "close_poll"
    target: str
    text: str


@dataclass(frozen=True, slots=True)
class PutState:
    """Set the state of the place: `content` is the text of a JSON object.

    `merge`: the rest of what stands there stays; objects in it are merged, too.
    """

    kind: ClassVar[str] = "put_state"
    type: str
    state_key: str
    content: str
    merge: bool = False


@dataclass(frozen=True, slots=True)
class SendEnvelope:
    """Send a signed envelope to the other bots of a link room; `body` is what people who watch can read.

    `envelope` is its JSON text, of which not a byte is changed; `body` are a few words.
    """

    kind: ClassVar[str] = "send_envelope"
    envelope: str
    body: str


@dataclass(frozen=True, slots=True)
class OpenLink:
    """Share a link room with the bot `peer` (`bot:server`): the one that it invites us to, else a new one.

    `watchers` are people (addresses) who are invited to watch.
    """

    kind: ClassVar[str] = "open_link"
    peer: str
    watchers: tuple[str, ...] = ()


Action = Say | Revise | Redact | Upload | OpenPoll | ClosePoll | PutState | SendEnvelope | OpenLink
ACTIONS: dict[str, type[Action]] = {
    cls.kind: cls
    for cls in (Say, Revise, Redact, Upload, OpenPoll, ClosePoll, PutState, SendEnvelope, OpenLink)
}


@dataclass(frozen=True, slots=True)
class Keyed:
    """An action with the role and index that make its key."""

    action: Action
    role: Role
    index: int = 0


def action_key(account: str, place: str, bot: str, cause: str, role: Role, index: int) -> str:
    """The key of an action, derived from what caused it and from nothing else.

    The same cause always gives the same key, so a server that remembers keys (Matrix `txnId`,
    Mastodon `Idempotency-Key`) shows the action once however often it is sent.
    """
    canonical = json.dumps([account, place, bot, cause, str(role), index], separators=(",", ":"))
    return str(uuid.uuid5(HEARTH_NS, canonical))
