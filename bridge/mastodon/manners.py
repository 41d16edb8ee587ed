"""How an account presents itself, and what its server holds back from it: said, and set where we may.

Promises: nothing is changed on the server that the settings do not ask for. Private mentions by people
whom the account does not follow are held back since Mastodon 4.3, and nothing tells the account so
(mastodon/mastodon#33666); other servers have no such filter, and no such endpoint (404).

Source: https://docs.joinmastodon.org/methods/notifications/#get-policy, /entities/NotificationPolicy/,
/methods/accounts/#update_credentials.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from bridge.mastodon.text import plain
from bridge.mastodon.translate import dict_of, text_of
from bridge.platform import PlatformError, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.mastodon.client import Client

log = structlog.get_logger(__name__)

ACCEPT: Final = "accept"
FILTERS: Final = ("for_private_mentions", "for_not_following")
"""What of a policy keeps strangers from us: their private mentions, and all of them."""
PROFILE: Final = (
    "I am a bot. I answer when I am mentioned, with a language model on our own machine. What you write to "
    "me is kept for a while and erased if you write “forget”. Private mentions are not end-to-end encrypted. "
    "Run by: (your name and how to reach you). Source: (where the code is)."
)
"""What is proposed as a profile; the test of one is that it says who is behind it."""
_NO_BOTS = re.compile(r"#no_?bots?\b", re.IGNORECASE)
_GONE: Final = frozenset({"404", "410"})
_ENOUGH: Final = 40
"""Characters of a profile that may say something."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about an account: whether it is well, in words, and what to do where it is not."""

    name: str
    well: bool
    found: str
    remedy: str = ""


def wants_no_bots(note: object) -> bool:
    """Whether a profile asks bots to keep away (`#nobot`): nothing is said there that was not asked for."""
    return isinstance(note, str) and _NO_BOTS.search(plain(note, (), me_id="", quoted=False)) is not None


async def greet(client: Client, *, accepts: bool) -> None:
    """At the start: log what the server holds back, and let it through where the settings say so."""
    try:
        held = await _held_back(client)
        if held and accepts:
            wanted: dict[str, Any] = dict.fromkeys(held, ACCEPT)
            await client.call("update_notifications_policy", **wanted)
            log.info("mentions_accepted", account=client.me.address, policy=held)
        elif held:
            log.warning(
                "mentions_held_back",
                account=client.me.address,
                policy=held,
                remedy="set accept_private_mentions = true under [[mastodon]]",
            )
    except Refused as error:
        log.warning(
            "policy_not_changed",
            account=client.me.address,
            error=str(error),
            remedy="log in again with `hearth mastodon login`, so that the token may change it",
        )


async def _held_back(client: Client) -> list[str]:
    """Which mentions of strangers the server does not show us; none where it knows no such policy."""
    try:
        policy = dict_of(await client.call("notifications_policy"))
    except Refused as error:
        if error.rule in _GONE:
            return []
        raise
    return [name for name in FILTERS if text_of(policy.get(name)) not in ("", ACCEPT)]


async def examine(client: Client, *, accepts: bool) -> list[Finding]:
    """What `hearth check` says of an open client's account. Raises as `Client.call` does."""
    account = dict_of(await client.call("account_verify_credentials"))
    instance = client.instance
    streams = "streaming" if instance.streaming_url else "polling"
    found = [
        Finding("account", True, f"{client.me.address} on {instance.software} {instance.version}, {streams}"),
        _marked(account),
        _profile(account),
    ]
    try:
        held = await _held_back(client)
    except PlatformError as error:
        remedy = "log in again with `hearth mastodon login`"
        return [*found, Finding("mentions", False, f"the policy cannot be read: {error}", remedy)]
    if not held:
        found.append(Finding("mentions", True, "nobody's are held back"))
    elif accepts:
        found.append(
            Finding("mentions", True, "those of strangers are held back; the next start lets them in")
        )
    else:
        remedy = "set accept_private_mentions = true, if strangers may write privately"
        what = "private ones by strangers" if held == [FILTERS[0]] else "those by strangers"
        found.append(Finding("mentions", False, f"the server holds back {what}", remedy))
    return found


def _marked(account: Mapping[str, Any]) -> Finding:
    if account.get("bot") is True:
        return Finding("bot mark", True, "set")
    remedy = "tick “This is an automated account” in its profile, or `hearth mastodon login --mark`"
    return Finding("bot mark", False, "not set: people and other bots take it for a person", remedy)


def _profile(account: Mapping[str, Any]) -> Finding:
    note = plain(text_of(account.get("note")), (), me_id="", quoted=False)
    if len(note) >= _ENOUGH:
        return Finding("profile", True, "says something; people look there for who runs it")
    return Finding("profile", False, "does not say who runs it and what is kept", f"for instance: {PROFILE}")


async def mark(client: Client) -> None:
    """Mark the account as a bot. Raises `Refused` where the token may not (scope `write:accounts`)."""
    await client.call("account_update_credentials", bot=True)
