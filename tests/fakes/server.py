"""A scripted server that outlives the Hearth process: rooms, a log of events, a memory of keys, faults.

What it holds is what people see. It remembers (device, key) for `key_memory` seconds and then forgets,
like a real homeserver; what it is told to do wrong (`faults`) it does wrong in order.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bots.commands import CommandName, parse
from bots.conversation import (
    Attachment,
    ClosePoll,
    OpenLink,
    OpenPoll,
    Person,
    Place,
    PlaceKind,
    PutState,
    Redact,
    Revise,
    Say,
    SendEnvelope,
    Upload,
)
from bots.governance import spoken
from bridge.platform import Event, EventKind, Found, Fresh, Gap, PlaceFacts, PlatformError, Reach, Refused
from policies.document import STATE_TYPE, Standing
from policies.grant import GRANT_TYPE
from policies.vote import Ballot, Choice

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from bots.conversation import Turn
    from bridge.platform import StoredAction

OWN = "@hearth:home"
ADA = Person("@ada:home", "Ada")
BEN = Person("@ben:home", "Ben")
MOD = Person("@mod:home", "Mod", power=50)
ROOM = "!room:home"

LOST = "lost"
"""The server does it, and the acknowledgement never arrives."""
HANG = "hang"
"""The server does nothing and never answers."""
Fault = PlatformError | str | None


@dataclass(slots=True)
class Shown:
    """One event as the server keeps it: what a reader's client has to go by."""

    event: Event
    device: str = ""
    redacted: bool = False
    transaction: str | None = None
    choice: Choice | None = None
    """What was voted, where the event is an answer to a poll."""


@dataclass(slots=True)
class Poll:
    """A poll of ours as people see it; `result` once it has ended."""

    text: str
    answers: Mapping[str, str]
    result: str | None = None


Item = Event | Gap | PlaceFacts
"""What stands in the stream that a sync reads. An event whose ciphertext was there before opens it."""


async def _nothing_new(turn: Turn) -> Fresh:
    return Fresh()


