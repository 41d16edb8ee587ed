"""`hearth turns`: the journal's turns and deliveries on the terminal. Never with their words.

Works beside a running `hearth run`: it reads the last committed state, and a retry is one short
transaction. Tables on a terminal, tab-separated values otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.console import printable
from bridge.journal import Journal
from bridge.platform import Misconfigured

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from bridge.journal import ActionRow, TurnRow
    from bridge.settings import Settings

TURN_COLUMNS = ("turn", "asked", "state", "outcome", "code", "asker", "place", "bot", "attempts", "deaths")
ACTION_COLUMNS = ("delivery", "role", "state", "attempts", "maybe twice", "event", "error")


async def show_list(settings: Settings, state: str | None, limit: int, *, out: Console | None = None) -> int:
    """Print the newest turns; 0."""
    async with journal_of(settings) as journal:
        found = await journal.turns(state, limit)
    _table(out or Console(), TURN_COLUMNS, map(_turn, found), empty="no turns")
    return 0


async def show_one(settings: Settings, turn_id: int, *, out: Console | None = None) -> int:
    """Print one turn with its deliveries; 0, or 1 if there is no such turn."""
    out = out or Console()
    async with journal_of(settings) as journal:
        detail = await journal.turn(turn_id)
    if detail is None:
        out.print(f"There is no turn {turn_id}; `hearth turns list` shows those that are.", markup=False)
        return 1
    row = detail.row
    facts = {
        "turn": row.id,
        "place": row.place,
        "thread": row.thread,
        "kind": row.kind,
        "bot": row.bot,
        "asker": row.asker,
        "cause": row.cause,
        "state": row.state,
        "outcome": row.outcome,
        "verdict": row.code,
        "rule": row.rule,
        "attempts": row.attempts,
        "deaths": row.deaths,
        "asked": _moment(row.created_at),
        "settled": _moment(row.settled_at),
        "continued by": ", ".join(str(child.id) for child in detail.children) or None,
    }
    for name, value in facts.items():
        if value is not None:
            out.print(f"{name:<13}{printable(str(value))}", markup=False, highlight=False, soft_wrap=True)
    _table(out, ACTION_COLUMNS, map(_action, detail.actions), empty="nothing was sent")
    return 0


async def show_stuck(settings: Settings, *, out: Console | None = None) -> int:
    """Print what does not move; 1 if there is any, else 0."""
    out = out or Console()
    async with journal_of(settings) as journal:
        turns, actions = await journal.stuck(time.time_ns() // 1_000_000)
    _table(out, TURN_COLUMNS, map(_turn, turns), empty="no turn is stuck")
    _table(out, ACTION_COLUMNS, map(_action, actions), empty="no delivery is stuck")
    if turns:
        out.print("`hearth turns retry TURN` gives one another chance.", markup=False)
    return 1 if turns or actions else 0


async def retry(settings: Settings, turn_id: int, *, out: Console | None = None) -> int:
    """Put what is parked of a turn back to work; 0, or 1 if nothing of it is parked."""
    out = out or Console()
    async with journal_of(settings) as journal:
        again = await journal.retry(turn_id)
    if again:
        out.print(f"Turn {turn_id} is tried again by the next `hearth run`, or by the one that runs now.")
        return 0
    out.print(f"Nothing of turn {turn_id} is parked; `hearth turns show {turn_id}` says where it stands.")
    return 1


@contextlib.asynccontextmanager
async def journal_of(settings: Settings) -> AsyncGenerator[Journal]:
    """The journal of a data folder that has one. Raises `Misconfigured` where there is none."""
    path = settings.journal_path
    if not await asyncio.to_thread(path.exists):  # opening would make an empty one
        raise Misconfigured(str(path), "there is no journal yet; `hearth run` makes it, or check data_dir")
    journal = await Journal.open(path)
    try:
        yield journal
    finally:
        await journal.close()


def _turn(row: TurnRow) -> tuple[object, ...]:
    return (
        *(row.id, _moment(row.created_at), row.state, row.outcome, row.code),
        *(row.asker, row.place, row.bot, row.attempts, row.deaths),
    )


def _action(row: ActionRow) -> tuple[object, ...]:
    role = f"{row.role} {row.index}" if row.index else row.role
    return row.key, role, row.state, row.attempts, row.possible_duplicates, row.remote_id, row.error


def _moment(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _table(out: Console, columns: Sequence[str], rows: Iterable[tuple[object, ...]], *, empty: str) -> None:
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    if not out.is_terminal:
        for line in (columns, *cells):
            out.file.write("\t".join(line) + "\n")  # rich would turn the tabs into spaces
        return
    if not cells:
        out.print(empty, style="dim")
        return
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for line in cells:
        table.add_row(*map(escape, line))
    out.print(table)
