"""`hearth doctor`: whether encryption works, for the account and for each room, and what helps.

Works beside a running `hearth run`, whose journal it reads and whose session it asks the server about;
it changes nothing. What only the running process knows, whose devices could not be given a key, is told
by `!doctor` in a room.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console

from bridge import check_matrix
from bridge.report import Line, State, show, status
from bridge.turns import journal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.journal.rows import Legible
    from bridge.settings import Settings


async def doctor(settings: Settings, out: Console | None = None) -> int:
    """Look, print a table, and return the exit status of `report.status`."""
    lines = [line async for line in look(settings)]
    show(lines, out or Console(highlight=False))
    return status(lines)


async def look(settings: Settings) -> AsyncIterator[Line]:
    """The account as its homeserver sees it, then the encrypted rooms as the journal does."""
    matrix = settings.need_matrix()
    async for line in check_matrix.lines(settings, matrix):
        yield line
    if not await asyncio.to_thread(settings.journal_path.exists):
        yield Line("rooms", State.NOTE, "there is no journal yet", "start `hearth run`")
        return
    async with journal_of(settings) as journal:
        rooms = await journal.legible(matrix.user)
    if not rooms:
        yield Line("rooms", State.NOTE, "the bot is in no encrypted room")
    for room in rooms:
        yield of_room(room)


def of_room(room: Legible) -> Line:
    """What was written by others in an encrypted room and could be read, and what not."""
    name = f"{room.name} ({room.place})" if room.name else room.place
    read = f"last read {_time(room.last_read)}" if room.last_read is not None else "nothing read yet"
    if not room.unread or room.last_unread is None:
        return Line(name, State.OK, f"every message has its key; {read}")
    found = f"{room.unread} without a key, the last {_time(room.last_unread)}; {read}"
    recovered = room.last_read is not None and room.last_read > room.last_unread
    remedy = "ask whoever wrote them to write once more; `!doctor` there tells more"
    return Line(name, State.NOTE if recovered else State.PROBLEM, found, remedy)


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
