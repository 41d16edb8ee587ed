"""`hearth links`: the communities we are linked with, and the record of what crossed, on the terminal.

Works beside a running `hearth run`: it reads the last committed state; refusing a peer is one short
transaction, which the running process looks at before every envelope. Never with words that people said.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from pydantic import SecretStr

from bots.base import Peer
from bots.commands import visible
from bots.keywords import spoken
from bots.wording_policy import grant_state
from bridge.console import printable
from bridge.credentials import A2A_FROM, A2A_TO, peer_token
from bridge.platform import Misconfigured
from bridge.turns import journal_of
from policies.grant import Direction, Grant, read_grant
from policies.room import PEER

if TYPE_CHECKING:
    from bridge.journal import Journal
    from bridge.settings import Settings
    from policies.document import Unreadable

_TURNED: Final = {Direction.ASK: Direction.ANSWER, Direction.ANSWER: Direction.ASK}
"""Where a peer allows to be asked, it is we who ask."""


@dataclass(frozen=True, slots=True)
class Linked:
    """A peer, with what is agreed: `ours` by room, `theirs` for us; JSON texts of grants."""

    peer: Peer
    pinned: str
    refused: bool
    ours: tuple[tuple[str, str], ...]
    theirs: str

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **asdict(self.peer),
            "pinned": self.pinned,
            "refused": self.refused,
            "ours": [{"room": room, "grant": json.loads(text)} for room, text in self.ours],
            "theirs": json.loads(self.theirs) if self.theirs else None,
        }


def account_of(settings: Settings) -> str:
    """The Matrix account, which is the one that has links. Raises `Misconfigured` without one."""
    if settings.matrix is None:
        raise Misconfigured("matrix", "links are there on Matrix only; add `[matrix]` to the settings")
    return settings.matrix.user


def address(text: str) -> str:
    """A peer as it is kept, `bot:server`. Raises `click.BadParameter`: a slip would refuse nobody."""
    peer = text.removeprefix("@")
    if re.fullmatch(PEER, peer) is None:
        raise click.BadParameter("the bot of another community is written bot:server", param_hint="PEER")
    return peer


async def show_all(settings: Settings, *, as_json: bool) -> int:
    """Print every peer that a room has a grant for or that we are linked with; 0."""
    async with journal_of(settings) as journal:
        found = await _linked(journal, account_of(settings))
    if as_json:
        click.echo(json.dumps([one.plain() for one in found], indent=2))
    elif not found:
        click.echo("There are no links yet. In a room of yours, say `!link @bot:city.example`.")
    else:
        for one in found:
            _print(one, account_of(settings), time.time_ns() // 1_000_000)
    return 0


async def show_one(settings: Settings, peer: str, *, as_json: bool) -> int:
    """Print one peer; 0, or 1 if it is not known."""
    name = address(peer)
    async with journal_of(settings) as journal:
        found = [one for one in await _linked(journal, account_of(settings)) if one.peer.address == name]
    if not found:
        click.echo(f"Nothing is known of {printable(name)}; `hearth links list` shows all.", err=True)
        return 1
    if as_json:
        click.echo(json.dumps(found[0].plain(), indent=2))
    else:
        _print(found[0], account_of(settings), time.time_ns() // 1_000_000)
    return 0


async def audit(settings: Settings, peer: str, limit: int, *, as_json: bool) -> int:
    """Print what crossed, newest first; 0."""
    name = address(peer) if peer else ""
    async with journal_of(settings) as journal:
        found = await journal.crossed(account_of(settings), name, limit)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
        return 0
    for one in found:
        at = datetime.fromtimestamp(one.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        verdict = "allowed" if one.allowed else "refused"
        told = (at, one.way, one.peer, one.kind or "?", verdict, one.code, one.rule, f"{one.bytes} bytes")
        click.echo("  ".join(printable(part) for part in told))
    if not found:
        click.echo("Nothing has crossed yet.")
    return 0


def make_token(settings: Settings, peer: str) -> None:
    """Make and keep the token of a peer over HTTPS, and print it."""
    name = address(peer)
    if all(one.peer != name or one.agent for one in settings.a2a_peers):
        raise Misconfigured("a2a_peers", f"{name} is not there; add it, then make its token")
    token = secrets.token_urlsafe(32)
    path = settings.credentials().put(peer_token(A2A_FROM, name), SecretStr(token))
    click.echo(token)
    told = f"Kept in {path}. Whoever runs {name} writes it into the credential file "
    ours = peer_token(A2A_TO, account_of(settings).removeprefix("@"))
    click.echo(f"{told}{ours} there. It holds from the next start here on.", err=True)


async def verify(settings: Settings, head: str, *, as_json: bool) -> int:
    """Work out the chain of the record anew; 0 if it is whole (and has `head`), else 1."""
    async with journal_of(settings) as journal:
        proof = await journal.verify_crossings(account_of(settings), head.strip().lower())
    if as_json:
        click.echo(json.dumps(asdict(proof)))
    elif proof.broken is not None:
        click.echo(
            f"BROKEN at entry {proof.broken}: it was changed, or one before it was taken out or put in. "
            f"The {proof.count:,} entries before it are whole.",
            err=True,
        )
    else:
        click.echo(f"{proof.count:,} crossings, the chain is whole, head {proof.head or '(empty)'}")
        if head:
            told = "still has" if proof.contains else "NO LONGER HAS"
            click.echo(f"It {told} the hash {printable(head)}.", err=not proof.contains)
    return int(proof.broken is not None or not proof.contains)


async def refuse(settings: Settings, peer: str, *, refused: bool) -> int:
    """Let nothing come from a peer nor go to it, whatever rooms have decided; or no longer; 0."""
    name, account = address(peer), account_of(settings)
    async with journal_of(settings) as journal:
        is_known = any(one.peer.address == name for one in await _linked(journal, account))
        if refused is not (name in await journal.refused_peers(account)):  # since when it holds stays
            await journal.refuse_peer(account, name, time.time_ns() // 1_000_000, refuse=refused)
    if refused:
        click.echo(
            f"From now on nothing comes from {printable(name)} and nothing goes to it, whatever rooms have "
            f"decided. `hearth links allow {printable(name)}` takes that back."
        )
        if not is_known:
            click.echo("hearth: nothing was known of it until now; is the address right?", err=True)
    else:
        click.echo(f"What rooms have decided about {printable(name)} counts again.")
    return 0


async def _linked(journal: Journal, account: str) -> list[Linked]:
    places = [one for one in await journal.places() if one.account == account]
    ours: dict[str, list[tuple[str, str]]] = {}
    for place in places:
        for peer, standing in place.grants:
            ours.setdefault(peer, []).append((place.name or place.id, standing.text))
    known = {one.address: one for place in places for one in await journal.peers_of(account, place.id)}
    refused = await journal.refused_peers(account)
    _, pinned, _ = await journal.links_to_tell(account)
    found = []
    for name in sorted({*known, *refused}):
        use = await journal.link_use(account, "", name, "", 0)
        shown = known.get(name) or Peer(name)
        found.append(
            Linked(shown, pinned.get(name, ""), name in refused, tuple(ours.get(name, ())), use.theirs)
        )
    return found


def _print(one: Linked, account: str, now: int) -> None:
    peer = one.peer
    state = "REFUSED by whoever runs this" if one.refused else "linked" if peer.linked else "not linked"
    click.echo(f"{printable(peer.address)}  {_line(peer.name)}  ({state})")
    for what, key in (("shows the key", peer.key), ("pinned is", one.pinned)):
        if key:
            click.echo(f"  {what}: {spoken(key)}  {key}")
    if peer.key and one.pinned and peer.key != one.pinned:
        click.echo("  THE KEY IT SHOWS IS NOT THE PINNED ONE: nothing is asked or answered")
    for room, text in one.ours:
        click.echo(f"  {_line(room)}: {_state(read_grant(text, peer.address), now)}")
    if one.theirs:
        theirs = read_grant(one.theirs, account.removeprefix("@"))
        if isinstance(theirs, Grant):
            turned = _TURNED.get(theirs.direction, theirs.direction)
            theirs = theirs.model_copy(update={"direction": turned})
        click.echo(f"  its grant for us: {_line(_state(theirs, now))}")
    if peer.asked:
        waited = "" if peer.wait_ms is None else f", after {peer.wait_ms / 1000:.1f} s (median)"
        click.echo(f"  of our last {peer.asked} questions it answered {peer.answered}{waited}")


def _state(grant: Grant | Unreadable, now: int) -> str:
    """A grant in one line; that it is over comes first."""
    state = grant_state(grant)
    return f"ended: {state}" if isinstance(grant, Grant) and grant.until <= now else state


def _line(text: str) -> str:
    """A stranger's text as one line of what can be seen."""
    return " ".join(printable(visible(text)).split())
