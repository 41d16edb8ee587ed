"""The commands of `hearth policy`; what they do is in `bridge.policies`, loaded when one runs."""

from __future__ import annotations

import asyncio
import os
import time
from typing import IO, TYPE_CHECKING

import click

from policies.classes import Class

if TYPE_CHECKING:
    from bridge.settings import Settings

# ruff: noqa: D301 - in the docstrings of commands "\b" is click's mark to keep lines, a real backspace
# PLC0415 (import outside top level) is silenced below for one reason: `hearth --help` answers at once.

DOCUMENT = click.File("r", encoding="utf-8")


def _settings(ctx: click.Context) -> Settings:
    from bridge.settings import load  # noqa: PLC0415

    return load(ctx.find_root().obj["config"])


def _known_settings(ctx: click.Context) -> Settings | None:
    """The settings, where there are any."""
    from bridge.settings import CONFIG_VARIABLE, DEFAULT_FILE  # noqa: PLC0415

    named = ctx.find_root().obj["config"] or os.environ.get(CONFIG_VARIABLE)
    return _settings(ctx) if named or DEFAULT_FILE.exists() else None


@click.group()
def policy() -> None:
    """What rooms allow, and why."""


@policy.command("check")
@click.argument("file", type=DOCUMENT)
@click.pass_context
def policy_check(ctx: click.Context, file: IO[str]) -> None:
    """Read the policy document in FILE (`-`: standard input) as a room's would be, and say what it does.

    Ends with 0 where it can be read, with 1 where it would stop the bot, and says at which field.

    \b
    hearth policy check our-room.json
    """
    from bridge import policies as view  # noqa: PLC0415

    ctx.exit(view.check(file.name, file.read()))


@policy.command("explain")
@click.option("--policy", "file", type=DOCUMENT, required=True, help="A room's policy document.")
@click.option("--ask", "words", required=True, help="What is asked. It is screened, and goes nowhere.")
@click.option("--asker", default="@somebody:here.example", show_default=True, help="Who asks.")
@click.option("--power", type=int, default=0, show_default=True, help="The asker's power level.")
@click.option(
    "--trust",
    type=click.Choice(["unsigned", "signed", "verified"]),  # `Trust`, whose module takes long to load
    default="unsigned",
    show_default=True,
    help="What vouches for the asker's device.",
)
@click.option("--peer", default="", help="The other community's bot to ask, as bot:server.")
@click.option("--class", "cls", type=click.Choice([str(one) for one in Class]), help="What it is about.")
@click.option("--grant", "deal", type=DOCUMENT, help="The room's grant for the peer.")
@click.pass_context
def policy_explain(
    ctx: click.Context,
    file: IO[str],
    words: str,
    *,
    asker: str,
    power: int,
    trust: str,
    peer: str,
    cls: str | None,
    deal: IO[str] | None,
) -> None:
    """Say what would be decided about a question, by which rule, and what would change that.

    With --peer: whether the question may leave the room. The ceiling is that of the settings, where there
    are any. Ends with 0 where it is allowed, with 3 where it is refused, with 1 where a file cannot be read.

    \b
    hearth policy explain --policy our-room.json --ask "When does the pool open?"
    hearth policy explain --policy our-room.json --grant city.json --peer bot:city.example \\
        --class local-knowledge --ask "When does the pool open?"
    """
    from bridge import policies as view  # noqa: PLC0415
    from policies.document import Unreadable  # noqa: PLC0415
    from policies.room import Trust  # noqa: PLC0415

    name = peer.removeprefix("@")
    read = view.files(file.read(), None if deal is None else deal.read(), name)
    if isinstance(read, Unreadable):
        ctx.exit(view.unreadable(file.name, read))
    standing, grant = read
    request = view.question(words, asker, power=power, trust=Trust(trust), peer=name, cls=cls, grant=grant)
    ceiling = view.ceiling_of(_known_settings(ctx))
    ctx.exit(view.explain(standing, grant, request, ceiling, time.time_ns() // 1_000_000))


@policy.command("show")
@click.argument("room", required=False)
@click.pass_context
def policy_show(ctx: click.Context, room: str | None) -> None:
    """Show what holds in every room that the bot knows, or in ROOM: what it may do, decided by whom.

    \b
    hearth policy show
    hearth policy show '!abc:home.example'
    """
    from bridge import policies as view  # noqa: PLC0415

    ctx.exit(asyncio.run(view.show(_settings(ctx), room)))


@policy.command("simulate")
@click.argument("proposal", nargs=-1, required=True)
@click.option("--room", help="Only this one.")
@click.pass_context
def policy_simulate(ctx: click.Context, proposal: tuple[str, ...], *, room: str | None) -> None:
    """Try last month's questions of each room against PROPOSAL: how many would have left it.

    It counts by what was recorded of each question (never its words). PROPOSAL is what follows `!propose`.

    \b
    hearth policy simulate ask @bot:city.example classes=local-knowledge
    """
    from bridge import policies as view  # noqa: PLC0415

    ctx.exit(asyncio.run(view.simulate(_settings(ctx), " ".join(proposal), room)))
