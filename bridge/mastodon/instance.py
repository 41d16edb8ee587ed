"""What an instance says of itself -> `Instance`. Pure.

Promises: total on any JSON; a field that is missing or of a wrong type gets Mastodon's default.
What an instance can do is told by its document, not guessed from its version number.
Source: https://docs.joinmastodon.org/entities/Instance/ and /entities/V1_Instance/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CHARACTERS: Final = 500
CHARACTERS_PER_URL: Final = 23
READS_MANY_SINCE: Final = 2
"""API version from which several statuses can be read at once (Mastodon 4.3)."""

_SOFTWARE: Final = (
    ("takahe", "takahe"),
    ("pleroma", "pleroma"),
    ("akkoma", "pleroma"),
    ("pixelfed", "pixelfed"),
    ("gotosocial", "gotosocial"),
)
_WEBSOCKET_ONLY: Final = frozenset({"gotosocial", "pleroma"})
_SILENT: Final = frozenset({"takahe", "pixelfed"})
"""Servers that may advertise a streaming address and do not stream."""

_MOST: Final = 1_000_000
_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Instance:
    """One server of the Fediverse, as a client of its Mastodon API has to know it.

    `url` is the base of the API, without a slash at the end. `domain` is what stands in addresses,
    with a port where it has one. `software` is mastodon, gotosocial, takahe, pleroma, pixelfed or other.
    """

    url: str
    domain: str
    software: str = "mastodon"
    version: str = ""
    api_version: int = 0
    """`api_versions.mastodon`; 0 where the server does not say."""
    max_characters: int = MAX_CHARACTERS
    characters_per_url: int = CHARACTERS_PER_URL
    streaming_url: str | None = None
    """Base of the streaming API (http or https), None where there is none."""
    websocket_only: bool = False
    reads_many: bool = False
    """Whether `GET /api/v1/statuses?id[]=` exists."""
    counts_raw: bool = False
    """Whether a post is measured in plain characters, links and mentions in full (Takahe, GoToSocial)."""


def parse_instance(url: str, document: Mapping[str, Any]) -> Instance:
    """Read the document of `/api/v2/instance`, or of `/api/v1/instance` on older servers."""
    url = url.rstrip("/")
    configuration = _dict(document.get("configuration"))
    statuses = _dict(configuration.get("statuses"))
    version = _text(document.get("version"))
    software = _software(version, _text(document.get("source_url")))
    api_version = _number(_dict(document.get("api_versions")).get("mastodon"), 0)
    urls = _dict(configuration.get("urls")) or _dict(document.get("urls"))
    told = _text(urls.get("streaming")) or _text(urls.get("streaming_api"))
    # Pleroma and Pixelfed of old say the limit where Mastodon before 3.4.2 had no place for it.
    limit = _number(statuses.get("max_characters"), 0) or _number(document.get("max_toot_chars"), 0)
    return Instance(
        url=url,
        domain=_domain(document) or urlsplit(url).netloc.rpartition("@")[2],
        software=software,
        version=version[:100],
        api_version=api_version,
        max_characters=limit or MAX_CHARACTERS,
        characters_per_url=_number(statuses.get("characters_reserved_per_url"), 0) or CHARACTERS_PER_URL,
        streaming_url=None if software in _SILENT else _streaming(url, told),
        websocket_only=software in _WEBSOCKET_ONLY,
        reads_many=api_version >= READS_MANY_SINCE,
        counts_raw=software in ("takahe", "gotosocial"),
    )


def _software(version: str, source_url: str) -> str:
    said = f"{version} {source_url}".casefold()
    for word, software in _SOFTWARE:
        if word in said:
            return software
    # `2.8.0 (compatible; Something 1.0)`: not Mastodon, and says so.
    return "other" if "compatible" in said or not version[:1].isdigit() else "mastodon"


def _domain(document: Mapping[str, Any]) -> str:
    """`domain` of the second version; `uri` of the first, which some servers write with a scheme."""
    said = _text(document.get("domain")) or _text(document.get("uri"))
    return (urlsplit(said).netloc if "://" in said else said.partition("/")[0]).casefold()


def _streaming(url: str, told: str) -> str | None:
    """The streaming base in http(s).

    A server behind a proxy, or on loopback, advertises `wss` where it is reached over plain http: on
    our own host the scheme is ours.
    """
    try:
        base, stream = urlsplit(url), urlsplit(told)
    except ValueError:
        return None
    if stream.scheme not in ("ws", "wss", "http", "https") or not stream.netloc:
        return None
    scheme = "https" if stream.scheme in ("wss", "https") else "http"
    if stream.netloc == base.netloc:
        scheme = base.scheme
    elif base.scheme == "https":
        scheme = "https"  # a token that travels encrypted here travels encrypted there
    return urlunsplit((scheme, stream.netloc, stream.path.rstrip("/"), "", ""))


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NOTHING


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object, default: int) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST
    return value if whole else default  # type: ignore[return-value]  # `whole` says that it is an int
