"""`hearth policy`: what rooms allow, read, explained and tried out on the terminal. Never with words.

Works beside a running `hearth run`: it reads the last committed state.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from bots import governance, wording, wording_policy
from bots.proposing import Mistake, proposal
from bridge.console import printable
from bridge.turns import journal_of
from policies.classes import Class
from policies.decide import Deed, Request, decide
from policies.document import Standing, Unreadable, limits_of, read
from policies.grant import Direction, Grant, read_grant
from policies.room import LOOSEST, Trust
from policies.screens import screen

if TYPE_CHECKING:
    from bridge.settings import Settings
    from policies.room import RoomPolicy
    from policies.verdict import Verdict

ALLOWED, UNREADABLE, REFUSED = 0, 1, 3
"""Exit statuses."""


def ceiling_of(settings: Settings | None) -> RoomPolicy:
    """What whoever runs the bot allows at most; without settings, nothing is forbidden."""
    return LOOSEST if settings is None else settings.room_policy


def unreadable(name: str, found: Unreadable) -> int:
    """Say at which field a file cannot be read."""
    click.echo(f"hearth: {name}: {found}", err=True)
    return UNREADABLE


def check(name: str, text: str) -> int:
    """Say what a policy document does."""
    found = read(text)
    if isinstance(found, Unreadable):
        return unreadable(name, found)
    click.echo(wording_policy.limits(found))
    return ALLOWED


def explain(policy: Standing, grant: Grant | None, request: Request, ceiling: RoomPolicy, now: int) -> int:
    """Say what would be decided, by which rule, and what would change it."""
    verdict = _verdict(policy, grant, request, ceiling, now)
    click.echo("allowed" if verdict.allowed else "refused")
    click.echo(f"rule: {verdict.rule}")
    if request.screened:
        click.echo(f"the words suggest: {', '.join(sorted(request.screened))}")
    click.echo(wording.refusal(verdict))
    if request.peer and verdict.allowed:
        click.echo("(as if the other community allowed the same; that is for it to decide)")
    return ALLOWED if verdict.allowed else REFUSED


def question(
    words: str,
    asker: str,
    *,
    power: int = 0,
    trust: Trust = Trust.UNSIGNED,
    peer: str = "",
    cls: str | None = None,
    grant: Grant | None = None,
) -> Request:
    """The request that a question makes: to the model, or where a `peer` is named, to that."""
    return Request(
        Deed.ASK_PEER if peer else Deed.ANSWER,
        asker,
        power=power,
        trust=trust,
        peer=peer,
        peer_key="" if grant is None else grant.app_ed25519,
        cls=None if cls is None else Class(cls),
        screened=screen(words),
    )


def _verdict(
    policy: Standing, grant: Grant | None, request: Request, ceiling: RoomPolicy, now: int
) -> Verdict:
    theirs = None if grant is None else grant.model_copy(update={"direction": Direction.BOTH})
    grants = {} if grant is None else {grant.peer: grant}
    return decide(ceiling, grants, request, now, room=policy, theirs=theirs)


def files(policy: str, grant: str | None, peer: str) -> tuple[Standing, Grant | None] | Unreadable:
    """A policy document and, where there is one, a grant for `peer`."""
    standing = Standing(policy, "", 0)
    found = limits_of(standing)
    if isinstance(found, Unreadable) or grant is None:
        return found if isinstance(found, Unreadable) else (standing, None)
    deal = read_grant(grant, peer)
    return deal if isinstance(deal, Unreadable) else (standing, deal)


async def show(settings: Settings, place: str | None) -> int:
    """Print what holds in each room, or in one."""
    async with journal_of(settings) as journal:
        rooms = [one for one in await journal.places() if place in (None, one.id)]
    if not rooms:
        click.echo(
            "There is no such room; `hearth policy show` lists all." if place else "I am in no room yet."
        )
        return 1 if place else 0
    for one in rooms:
        click.echo(f"# {printable(one.name)} ({printable(one.id)}, {printable(one.account)})")
        click.echo(wording_policy.card(settings.room_policy, one) + "\n")
    return 0


async def simulate(settings: Settings, text: str, place: str | None) -> int:
    """Try last month's questions of each room against a proposal: counts only, no words are kept for it."""
    found = proposal(text)
    if isinstance(found, Mistake):
        click.echo(f"hearth: {wording_policy.mistake(found)}", err=True)
        return UNREADABLE
    since = time.time_ns() // 1_000_000 - governance.MONTH_MS
    async with journal_of(settings) as journal:
        for one in await journal.places():
            base = limits_of(one.policy)
            if place not in (None, one.id) or isinstance(base, Unreadable):
                continue
            policy = found.policy(base)
            if isinstance(policy, Unreadable):
                return unreadable(one.id, policy)
            asked = await journal.asked(one.account, one.id, since)
            total, left, names = governance.rehearse(settings.room_policy.meet(policy), asked)
            click.echo(f"{printable(one.name) or one.id}: {wording_policy.rehearsed(total, left, names)}")
    return 0
