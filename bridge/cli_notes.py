"""The commands of `hearth notes`: what the community's notes are, and what is found in them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from bridge import logs

if TYPE_CHECKING:
    from bridge.settings import Settings

# ruff: noqa: D301 - in the docstrings of commands "\b" is click's mark to keep lines, a real backspace
# PLC0415 (import outside top level) is silenced below for one reason: `hearth --help` answers at once.


@click.group()
@click.pass_context
def notes(ctx: click.Context) -> None:
    """What the bot can read of the community's own notes."""
    if not ctx.find_root().obj["verbose"]:
        logs.silence()  # what is wrong is said here


@notes.command("list")
@click.pass_context
def notes_list(ctx: click.Context) -> None:
    """List the collections of the settings: folder, how many notes, and how many passages they make.

    Ends with 1 where a folder is missing.

    \b
    hearth notes list
    """
    ctx.exit(asyncio.run(_list(_settings(ctx))))


@notes.command("search")
@click.argument("words")
@click.option("--collection", help="Only in this one. Left out: in all.")
@click.option("--limit", default=4, show_default=True, type=click.IntRange(1, 50), help="Passages at most.")
@click.pass_context
def notes_search(ctx: click.Context, words: str, collection: str | None, limit: int) -> None:
    """Show the passages that WORDS, a question or some words, would find, best first.

    They are what the model would be given. Ends with 1 where there are none.

    \b
    hearth notes search "When does the pool open?"
    """
    ctx.exit(asyncio.run(_search(_settings(ctx), words, collection, limit)))


def _settings(ctx: click.Context) -> Settings:
    from bridge.settings import load  # noqa: PLC0415

    return load(ctx.find_root().obj["config"])


async def _list(settings: Settings) -> int:
    from bridge.notes import Notes  # noqa: PLC0415

    if not settings.notes:
        click.echo("There are no notes in the settings; docs/notes.md tells how to add a folder.")
        return 0
    async with aclosing(Notes(settings.notes_path, settings.note_folders)) as index:
        state = await index.state()
    for one in state:
        told = one.problem or f"{one.notes:,} notes, {one.passages:,} passages"
        click.echo(f"{one.name}: {one.folder}: {told}")
    return int(any(one.problem for one in state))


async def _search(settings: Settings, words: str, collection: str | None, limit: int) -> int:
    from bridge.console import printable  # noqa: PLC0415
    from bridge.notes import Notes  # noqa: PLC0415

    if collection is not None and collection not in settings.notes:
        known = ", ".join(settings.notes) or "none"
        raise click.BadParameter(
            f"there is no such collection; there are: {known}", param_hint="--collection"
        )
    async with aclosing(Notes(settings.notes_path, settings.note_folders)) as index:
        found = await index.search([collection] if collection else index.collections, words, limit)
    for one in found:
        click.echo(f"{printable(one.collection)}: {printable(one.source)}  {printable(one.trail)}")
        click.echo("".join(f"  {printable(line)}\n" for line in one.text.splitlines()))
    if not found:
        click.echo("Nothing in the notes is about that.")
    return int(not found)
