"""Posts, accounts and notifications as the API writes them (https://docs.joinmastodon.org/entities/)."""

from __future__ import annotations

from typing import Any

from bridge.mastodon.client import Me
from bridge.mastodon.instance import Instance

HOME = Instance(url="https://home.example", domain="home.example", api_version=6, reads_many=True)
ME = Me(id="1", username="hearth", address="@hearth@home.example", is_bot=True)
NOW = 1_800_000_000_000


def account(number: str, acct: str, **more: Any) -> dict[str, Any]:
    name = acct.partition("@")[0]
    host = acct.partition("@")[2] or "home.example"
    url = f"https://{host}/@{name}"
    return {
        "id": number,
        "username": name,
        "acct": acct,
        "url": url,
        "display_name": name.title(),
        "bot": False,
    } | more


US = account("1", "hearth", bot=True)
ADA = account("2", "ada")
BEN = account("3", "ben@far.example")
EVE = account("4", "eve@far.example")


def named(who: dict[str, Any]) -> dict[str, Any]:
    return {key: who[key] for key in ("id", "username", "acct", "url")}


def link(who: dict[str, Any]) -> str:
    shown = f"@<span>{who['username']}</span>"
    return f'<span class="h-card"><a href="{who["url"]}" class="u-url mention">{shown}</a></span>'


def status(
    number: str,
    text: str = "hello",
    *,
    by: dict[str, Any] = ADA,
    to: tuple[dict[str, Any], ...] = (US,),
    **more: Any,
) -> dict[str, Any]:
    """A post by `by` that mentions `to` in front of `text`."""
    return {
        "id": number,
        "account": by,
        "content": f"<p>{' '.join([*map(link, to), text])}</p>",
        "mentions": [named(one) for one in to],
        "visibility": "public",
        "created_at": "2027-01-15T07:59:00.000Z",
        "edited_at": None,
        "in_reply_to_id": None,
        "reblog": None,
        "spoiler_text": "",
        "media_attachments": [],
        "poll": None,
        "quote": None,
    } | more


def notification(number: str, about: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    """A mention, made at 2027-01-15T08:00:00Z, which is `NOW`."""
    return {
        "id": number,
        "type": "mention",
        "created_at": "2027-01-15T08:00:00.000Z",
        "account": (about or {}).get("account", ADA),
        "status": about,
    } | more


def media(kind: str, url: str | None = "https://files.example/a.mp3", **more: Any) -> dict[str, Any]:
    return {"id": "90", "type": kind, "url": url, "remote_url": None, "description": None, "meta": {}} | more
