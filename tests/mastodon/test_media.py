"""Files are fetched from public addresses, whole or not at all, in bounded time and space."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bots.conversation import Attachment
from bridge.mastodon import media
from bridge.mastodon.media import fetch, may_connect, refusal
from bridge.platform import Broken, PlatformError, Refused, Retryable
from tests.mastodon.scripted import Scripted, html

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import AsyncIterator

SOUND = bytes(range(256)) * 3_000


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with Scripted() as scripted:
        scripted.on("/a.mp3", web.Response(body=SOUND, content_type="audio/mpeg"))
        yield scripted


def at(url: str, kind: str = "audio", remote_url: str = "") -> Attachment:
    return Attachment(json.dumps({"url": url, "remote_url": remote_url, "type": kind}), "audio/mpeg")


async def fetched(attachment: Attachment, limit: int = 10**7, *, deadline: float = 30.0) -> bytes:
    into = io.BytesIO()
    await fetch(attachment, into, limit, allow_loopback=True, deadline=deadline)
    return into.getvalue()


async def test_a_file_arrives_whole_and_nothing_goes_along(server: Scripted) -> None:
    """The bytes are the file's; no token, cookie or referrer is sent."""
    assert await fetched(at(f"{server.url}/a.mp3")) == SOUND
    names = {name.lower() for name in server.seen[0][2]}
    assert not names & {"authorization", "cookie", "referer"}


async def test_what_our_instance_has_not_fetched_comes_from_its_origin(server: Scripted) -> None:
    """A file of unknown type is at `remote_url`; others are at `url`."""
    assert await fetched(at(f"{server.url}/gone", "unknown", f"{server.url}/a.mp3")) == SOUND
    assert await fetched(at(f"{server.url}/a.mp3", "audio", f"{server.url}/gone")) == SOUND


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "10.0.0.5",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.2.7",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fc00::1",
        "fe80::1%eth0",
        "ff02::1",
        "2001:db8::1",
        "::ffff:10.0.0.5",
        "::ffff:127.0.0.1",
        "64:ff9b::a00:5",
        "2002:0a00:0005::1",
        "not an address",
    ],
)
def test_no_address_of_ours_is_connected_to(address: str) -> None:
    """Private, loopback, link-local, shared, reserved and multicast ranges, also inside of IPv6."""
    assert not may_connect(address)


@pytest.mark.parametrize("address", ["9.9.9.9", "2620:fe::fe", "::ffff:9.9.9.9", "64:ff9b::909:909"])
def test_public_addresses_are_connected_to(address: str) -> None:
    """What is public is public in every notation."""
    assert may_connect(address)


