"""Files of posts: fetched from wherever an instance says that they are, which anybody can make it say.

Promises: no address of this machine or its network is ever connected to, whatever a name resolves to
and wherever a redirect leads (the check is made on the address of each connection, as it is made); no
token, cookie or password goes along; a file is never whole in memory, never written past its limit, and
every transfer ends within a deadline. `allow_loopback` opens 127.0.0.0/8 and ::1 for tests.

Source: https://docs.joinmastodon.org/entities/MediaAttachment/; IANA's registries of special-purpose
addresses, as `ipaddress` has them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import aiohttp
from yarl import URL

from bridge.platform import Broken, PlatformError, Refused, Retryable

if TYPE_CHECKING:
    from bots.conversation import Attachment

DEADLINE: Final = 300.0
"""Seconds for one file, redirects included."""
STALL: Final = 30.0
"""Seconds without a byte after which a download is given up."""
REDIRECTS: Final = 3
PIECE: Final = 256 * 1024
"""Bytes that are written in one go, off the event loop."""

_WHAT: Final = "GET media"
_OK: Final = 200
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_GONE: Final = frozenset({401, 403, 404, 410, 451})
_PASSING: Final = frozenset({408, 425, 429})
_SERVER: Final = 500
_HEADERS: Final = {
    "Accept": "audio/*, video/*, */*;q=0.1",
    "Accept-Encoding": "identity",
    "User-Agent": "Hearth",
}
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


async def fetch(
    attachment: Attachment,
    into: BinaryIO,
    limit: int,
    *,
    allow_loopback: bool = False,
    deadline: float = DEADLINE,
) -> None:
    """Write the file to `into`, at most `limit` bytes; see `Platform.fetch`."""
    url = located(attachment.source)
    gate = _Gate(allow_loopback=allow_loopback)
    connector = aiohttp.TCPConnector(socket_factory=gate.open, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALL, sock_read=STALL)
    try:
        async with (
            asyncio.timeout(deadline),
            aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            ) as session,
        ):
            await _follow(session, url, into, limit)
    except TimeoutError as error:
        raise Retryable(f"{_WHAT}: no whole answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        if gate.refused:
            raise Refused("private_address", "the file lies on an address that is not public") from error
        raise Retryable(f"{_WHAT}: {type(error).__name__}") from error


def located(source: str) -> URL:
    """Where the file of an `Attachment.source` lies; raises `Broken`.

    A file that our instance has not fetched yet (`unknown`) is only where it came from.
    """
    try:
        stored = json.loads(source)
        first = ("remote_url", "url") if stored.get("type") == "unknown" else ("url", "remote_url")
        return _allowed(URL(str(stored.get(first[0]) or stored.get(first[1]) or "")))
    except (ValueError, AttributeError, RecursionError):
        raise Broken(f"{_WHAT}: the attachment names no file") from None


def _allowed(url: URL) -> URL:
    """`url` where it is http(s), with a host and without a password; raises `Broken`, or `Refused`."""
    if url.scheme not in ("http", "https") or not url.host:
        raise Broken(f"{_WHAT}: not an address of the web")
    if url.user is not None or url.password is not None:
        raise Refused("credentials", "the file's address has a password in it")
    return url


async def _follow(session: aiohttp.ClientSession, url: URL, into: BinaryIO, limit: int) -> None:
    for _ in range(REDIRECTS + 1):
        async with session.get(url, allow_redirects=False) as response:
            if response.status not in _MOVED:
                await _receive(response, into, limit)
                return
            try:
                url = _allowed(url.join(URL(response.headers.get("Location", ""))))
            except ValueError:
                raise Broken(f"{_WHAT}: a redirect to nowhere") from None
    raise Broken(f"{_WHAT}: more than {REDIRECTS} redirects")


async def _receive(response: aiohttp.ClientResponse, into: BinaryIO, limit: int) -> None:
    error = refusal(response.status, response.headers.get("Retry-After"))
    if error is not None:
        raise error
    if response.content_type.startswith("text/") or response.headers.get("Content-Encoding"):
        raise Broken(f"{_WHAT}: no sound, but {response.content_type[:80]}")
    announced = response.content_length
    if announced is not None and announced > limit:
        raise Broken(f"{_WHAT}: the file has {announced} bytes, {limit} are allowed")
    size, piece = 0, bytearray()
    async for data in response.content.iter_any():
        size += len(data)
        if size > limit:
            raise Broken(f"{_WHAT}: the file has more than {limit} bytes")
        piece += data
        if len(piece) >= PIECE:
            await asyncio.to_thread(into.write, bytes(piece))
            piece.clear()
    await asyncio.to_thread(into.write, bytes(piece))
    await asyncio.to_thread(into.flush)


def refusal(status: int, retry_after: str | None) -> PlatformError | None:
    """What an answer means that is not the file; None for the file. Total."""
    if status == _OK:
        return None
    if status in _GONE:
        return Refused(str(status), "the file is gone, or not public; attach it again")
    if status in _PASSING or status >= _SERVER:
        wait = (
            float(retry_after)
            if retry_after is not None and retry_after.isascii() and retry_after.isdigit()
            else None
        )
        return Retryable(f"{_WHAT}: {status}", wait)
    return Broken(f"{_WHAT}: {status}")


class _Gate:
    """Opens sockets to public addresses and to no other; remembers that it has refused."""

    def __init__(self, *, allow_loopback: bool) -> None:
        self._allow_loopback = allow_loopback
        self.refused = False

    def open(self, info: Any) -> socket.socket:
        """A socket for one of aiohttp's address infos (`getaddrinfo`); raises `PermissionError`."""
        family, kind, proto, _, target = info
        if not may_connect(str(target[0]), allow_loopback=self._allow_loopback):
            self.refused = True
            raise PermissionError("not a public address")
        return socket.socket(family=family, type=kind, proto=proto)


def may_connect(address: str, *, allow_loopback: bool = False) -> bool:
    """Whether `address` (an IP address) is public; or loopback, where that is allowed.

    An IPv4 address inside of an IPv6 one (mapped, NAT64, 6to4, Teredo) must be public itself.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner = _inner(ip)
    if inner is not None:
        return may_connect(str(inner), allow_loopback=allow_loopback)
    if ip.is_loopback:
        return allow_loopback
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _inner(ip: _Address) -> ipaddress.IPv4Address | None:
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    teredo = ip.teredo
    return ip.ipv4_mapped or ip.sixtofour or (teredo[1] if teredo is not None else None)
