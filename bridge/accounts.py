"""The operator's side of an account on Mastodon: logging in with it, and looking how it stands."""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import TYPE_CHECKING

import click
from pydantic import SecretStr

from bridge.credentials import mastodon_token
from bridge.mastodon import manners
from bridge.mastodon.client import Client
from bridge.mastodon.login import by_code, scopes, tried
from bridge.platform import Misconfigured, PlatformError
from bridge.report import Line, State
from bridge.schedule import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.sections import MastodonSettings
    from bridge.settings import Settings


def chosen(settings: Settings, address: str | None) -> MastodonSettings:
    """The account that `address` names, or the only one. Raises `Misconfigured`."""
    accounts = {one.user.casefold(): one for one in settings.mastodon}
    if not accounts:
        raise Misconfigured("mastodon", "no account in the settings; add [[mastodon]] (docs/mastodon.md)")
    if address is None and len(accounts) == 1:
        return next(iter(accounts.values()))
    found = accounts.get((address or "").casefold())
    if found is None:
        known = ", ".join(one.user for one in settings.mastodon)
        raise Misconfigured("mastodon", f"name one of the accounts in the settings: {known}")
    return found


async def enrol(settings: Settings, address: str | None, *, token: str | None, marks: bool) -> int:
    """Get a token (or take `token`), try it, keep it; 0."""
    account = chosen(settings, address)
    if token is None:
        wanted = scopes(accepts=account.accept_private_mentions, marks=marks)
        token = await by_code(account.instance, wanted, verifier=secrets.token_urlsafe(48), ask=_ask)
    if not token:
        raise Misconfigured("login", "no token came in; write it to standard input")
    me = await tried(account.instance, token, expected=account.user)
    path = await asyncio.to_thread(settings.credentials().put, mastodon_token(account.user), SecretStr(token))
    if marks and not me.is_bot:
        client = Client(account.instance, token, clock=SystemClock(), rng=random.Random())  # noqa: S311 - jitter
        try:
            await manners.mark(client)
        finally:
            await client.close()
    click.echo(f"{me.address} is logged in; its token is in {path}")
    click.echo("`hearth check` says what else the account needs, `hearth run` answers with it.")
    return 0


async def _ask(url: str) -> str:
    click.echo("Open this address in a browser, signed in as the bot, and allow what it asks for:\n")
    click.echo(f"  {url}\n")
    code: str = await asyncio.to_thread(click.prompt, "The code that is shown then", hide_input=True)
    return code


async def check_account(settings: Settings, account: MastodonSettings) -> AsyncIterator[Line]:
    """What `hearth check` says of an account on Mastodon; each line is named by the account's address."""
    if not account.allow:
        yield Line(account.user, State.PROBLEM, "allow is empty: nobody may ask", "name people or servers")
    login = f"hearth mastodon login {account.user}"
    client: Client | None = None
    try:
        token = await asyncio.to_thread(settings.credentials().get, mastodon_token(account.user))
        if token is None:
            yield Line(account.user, State.PROBLEM, "no access token", login)
            return
        clock, rng = SystemClock(), random.Random()  # noqa: S311 - jitter
        client = Client(account.instance, token.get_secret_value(), clock=clock, rng=rng)
        await client.open()
        if client.me.address.casefold() != account.user.casefold():
            yield Line(account.user, State.PROBLEM, f"the token is that of {client.me.address}", login)
            return
        for one in await manners.examine(client, accepts=account.accept_private_mentions):
            yield Line(
                account.user, State.OK if one.well else State.NOTE, f"{one.name}: {one.found}", one.remedy
            )
    except Misconfigured as error:
        yield Line(account.user, State.PROBLEM, f"{error.path}: {error.remedy}", login)
    except PlatformError as error:
        yield Line(account.user, State.LATER, str(error), "try again later; `hearth run` waits for it")
    finally:
        if client is not None:
            await client.close()


async def check_links(settings: Settings) -> AsyncIterator[Line]:
    """What `hearth check` says of links over HTTPS, where their extra is installed."""
    try:
        from bridge.a2a.check import lines  # noqa: PLC0415 - the extra `a2a`, off unless configured
    except ImportError:
        yield Line("links over https", State.PROBLEM, "not installed", "install `hearth-bridge[a2a]`")
        return
    async for line in lines(settings):
        yield line
