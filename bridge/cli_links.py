"""The commands of `hearth links`: the communities we are linked with, and the record of what crossed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from bridge import logs

if TYPE_CHECKING:
    from bridge.settings import Settings

# ruff: noqa: D301 - in the docstrings of commands "\b" is click's mark to keep lines, a real backspace
# PLC0415 (import outside top level) is silenced below for one reason: `hearth --help` answers at once.

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
@click.pass_context
def links(ctx: click.Context) -> None:
    """Links with other communities: who, what is agreed, what crossed."""
    if not ctx.find_root().obj["verbose"]:
        logs.silence()  # what is wrong is said here


@links.command("list")
@_JSON
@click.pass_context
def links_list(ctx: click.Context, *, as_json: bool) -> None:
    """List the communities that rooms have agreed something with, or that we are linked with.

    \b
    hearth links list
    """
    from bridge import peerage  # noqa: PLC0415

    ctx.exit(asyncio.run(peerage.show_all(_settings(ctx), as_json=as_json)))


@links.command("show")
@click.argument("peer")
@_JSON
@click.pass_context
def links_show(ctx: click.Context, peer: str, *, as_json: bool) -> None:
    """Show one: its key in words, what our rooms allow with it, what it allows with us.

    \b
    hearth links show bot:city.example
    """
    from bridge import peerage  # noqa: PLC0415

    ctx.exit(asyncio.run(peerage.show_one(_settings(ctx), peer, as_json=as_json)))


@links.command("audit")
@click.argument("peer", default="")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="At most.")
@_JSON
@click.pass_context
def links_audit(ctx: click.Context, peer: str, limit: int, *, as_json: bool) -> None:
    """Show what came in, what went out and what was kept from it, newest first; never its words.

    \b
    hearth links audit
    hearth links audit bot:city.example --json
    """
    from bridge import peerage  # noqa: PLC0415

    ctx.exit(asyncio.run(peerage.audit(_settings(ctx), peer, limit, as_json=as_json)))


@links.command("verify")
@click.option("--head", default="", help="A hash that an earlier `verify` printed: is it still in there?")
@_JSON
@click.pass_context
def links_verify(ctx: click.Context, head: str, *, as_json: bool) -> None:
    """Prove that nothing in the record of what crossed was changed or taken out.

    Each entry has the hash of the one before it. That the end is missing shows only if you wrote the
    last hash down: give it as --head. Ends with 1 where the chain is broken.

    \b
    hearth links verify
    hearth links verify --head 5f2c...
    """
    from bridge import peerage  # noqa: PLC0415

    ctx.exit(asyncio.run(peerage.verify(_settings(ctx), head, as_json=as_json)))


@links.command("revoke")
@click.argument("peer")
@click.pass_context
def links_revoke(ctx: click.Context, peer: str) -> None:
    """Refuse PEER: nothing comes from it and nothing goes to it, whatever rooms have decided.

    A running `hearth run` heeds it from the next envelope on.

    \b
    hearth links revoke bot:city.example
    """
    from bridge import peerage  # noqa: PLC0415

    ctx.exit(asyncio.run(peerage.refuse(_settings(ctx), peer, refused=True)))


@links.command("allow")
@click.argument("peer")
@click.pass_context
def links_allow(ctx: click.Context, peer: str) -> None:
    """Take a `revoke` back: what rooms have decided about PEER counts again.

    \b
    hearth links allow bot:city.example
    """
    from bridge import peerage  # noqa: PLC0415

    ctx.exit(asyncio.run(peerage.refuse(_settings(ctx), peer, refused=False)))


@links.command("token")
@click.argument("peer")
@click.pass_context
def links_token(ctx: click.Context, peer: str) -> None:
    """Make the token with which PEER may speak to us over HTTPS, and print it once.

    Only a peer of `[[a2a_peers]]` has use for it. A second one takes the place of the first at the next
    start. Give it to whoever runs PEER in a way that others cannot read.

    \b
    hearth links token bot:city.example
    """
    from bridge import peerage  # noqa: PLC0415

    peerage.make_token(_settings(ctx), peer)


def _settings(ctx: click.Context) -> Settings:
    from bridge.settings import load  # noqa: PLC0415

    return load(ctx.find_root().obj["config"])
