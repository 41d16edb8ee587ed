"""The commands of `hearth matrix`: the bot's account on Matrix."""

from __future__ import annotations

import asyncio

import click

from bridge import logs

# ruff: noqa: D301 - in the docstrings of commands "\b" is click's mark to keep lines, a real backspace
# PLC0415 (import outside top level) is silenced below for one reason: `hearth --help` answers at once.


@click.group()
@click.pass_context
def matrix(ctx: click.Context) -> None:
    """The account on Matrix."""
    if not ctx.find_root().obj["verbose"]:
        logs.silence()  # what is wrong is said here


@matrix.command("verify")
@click.pass_context
def matrix_verify(ctx: click.Context) -> None:
    """Check that others trust the bot's device, and that its identity can be restored.

    Prints where the recovery key is; never the key. Changes nothing, works beside a running `hearth run`, and
    ends as `hearth check` does.

    \b
    hearth matrix verify
    """
    from bridge.doctor import verify  # noqa: PLC0415
    from bridge.settings import load  # noqa: PLC0415

    ctx.exit(asyncio.run(verify(load(ctx.find_root().obj["config"]))))