@given(st.ip_addresses())
def test_an_address_that_is_not_global_is_never_connected_to(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """The switch for tests opens loopback, and nothing else."""
    if not address.is_global:
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
        assert not may_connect(str(address)) or inner is not None
    if may_connect(str(address), allow_loopback=True) and not may_connect(str(address)):
        assert (
            address.is_loopback
            or getattr(address, "ipv4_mapped", None)
            or getattr(address, "sixtofour", None)
        )


async def test_loopback_needs_the_switch(server: Scripted) -> None:
    """By default this machine is not asked, and the server sees no connection."""
    with pytest.raises(Refused, match="private_address"):
        await fetch(at(f"{server.url}/a.mp3"), io.BytesIO(), 10**7)
    assert not server.seen


async def test_the_name_is_judged_by_what_it_resolves_to(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public name that leads to a private address is refused where the connection would be made."""

    def resolve(host: str, port: int, *_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.5", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(Refused, match="private_address"):
        await fetched(at(f"http://files.example:{server.port}/a.mp3"))


@pytest.mark.parametrize(
    "target", ["http://10.0.0.5/x", "http://[::ffff:192.168.0.1]/x", "http://169.254.169.254/"]
)
async def test_a_redirect_into_a_private_range_is_refused(server: Scripted, target: str) -> None:
    """Each hop is judged as the first one was."""
    server.on("/moved", web.Response(status=302, headers={"Location": target}))
    with pytest.raises(Refused, match="private_address"):
        await fetched(at(f"{server.url}/moved"))


async def test_a_few_redirects_are_followed(server: Scripted) -> None:
    """Three are the most; a circle ends."""
    for number in range(3):
        server.on(f"/{number}", web.Response(status=307, headers={"Location": f"/{number + 1}"}))
    server.on("/3", web.Response(body=b"sound", content_type="audio/ogg"))
    assert await fetched(at(f"{server.url}/0")) == b"sound"
    server.on("/round", web.Response(status=302, headers={"Location": "/round"}))
    with pytest.raises(Broken, match="redirects"):
        await fetched(at(f"{server.url}/round"))
    assert server.paths().count("/round") == 4


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("ftp://files.example/a", Broken),
        ("file:///etc/passwd", Broken),
        ("http://user:secret@files.example/a", Refused),
        ("http://[broken/", Broken),
    ],
)
async def test_a_redirect_to_what_is_no_public_file_ends_there(
    server: Scripted, target: str, kind: type[PlatformError]
) -> None:
    """Other schemes and passwords in addresses are not for us."""
    server.on("/moved", web.Response(status=302, headers={"Location": target}))
    with pytest.raises(kind) as raised:
        await fetched(at(f"{server.url}/moved"))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "source", ["", "null", "[]", "{}", '{"url": 5}', '{"url": "http://["}', "[" * 100_000]
)
async def test_a_source_that_names_no_file_is_broken(source: str) -> None:
    """Whatever stands there, the answer is that nothing can be fetched."""
    with pytest.raises(Broken):
        await fetched(Attachment(source))


async def test_a_file_that_is_announced_too_large_is_not_read(server: Scripted) -> None:
    """Half a gigabyte is refused by its header."""
    sent = 0

    async def large(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(
            headers={"Content-Type": "audio/mpeg", "Content-Length": str(500 * 2**20)}
        )
        await response.prepare(request)
        while True:
            try:
                await response.write(bytes(65_536))
            except ConnectionError:
                return response
            sent += 65_536

    server.on("/large", large)
    with pytest.raises(Broken, match="524288000 bytes"):
        await fetched(at(f"{server.url}/large"), 10**6)
    assert sent < 50 * 2**20


async def test_a_file_that_says_nothing_ends_at_the_limit(server: Scripted) -> None:
    """Without a length no more than the limit is written."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/mpeg"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            try:
                await response.write(bytes(65_536))
            except ConnectionError:
                return response

    server.on("/endless", endless)
    into = io.BytesIO()
    with pytest.raises(Broken, match="more than 1000000 bytes"):
        await fetch(at(f"{server.url}/endless"), into, 10**6, allow_loopback=True)
    assert len(into.getvalue()) <= 10**6


async def test_a_file_that_never_finishes_ends_by_the_deadline(server: Scripted) -> None:
    """A byte now and then keeps nobody waiting for ever."""

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/mpeg"})
        await response.prepare(request)
        while True:
            try:
                await response.write(b"x")
            except ConnectionError:
                return response
            await asyncio.sleep(0.02)

    server.on("/trickle", trickle)
    async with asyncio.timeout(10):
        with pytest.raises(Retryable, match="in time"):
            await fetched(at(f"{server.url}/trickle"), deadline=0.3)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (html(404), Refused),
        (html(403), Refused),
        (html(410), Refused),
        (html(503), Retryable),
        (html(429, Retry_After="7"), Retryable),
        (html(400), Broken),
        (html(200), Broken),
        (web.Response(body=b"x", content_type="audio/mpeg", headers={"Content-Encoding": "gzip"}), Broken),
    ],
)
async def test_an_answer_that_is_no_file_has_its_family(
    server: Scripted, answer: web.Response, kind: type[PlatformError]
) -> None:
    """Gone, later, never: by the status; an error page is no sound, and nothing is unpacked."""
    server.on("/x", answer)
    with pytest.raises(kind) as raised:
        await fetched(at(f"{server.url}/x"))
    assert "private words" not in str(raised.value)


@given(st.integers(100, 599), st.none() | st.text())
def test_any_status_has_one_meaning(status: int, retry_after: str | None) -> None:
    """Success is 200 alone, and a wait is a number of seconds or nothing."""
    error = refusal(status, retry_after)
    assert (error is None) == (status == 200)
    if isinstance(error, Retryable):
        assert error.after is None or error.after >= 0


async def test_a_dead_host_is_worth_another_try() -> None:
    """Nobody listens there now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Retryable):
        await fetched(at(f"http://127.0.0.1:{port}/a.mp3"))
    assert media.DEADLINE < 600
