"""`python -m tests.bench [--quick] [PART ...]`: measure, print one table, assert nothing."""

from __future__ import annotations

import asyncio
import importlib
import logging
import tempfile
import time
from pathlib import Path

import click
import structlog

from tests.bench.table import machine, render

PARTS = ("answers", "requests", "memory", "journal", "speech", "posts", "policy", "links", "federation")
"""Each is a module here with `measure(folder, quick=...)`, which gives rows."""


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--quick", is_flag=True, help="Small sizes: minutes instead of tens of minutes.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the servers and databases work; the disk below it is measured too.  [default: temporary]",
)
def main(parts: tuple[str, ...], folder: Path | None, *, quick: bool) -> None:
    """Measure PARTS (all of them if none is named) and print one table."""
    # What the people's clients cannot read (words from before they joined) is not the theme here.
    logging.getLogger("nio").setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    click.echo(machine())
    rows = []
    with tempfile.TemporaryDirectory(prefix="hearth-bench-", dir=folder, ignore_cleanup_errors=True) as name:
        for part in parts or PARTS:
            started = time.monotonic()
            click.echo(f"{part} ...", err=True)
            module = importlib.import_module(f"tests.bench.{part}")
            place = Path(name) / part
            place.mkdir()
            rows += asyncio.run(module.measure(place, quick=quick))
            click.echo(f"{part}: {time.monotonic() - started:.0f} s", err=True)
    click.echo(render(rows))


main()