@dataclass
class FakeServer:
    now: Callable[[], int]
    key_memory: float = 86_400.0
    log: dict[str, Shown] = field(default_factory=dict)
    stream: list[Item] = field(default_factory=list)
    rooms: dict[str, PlaceFacts] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    fault_for: Callable[[StoredAction], Fault] = lambda _action: None
    blind: bool = False
    """`find` cannot say."""
    echoes: bool = True
    """A sync brings our own events back; without it a lost acknowledgement stays lost."""
    attempts: list[tuple[int, StoredAction]] = field(default_factory=list)
    ephemeral: list[tuple[int, str, str]] = field(default_factory=list)
    """(when, receipt | typing | typing_off | progress, event or text)."""
    opened: dict[str, Event] = field(default_factory=dict)
    withheld: dict[str, str] = field(default_factory=dict)
    """By session, why its key is kept from Hearth."""
    reach: dict[str, Reach] = field(default_factory=dict)
    """By place, who can read Hearth there."""
    look: Callable[[Turn], Awaitable[Fresh]] = field(default=_nothing_new)
    """What a platform that has to ask finds out about a question before it is taken up."""
    polls: dict[str, Poll] = field(default_factory=dict)
    """By event id, in the order in which they were opened; their redaction is in `log`."""
    state: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    """(place, type, state key) -> (id of the event that set it, its content as JSON)."""
    files: dict[str, bytes] = field(default_factory=dict)
    """By what an attachment names as its source, and an upload as its remote id."""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    # -- people -------------------------------------------------------------------------------------

    def room(
        self, place: str = ROOM, kind: PlaceKind = PlaceKind.GROUP, *members: Person, **facts: Any
    ) -> str:
        members = members or (ADA, BEN, MOD)
        known = PlaceFacts(Place(OWN, place, kind, "Family"), members, **facts)
        self.rooms[place] = known
        self.sync(known)
        return place

    def say(
        self,
        text: str,
        *,
        by: Person = ADA,
        place: str = ROOM,
        mention: bool = True,
        reply_to: str | None = None,
        thread: str | None = None,
        sync: bool = True,
    ) -> str:
        event = self._event(place, EventKind.MESSAGE, by, text, sync=sync)
        return self._amend(event, sync, addressed=mention, reply_to=reply_to, thread=thread)

    def speak(
        self,
        data: bytes,
        *,
        text: str = "",
        by: Person = ADA,
        place: str = ROOM,
        mention: bool = True,
        reply_to: str | None = None,
        thread: str | None = None,
        duration_ms: int | None = 2000,
        media_type: str = "audio/ogg",
        voice: bool = True,
        sync: bool = True,
    ) -> str:
        """Send a file with sound; `text` is its caption."""
        source = self._keep(data)
        file = Attachment(source, media_type, len(data), "note.ogg", duration_ms=duration_ms, voice=voice)
        event = self._event(place, EventKind.MESSAGE, by, text, sync=sync)
        return self._amend(
            event, sync, addressed=mention, reply_to=reply_to, thread=thread, attachments=(file,)
        )

    def react(self, target: str, emoji: str = "👂", *, by: Person = ADA, sync: bool = True) -> str:
        event = self._event(self.log[target].event.place, EventKind.REACTION, by, emoji, sync=sync)
        return self._amend(event, sync, relates_to=target)

    def edit(self, target: str, text: str, *, by: Person | None = None, sync: bool = True) -> str:
        original = self.log[target].event
        event = self._event(original.place, EventKind.EDIT, by or original.sender, text, sync=sync)
        return self._amend(event, sync, relates_to=target)

    def redact(self, target: str, *, by: Person | None = None, sync: bool = True) -> str:
        shown = self.log[target]
        shown.redacted = True
        event = self._event(shown.event.place, EventKind.REDACTION, by or shown.event.sender, sync=sync)
        return self._amend(event, sync, relates_to=target)

    def vote(
        self, poll: str, choice: Choice | str | None = Choice.YES, *, by: Person = ADA, sync: bool = True
    ) -> str:
        """Answer a poll; None takes the vote back. `redact` of an answer lets the one before it count."""
        event = self._event(self.log[poll].event.place, EventKind.BALLOT, by, sync=sync)
        event_id = self._amend(event, sync, relates_to=poll)
        self.log[event_id].choice = None if choice is None else Choice(choice)
        return event_id

    def put_state(
        self, kind: str, content: str, *, state_key: str = "", place: str = ROOM, by: Person = MOD
    ) -> str:
        """Set a policy or the grant of a peer; what stands there already is not set again."""
        text = json.dumps(json.loads(content))
        before = self.state.get((place, kind, state_key))
        if before is not None and before[1] == text:
            return before[0]
        event_id = f"${len(self.log)}:state"
        self.state[place, kind, state_key] = (event_id, text)
        self._stand(place, kind, state_key, Standing(text, by.id, self.now()))
        told = EventKind.POLICY if kind == STATE_TYPE else EventKind.GRANT
        change = json.dumps({"was": None if before is None else before[1], "now": text})
        event = self._event(place, told, by, change, sync=False)
        self.log[event_id] = Shown(replace(event, id=event_id))
        self.sync(replace(event, id=f"{told}:{event_id}", relates_to=state_key or None, context_only=False))
        return event_id

    def join(self, place: str = ROOM) -> str:
        self.rooms[place] = replace(self.rooms[place], joined=True)
        self.sync(self.rooms[place])
        event = self._event(place, EventKind.JOINED, Person(OWN), sync=False)
        return self._amend(event, sync=True, context_only=False)

    def leave(self, place: str = ROOM) -> str:
        self.rooms[place] = replace(self.rooms[place], joined=False)
        return self._amend(self._event(place, EventKind.LEFT, Person(OWN), sync=False), sync=True)

    def seal(self, event_id: str) -> str:
        """Send an event (said with `sync=False`) as ciphertext."""
        event = self.log[event_id].event
        self.sync(
            replace(event, kind=EventKind.SEALED, text="", sealed=f"cipher:{event_id}", addressed=False)
        )
        return event_id

    def open(self, event_id: str) -> None:
        """The key of a sealed event arrives."""
        self.opened[event_id] = self.log[event_id].event
        self.sync(self.opened[event_id])

    def sync(self, item: Item | str) -> None:
        """Put something into the stream, for the first time or again."""
        self.stream.append(self.log[item].event if isinstance(item, str) else item)
        self.news.set()

    # -- what a reader sees -------------------------------------------------------------------------

    def shown(self, place: str = ROOM, *, own: bool = True) -> list[Event]:
        """The visible messages of Hearth (or of the others), each with its latest text."""
        found = []
        for shown in self.log.values():
            event = shown.event
            if event.kind is EventKind.MESSAGE and event.place == place and event.own == own:
                if shown.redacted:
                    continue
                edits = [
                    e.event.text
                    for e in self.log.values()
                    if e.event.kind is EventKind.EDIT
                    and e.event.relates_to == event.id
                    and e.event.sender.id == event.sender.id
                    and not e.redacted
                ]
                found.append(replace(event, text=edits[-1] if edits else event.text))
        return found

    def texts(self, place: str = ROOM) -> list[str]:
        return [event.text for event in self.shown(place)]

    def answers(self, question: str) -> list[str]:
        """The visible replies of Hearth to one message."""
        return [e.text for e in self.shown(self.log[question].event.place) if e.reply_to == question]

    def ballots(self, place: str, poll: str) -> tuple[Ballot, ...]:
        """What stands of the votes on a poll: answers to it, and `!vote` in its thread as first said."""
        found = []
        for shown in self.log.values():
            event = shown.event
            if shown.redacted or event.own or event.place != place:
                continue
            choice = shown.choice
            if event.kind is EventKind.MESSAGE and event.thread == poll:
                command = parse(event.text, own_id=OWN)
                if command is None or command.name is not CommandName.VOTE:
                    continue
                choice = spoken(command.argument)
            elif event.kind is not EventKind.BALLOT or event.relates_to != poll:
                continue
            found.append(Ballot(event.id, event.sender.id, event.sent_at, choice))
        return tuple(found)

    # -- the client ---------------------------------------------------------------------------------

    def put(self, action: StoredAction, device: str) -> str | None:  # noqa: C901 - a table of kinds
        """What a send request does; the id of the event, the old one for a key that is remembered."""
        remembered = self.keys.get((device, action.key))
        if remembered is not None and self.now() - remembered[1] <= self.key_memory * 1000:
            return remembered[0]
        match action.action:
            case Upload() as upload:
                return self._keep(upload.text.encode())
            case Say() as say:
                event = self._event(action.place, EventKind.MESSAGE, Person(OWN), say.text, sync=False)
                more: dict[str, object] = {"reply_to": say.reply_to, "thread": say.thread}
                if say.upload is not None:
                    more["attachments"] = (self._shown_file(action, say.text),)
            case Revise() as revise:
                event = self._event(action.place, EventKind.EDIT, Person(OWN), revise.text, sync=False)
                more = {"relates_to": action.target}
            case SendEnvelope() as sent:
                event = self._event(action.place, EventKind.ENVELOPE, Person(OWN), sent.envelope, sync=False)
                more = {}
            case OpenLink() as link:
                return f"!link:{link.peer}"
            case OpenPoll() | ClosePoll():
                return self._poll(action, device)
            case PutState() as put:
                return self.put_state(
                    put.type, put.content, state_key=put.state_key, place=action.place, by=Person(OWN)
                )
            case Redact():
                assert action.target is not None
                self.log[action.target].redacted = True
                event = self._event(action.place, EventKind.REDACTION, Person(OWN), sync=False)
                more = {"relates_to": action.target}
        event_id = self._amend(event, sync=self.echoes, key=action.key, **more)
        self._remember(event_id, action.key, device)
        return event_id

    def show_progress(self, place: str, target: str, text: str) -> None:
        """An edit that nobody stores; the adapter does not report it either."""
        event = self._event(place, EventKind.EDIT, Person(OWN), text, sync=False)
        self._amend(event, sync=False, relates_to=target)
        self.ephemeral.append((self.now(), "progress", text))

    def read(self, source: str) -> bytes:
        """The file that an attachment names; refused once it is gone."""
        if source not in self.files:
            raise Refused("M_NOT_FOUND", "the file is gone")
        return self.files[source]

    def find(self, action: StoredAction) -> str | Found:
        if isinstance(action.action, Upload | OpenLink):
            return Found.ABSENT
        if self.blind:
            return Found.UNKNOWN
        if isinstance(action.action, PutState):
            put = action.action
            event_id, text = self.state.get((action.place, put.type, put.state_key), ("", ""))
            return event_id if text and json.loads(text) == json.loads(put.content) else Found.ABSENT
        if isinstance(action.action, Redact) and action.target and self.log[action.target].redacted:
            return "$redacted"
        for event_id, shown in self.log.items():
            if shown.event.key == action.key:
                return event_id
        return Found.ABSENT

    def fault(self, action: StoredAction) -> Fault:
        self.attempts.append((self.now(), action))
        return self.faults.popleft() if self.faults else self.fault_for(action)

    # -- inside -------------------------------------------------------------------------------------

    def _remember(self, event_id: str, key: str, device: str) -> None:
        self.log[event_id].device = device
        self.log[event_id].transaction = key
        self.keys[device, key] = (event_id, self.now())

    def _poll(self, action: StoredAction, device: str) -> str:
        """Open or end a poll. No sync tells of it: an adapter reports what others do."""
        event = self._event(action.place, EventKind.BALLOT, Person(OWN), sync=False)
        event_id = self._amend(event, sync=False, key=action.key, relates_to=action.target)
        match action.action:
            case OpenPoll(text=text, answers=answers):
                self.polls[event_id] = Poll(text, answers)
            case ClosePoll(text=text):
                assert action.target is not None
                self.polls[action.target].result = text
        self._remember(event_id, action.key, device)
        return event_id

    def _stand(self, place: str, kind: str, key: str, standing: Standing) -> None:
        """Let a document stand in the room, and tell what is known of the room now."""
        facts = self.rooms[place]
        if kind == STATE_TYPE:
            known = replace(facts.place, policy=standing)
        else:
            assert kind == GRANT_TYPE, f"nobody here knows what {kind} is"
            grants = {**dict(facts.place.grants), key: standing}
            known = replace(facts.place, grants=tuple(sorted(grants.items(), key=lambda one: one[0])))
        self.rooms[place] = replace(facts, place=known)
        self.sync(self.rooms[place])

    def _keep(self, data: bytes) -> str:
        source = f"file:{len(self.files)}"
        self.files[source] = data
        return source

    def _shown_file(self, action: StoredAction, name: str) -> Attachment:
        assert action.target in self.files, "what is shown was never uploaded"
        return Attachment(action.target, name=name)

    def _event(self, place: str, kind: EventKind, sender: Person, text: str = "", *, sync: bool) -> Event:
        del sync
        own = sender.id == OWN
        event_id = f"${len(self.log)}:{kind}"
        return Event(event_id, place, kind, sender, self.now(), text=text, own=own, context_only=own)

    def _amend(self, event: Event, sync: bool, **more: object) -> str:  # noqa: FBT001 - private
        event = replace(event, **more)  # type: ignore[arg-type]  # names of fields, checked by replace
        self.log[event.id] = Shown(event)
        if sync:
            self.sync(event)
        return event.id
