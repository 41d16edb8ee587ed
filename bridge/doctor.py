"""`hearth doctor`: whether encryption works, for the account and for each room, and what helps.

Works beside a running `hearth run`, whose journal it reads and whose session it asks the server about;
it changes nothing. What only the running process knows, whose devices could not be given a key, is told
by `!doctor` in a room.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from bridge import check_matrix
from bridge.credentials import MATRIX_RECOVERY_KEY
from bridge.matrix.crypto.backup import Backing, voucher
from bridge.matrix.crypto.keeper import (
    BACKUP_REMEDIES,
    IDENTITY_FILE,
    RECOVERY_FILE,
    STORAGE_REMEDIES,
    read_recovery_key,
)
from bridge.matrix.crypto.storage import Storage, Storing
from bridge.matrix.identity import load, public
from bridge.platform import Misconfigured, PlatformError
from bridge.report import Line, State, show, status
from bridge.turns import journal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from bridge.journal.rows import Legible
    from bridge.settings import Settings


STORED: Final = "secret storage"
BACKUP: Final = "key backup"


async def doctor(settings: Settings, out: Console | None = None) -> int:
    """Look, print a table, and return the exit status of `report.status`."""
    lines = [line async for line in look(settings)]
    show(lines, out or Console(highlight=False))
    return status(lines)


async def verify(settings: Settings, out: Console | None = None) -> int:
    """The same of the account alone: login, device, secret storage."""
    lines = [line async for line in check_matrix.lines(settings, settings.need_matrix())]
    lines += [line async for line in kept(settings)]
    show(lines, out or Console(highlight=False))
    return status(lines)


async def kept(settings: Settings) -> AsyncIterator[Line]:
    """What the homeserver keeps for a lost disk: the identity, the room keys; and whether both open."""
    folder, user = settings.matrix_store, settings.need_matrix().user
    try:
        async with check_matrix.caller(settings) as call:
            if call is None:
                yield Line(STORED, State.NOTE, "there is no session yet", "the first `hearth run` makes one")
                return
            given = await asyncio.to_thread(settings.credentials().get, MATRIX_RECOVERY_KEY)
            key = await asyncio.to_thread(
                read_recovery_key, folder, None if given is None else given.get_secret_value()
            )
            state = await Storage(call, user, secrets.token_bytes).look(key)
            where = "the credential" if given is not None else str(folder / RECOVERY_FILE)
            yield _stored(state, where)
            told = await call("GET", ("v3", "room_keys", "version"), accept=frozenset({404}))
            yield await asyncio.to_thread(_backed_up, told, folder, user)
    except Misconfigured as error:
        yield Line(STORED, State.PROBLEM, f"{error.path} {error.remedy}", "correct it, or remove it")
    except PlatformError as error:
        yield Line(STORED, State.LATER, str(error), "try again later")


def _stored(state: Storing, where: str) -> Line:
    if state is Storing.OPEN:
        remedy = "keep a copy of it in a safe place: with it a lost disk loses neither identity nor keys"
        return Line(STORED, State.OK, f"opens with the recovery key in {where}", remedy)
    if state is Storing.ABSENT:
        return Line(STORED, State.NOTE, "is not there yet", "the next `hearth run` makes it")
    return Line(STORED, State.PROBLEM, f"does not open: {state}", STORAGE_REMEDIES[state])


def _backed_up(told: Mapping[str, Any], folder: Path, user: str) -> Line:
    """Whether somebody of ours vouches for the backup that the server has, and how many keys are in it."""
    if "errcode" in told:
        return Line(BACKUP, State.NOTE, "there is none", "the next `hearth run` makes it")
    identity = load(folder / IDENTITY_FILE)
    try:
        session = json.loads((folder / "session.json").read_text("utf-8"))
        device, fingerprint = str(session["device_id"]), str(session["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        device = fingerprint = ""
    data = told.get("auth_data")
    vouching = None if identity is None else voucher(
        data if isinstance(data, dict) else {},
        user_id=user,
        device_id=device,
        master=public(identity.master),
        fingerprint=fingerprint,
        keys=[],
    )  # fmt: skip
    if vouching is None:
        return Line(BACKUP, State.PROBLEM, "nobody of ours vouches for it", BACKUP_REMEDIES[Backing.FOREIGN])
    found = f"version {told.get('version')}, {told.get('count')} keys; {vouching} vouches for it"
    return Line(BACKUP, State.OK, found)


async def look(settings: Settings) -> AsyncIterator[Line]:
    """The account as its homeserver sees it, then the encrypted rooms as the journal does."""
    matrix = settings.need_matrix()
    async for line in check_matrix.lines(settings, matrix):
        yield line
    if not await asyncio.to_thread(settings.journal_path.exists):
        yield Line("rooms", State.NOTE, "there is no journal yet", "start `hearth run`")
        return
    async for line in kept(settings):
        yield line
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
