"""`hearth mastodon login`: register the app, let the operator allow it in a browser, keep the token.

    POST /api/v1/apps --> address to open --> code --> POST /oauth/token (PKCE, S256) --> whose token is it?

Owns the scopes. Promises the least of them, and that a token is tried before it is kept. The password grant
is gone since Mastodon 4.4 (mastodon/mastodon#30960), so no password is ever asked for. Spoken directly:
Mastodon.py knows no PKCE. Source: https://docs.joinmastodon.org/methods/apps/#create, /methods/oauth/,
/api/oauth-scopes/; RFC 7636.
"""

from __future__ import annotations

import base64
import hashlib
import random
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import aiohttp

from bridge.mastodon.client import Client
from bridge.platform import Misconfigured, Retryable
from bridge.schedule import SystemClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.mastodon.client import Me

NEEDED: Final = ("read:accounts", "read:statuses", "read:notifications", "write:statuses")
TO_ACCEPT: Final = "write:notifications"
"""Only where the settings say that private mentions of strangers are to be let through."""
TO_MARK: Final = "write:accounts"
"""Only where the account is to be marked as a bot."""
OUT_OF_BAND: Final = "urn:ietf:wg:oauth:2.0:oob"
"""Instead of a redirect: the instance shows the code."""
DEADLINE: Final = 30.0
_WHERE: Final = "login"


def scopes(*, accepts: bool, marks: bool) -> tuple[str, ...]:
    """The least that the account's work needs."""
    return (*NEEDED, *((TO_ACCEPT,) if accepts else ()), *((TO_MARK,) if marks else ()))


def challenge(verifier: str) -> str:
    """The PKCE challenge of a verifier (RFC 7636, 4.2, S256)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


async def by_code(
    url: str,
    wanted: tuple[str, ...],
    *,
    verifier: str,
    ask: Callable[[str], Awaitable[str]],
) -> str:
    """The access token that the operator allows; `ask` shows an address and returns the code shown there.

    `verifier` is 43 to 128 random characters. Raises `Misconfigured` for what the operator can mend (no
    Mastodon API there, a wrong code), `Retryable` where the instance does not answer.
    """
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    async with aiohttp.ClientSession(timeout=timeout, headers={"User-Agent": "Hearth"}) as http:
        app = await _post(
            http,
            f"{url}/api/v1/apps",
            {"client_name": "Hearth", "redirect_uris": OUT_OF_BAND, "scopes": " ".join(wanted)},
            "set instance to the address of a server that speaks Mastodon's API",
        )
        client = {name: str(app.get(name) or "") for name in ("client_id", "client_secret")}
        query = {
            "response_type": "code",
            "client_id": client["client_id"],
            "redirect_uri": OUT_OF_BAND,
            "scope": " ".join(wanted),
            # Where the server knows no PKCE (before Mastodon 4.3) these are passed over.
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        }
        code = (await ask(f"{url}/oauth/authorize?{urlencode(query)}")).strip()
        told = await _post(
            http,
            f"{url}/oauth/token",
            {
                **client,
                "grant_type": "authorization_code",
                "redirect_uri": OUT_OF_BAND,
                "code": code,
                "code_verifier": verifier,
                "scope": " ".join(wanted),
            },
            "the code is not the one that the instance showed, or too old; try again",
        )
    token = told.get("access_token")
    if not isinstance(token, str) or not token:
        raise Misconfigured(_WHERE, f"{url} gave no token; try again")
    return token


async def _post(http: aiohttp.ClientSession, url: str, form: dict[str, str], remedy: str) -> dict[str, Any]:
    try:
        async with http.post(url, data=form, allow_redirects=False) as answer:
            status = answer.status
            told = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Retryable(f"{url} does not answer: {type(error).__name__}") from error
    except ValueError:
        told = None
    if status >= 500 or status == 429:  # noqa: PLR2004 - HTTP
        raise Retryable(f"{url} answers {status}")
    if status >= 300 or not isinstance(told, dict):  # noqa: PLR2004 - HTTP
        raise Misconfigured(_WHERE, f"{url} answers {status}: {remedy}")
    return told


async def tried(url: str, token: str, *, expected: str) -> Me:
    """Whose token this is. Raises `Misconfigured` where it is no good, or not that of `expected`."""
    client = Client(url, token, clock=SystemClock(), rng=random.Random())  # noqa: S311 - jitter
    try:
        await client.open()
        if client.me.address.casefold() != expected.casefold():
            remedy = f"sign in there as {expected}, or set user under [[mastodon]]"
            raise Misconfigured(_WHERE, f"the token is that of {client.me.address}; {remedy}")
        return client.me
    finally:
        await client.close()
