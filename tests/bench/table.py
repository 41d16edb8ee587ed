"""What a benchmark found, as rows of one table. Nothing here measures, and nothing asserts."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: ours beside what it is compared with, and the target of the issue.

    `value` is what the target is about (a ratio, MB, requests); `met` is None where there is none.
    """

    what: str
    ours: str
    beside: str
    value: str
    target: str = ""
    met: bool | None = None


HEADER = Row("measured", "ours", "beside", "value", "target")


def at_most(value: float, limit: float) -> bool:
    """Whether a target of the form "at most" is met."""
    return value <= limit


def seconds(value: float) -> str:
    """A duration the way people read it."""
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def spread(values: Sequence[float]) -> str:
    """Median with the 95th percentile beside it (seconds)."""
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"{seconds(statistics.median(ordered))} (p95 {seconds(p95)})"


def render(rows: Sequence[Row]) -> str:
    """The table, in columns as wide as they need."""
    lines = [(row.what, row.ours, row.beside, row.value, row.target, _met(row)) for row in (HEADER, *rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def _met(row: Row) -> str:
    if row is HEADER:
        return "met"
    return {None: "", True: "yes", False: "NO"}[row.met]


def machine() -> str:
    """One line about where this was measured, load included: a busy machine measures others' work."""
    cpu = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    load = os.getloadavg()[0]
    return (
        f"{cpu}, {os.cpu_count()} cores, load {load:.1f}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, hearth-bridge {version('hearth-bridge')}"
    )
