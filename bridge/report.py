"""What `hearth check` says: a line for each question, as a table or as tab-separated values."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from bridge.console import printable

if TYPE_CHECKING:
    from rich.console import Console


class State(StrEnum):
    """What a line of the table says."""

    OK = "ok"
    NOTE = "note"
    """Works, but worth knowing."""
    LATER = "later"
    """Does not work now, and may without any change of yours."""
    PROBLEM = "problem"


COLOURS = {State.OK: "green", State.NOTE: "yellow", State.LATER: "red", State.PROBLEM: "bold red"}


@dataclass(frozen=True, slots=True)
class Line:
    """One answer: what was looked at, how it is, in words, and what to do where it is not well."""

    name: str
    state: State
    found: str
    remedy: str = ""


def status(lines: list[Line]) -> int:
    """The exit status: 78 if something must be changed, 75 if only time helps, else 0."""
    states = {line.state for line in lines}
    if State.PROBLEM in states:
        return os.EX_CONFIG
    return os.EX_TEMPFAIL if State.LATER in states else 0


def show(lines: list[Line], out: Console) -> None:
    """Print the lines: a table on a terminal, tab-separated values otherwise."""
    if not out.is_terminal:
        for line in lines:
            said = (line.state, line.name, line.found, line.remedy)
            out.file.write("\t".join(map(printable, said)).rstrip() + "\n")  # rich would expand the tabs
        return
    table = Table("", "what", "how it is", "what to do", box=box.SIMPLE_HEAD)
    for line in lines:
        state = f"[{COLOURS[line.state]}]{line.state}[/]"
        table.add_row(state, *(escape(printable(cell)) for cell in (line.name, line.found, line.remedy)))
    out.print(table)
