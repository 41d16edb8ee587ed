"""`hearth doctor`: whether encryption works, for the account and for each room, and what helps.

Works beside a running `hearth run`, whose journal it reads and whose session it asks the server about;
it changes nothing. What only the running process knows, whose devices could not be given a key, is told
by `!doctor` in a room.
"""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console

from bridge import check_matrix
from bridge.credentials import MATRIX_RECOVERY_KEY, OneSecret
from bridge.matrix.secret_storage import Kept, SecretStorage
from bridge.platform import Misconfigured, PlatformError
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


async def verify(settings: Settings, out: Console | None = None) -> int:
    """The same of the account alone: login, device, secret storage."""
    lines = [line async for line in check_matrix.lines(settings, settings.need_matrix())]
    lines.append(await storage(settings))
    show(lines, out or Console(highlight=False))
    return status(lines)


async def storage(settings: Settings) -> Line:
    """Whether the account's identity can be restored with the recovery key that is here."""
    name, files = "secret storage", settings.credentials()
    try:
        async with check_matrix.caller(settings) as call:
            if call is None:
                return Line(name, State.NOTE, "there is no session yet", "the first `hearth run` makes one")
            kept = SecretStorage(
                call, settings.need_matrix().user, OneSecret(files, MATRIX_RECOVERY_KEY), secrets.token_bytes
            )
            state = await kept.state()
    except Misconfigured as error:
        return Line(name, State.PROBLEM, f"{error.path} {error.remedy}", "correct it, or remove it")
    except PlatformError as error:
        return Line(name, State.LATER, str(error), "try again later")
    path = await asyncio.to_thread(files.find, MATRIX_RECOVERY_KEY)
    match state:
        case Kept.HERE:
            remedy = "keep a copy of it in a safe place: with it a lost disk loses no identity"
            return Line(name, State.OK, f"opens with the recovery key in {path}", remedy)
        case Kept.OTHERS:
            remedy = f"write the recovery key of the account into {files.write / MATRIX_RECOVERY_KEY}"
            return Line(name, State.PROBLEM, "is under another key than ours", remedy)
        case Kept.NONE:
            return Line(
                name, State.NOTE, "does not have the identity yet", "the next `hearth run` puts it there"
            )


async def look(settings: Settings) -> AsyncIterator[Line]:
    """The account as its homeserver sees it, then the encrypted rooms as the journal does."""
    matrix = settings.need_matrix()
    async for line in check_matrix.lines(settings, matrix):
        yield line
    if not await asyncio.to_thread(settings.journal_path.exists):
        yield Line("rooms", State.NOTE, "there is no journal yet", "start `hearth run`")
        return
    yield await storage(settings)
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
