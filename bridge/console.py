"""The terminal behind the port: `hearth chat` talks to the same bots without any server.

Owns standard input and what is shown on the terminal. Promises that an action is shown once per
key, that drafts are only shown where a terminal can redraw them, and that nothing a model writes
can steer the terminal (control characters are taken out). Refuses nothing: the person who types
owns the machine.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.spinner import Spinner

from bots.conversation import (
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
from bridge.platform import (
    Batch,
    Broken,
    Ephemeral,
    Event,
    EventKind,
    Found,
    Fresh,
    Parts,
    PlaceFacts,
    Reach,
    Refused,
    StoredAction,
)
from policies.room import Trust

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from typing import BinaryIO

    from bots.conversation import Attachment, Turn
    from policies.vote import Ballot

ACCOUNT = "@hearth:console"
SERVER = "console"
PLACE = "console"
MODERATOR = 100
_LINES = 64
"""Typed lines that may wait. Beyond it the reader waits, and with it the pipe."""


def printable(text: str) -> str:
    """`text` without control characters (but newline and tab), so that it cannot steer a terminal."""
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F))  # noqa: PLR2004 - C0, DEL, C1


class ConsolePlatform:
    """One person at a terminal. A second instance in one process would fight for standard input."""

    account = ACCOUNT
    device = "console"
    key_memory = float("inf")
    takes_files = True
    verifying = None
    takes_votes = False

    def __init__(
        self,
        person: str,
        *,
        lines: TextIO | None = None,
        question: str | None = None,
        out: Console | None = None,
    ) -> None:
        """`person` is a local name; `lines` is read to its end, or `question` is the only line."""
        self._person = Person(f"@{person}:{SERVER}", name=person.capitalize(), power=MODERATOR)
        self._place = Place(ACCOUNT, PLACE, PlaceKind.DIRECT, "terminal")
        self._out = out or Console(highlight=False)
        self._source = lines
        self._question = question
        self._queue: asyncio.Queue[str | None] = asyncio.Queue(_LINES)
        self._shown: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._live: Live | None = None
        self._open: str | None = None
        self._ready = asyncio.Event()
        self._asked = 0
        self.ended = asyncio.Event()
        """Set when the last line is in the journal."""

    # -- the port ----------------------------------------------------------------------------------

    async def events(
        self, cursor: str | None, sealed: Sequence[Event] = (), answered: Sequence[Event] = ()
    ) -> AsyncGenerator[Batch, None]:
        """Yield each line that is typed as a message; ends with the input."""
        del sealed, answered
        number = int(cursor or 0)
        yield Batch(ACCOUNT, str(number), places=(self._facts(),))
        self._start_reading()
        while True:
            line = await self._queue.get()
            if line is None:
                self.ended.set()
                # An end of the events would end the house, and answers are still under way.
                await asyncio.Event().wait()
                return
            if not line.strip():
                self._ready.set()
                continue
            number += 1
            event = Event(
                id=f"${uuid.uuid4()}",
                place=PLACE,
                kind=EventKind.MESSAGE,
                sender=self._person,
                sent_at=time.time_ns() // 1_000_000,
                text=line.rstrip("\n"),
                addressed=True,
                trust=Trust.VERIFIED,  # whoever sits at this terminal runs the house
            )
            yield Batch(ACCOUNT, str(number), events=(event,))
            # Asked for the next batch: this one is in the journal.
            self._asked += 1
            self._ready.set()

    async def refresh(self, turn: Turn) -> Fresh:
        """Nothing to look for: what was typed was typed."""
        del turn
        return Fresh()

    async def fetch(self, attachment: Attachment, into: BinaryIO, limit: int) -> None:
        """Refuse: nobody can send a file to a terminal."""
        del attachment, into, limit
        raise Refused("terminal", "use `hearth transcribe FILE`")

    async def perform(self, action: StoredAction) -> str | None:
        """Show `action`, once per key; the id is the key itself."""
        if action.key in self._shown:
            return self._shown[action.key]
        if isinstance(action.action, OpenPoll | ClosePoll | PutState):
            raise Broken(f"{action.action.kind}: there are no votes on a terminal")
        if isinstance(action.action, SendEnvelope | OpenLink):
            raise Broken(f"{action.action.kind}: there are no other communities on a terminal")
        self._shown[action.key] = action.key
        match action.action:
            case Upload():
                pass  # nothing leaves this machine; the message that shows the file says so
            case Say(text=text, upload=str()):
                self._show(action.key, f"({text} would be sent as a file)")
            case Say(text=text):
                self._show(action.key, text)
            case Revise(text=text):
                self._show(action.target or action.key, text)
            case Redact():
                self._show(action.target or action.key, "*(taken back)*")
        return action.key

    async def find(self, action: StoredAction) -> str | Found:
        """What was shown is known: this process is the terminal's whole memory."""
        return self._shown.get(action.key, Found.ABSENT)

    def withheld(self, place: str, session: str) -> str:
        """Nothing is encrypted here."""
        del place, session
        return ""

    def reach(self, place: str) -> Reach | None:
        """Nothing is encrypted here."""
        del place
        return None

    @property
    def server_time(self) -> int | None:
        """None: nothing here ends at a time that others go by."""
        return None

    async def ballots(self, place: str, poll: str) -> tuple[Ballot, ...]:
        """None: one person does not vote."""
        del place, poll
        return ()

    def parts(self, text: str, reply_to: str | None = None) -> Parts:
        """Return `text` in one piece: a terminal has no limit."""
        del reply_to
        return Parts((text,))

    async def acknowledge(self, place: str, event_id: str, thread: str | None) -> None:
        """Nothing to show: who typed knows."""

    async def typing(self, place: str, *, on: bool) -> None:
        """Show that an answer is being made, where the terminal can redraw it."""
        del place
        if on and self._live is None and self._out.is_terminal:
            self._live = Live(Spinner("dots", "thinking"), console=self._out, refresh_per_second=10)
            self._live.start()

    async def progress(self, shown: Ephemeral) -> None:
        """Show the answer so far, where the terminal can redraw it."""
        if self._live is not None and shown.text:
            self._live.update(Markdown(printable(shown.text)))

    async def close(self) -> None:
        """Leave the terminal as it was. The thread that reads is a daemon: it ends with the process."""
        self.rest()

    # -- for whoever runs the conversation ------------------------------------------------------------

    async def converse(self, answered: Callable[[], Awaitable[None]]) -> None:
        """Prompt, wait until everything is `answered`, prompt again; until the input ends.

        Returns when the last question is answered too.
        """
        if self._sits_there:
            self._out.print("Talk to Hearth: !help shows what it can do, Ctrl-D ends.", style="dim")
        self.prompt()
        while True:
            ready = asyncio.ensure_future(self._ready.wait())
            ended = asyncio.ensure_future(self.ended.wait())
            try:
                await asyncio.wait((ready, ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                ready.cancel()
                ended.cancel()
            self._ready.clear()
            await answered()
            self.rest()
            if self.ended.is_set():
                if self._sits_there:
                    self._out.print()  # the prompt stands there unanswered
                return
            self.prompt()

    def prompt(self) -> None:
        """Invite the next line, where somebody sits at the terminal."""
        if self._sits_there:
            self._out.print("[bold cyan]you[/] ", end="")

    def rest(self) -> None:
        """The answer on the screen is complete: what comes next is written below it."""
        if self._live is not None:
            if self._open is None:
                self._live.transient = True  # nothing but the spinner: leave no trace of it
            self._live.stop()
            self._live = None
        self._open = None

    @property
    def _sits_there(self) -> bool:
        """Whether somebody types at a terminal that shows the answers."""
        return self._question is None and self._out.is_terminal

    def _show(self, key: str, text: str) -> None:
        again = key in self._texts
        self._texts[key] = text
        words = Markdown(printable(text)) if self._out.is_terminal else printable(text)
        if self._live is not None and (self._open in (None, key)):
            self._live.update(words, refresh=True)
            self._open = key
            return
        self.rest()
        if again:
            self._out.print("(revised)", style="dim")
        self._out.print(words, markup=False, soft_wrap=not self._out.is_terminal)

    def _facts(self) -> PlaceFacts:
        ours = Person(ACCOUNT, name="Hearth", is_bot=True)
        return PlaceFacts(self._place, members=(self._person, ours), default_power=MODERATOR)

    # -- reading -------------------------------------------------------------------------------------

    def _start_reading(self) -> None:
        if self._question is not None:
            self._queue.put_nowait(self._question)
            self._queue.put_nowait(None)
            return
        # A thread, because a terminal cannot be read without blocking on every kind of input;
        # a daemon, because a blocked read cannot be interrupted.
        reader = threading.Thread(target=self._read, args=(asyncio.get_running_loop(),), daemon=True)
        reader.start()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._source is not None
        try:
            for line in self._source:
                asyncio.run_coroutine_threadsafe(self._queue.put(line), loop).result()
            asyncio.run_coroutine_threadsafe(self._queue.put(None), loop).result()
        except (RuntimeError, asyncio.CancelledError, ValueError):
            return  # the loop is gone, or the input was closed under us: nobody listens any more
