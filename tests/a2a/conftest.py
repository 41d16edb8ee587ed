"""A family that is reached over HTTPS: the real server and client on loopback with TLS, in front of a Hearth.

The Matrix side is scripted (`tests.fakes.server`), on the machine's own time: sockets know no other.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from bots.conversation import PlaceKind
from bridge.a2a import beside
from bridge.a2a.beside import Beside, Peer
from bridge.a2a.card import card_of, signed
from bridge.a2a.server import application, server_of
from bridge.homeserver_pair import Certificates, certificates
from policies.room import LOOSEST
from tests.bridge.city import CITY, COMMUNITY, FAMILY_KEY, allow, key_of, rules
from tests.bridge.family import BOT, HEARTH
from tests.fakes.clock import VirtualClock
from tests.fakes.process import Parrot, Process
from tests.fakes.server import ADA, BEN, MOD, ROOM, FakeServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from a2a.types import AgentCard

    from bridge.a2a.gate import Gate
    from bridge.platform import StoredAction

TOKEN, OTHER_TOKEN = "city-token", "village-token"
VILLAGE = "bot:village.example"
VILLAGE_KEY = key_of("village")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """We look for an answer twenty times a second at first, not once."""
    monkeypatch.setattr(beside, "FIRST_MS", 50)


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate for `localhost`, and the authority that signed it."""
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trust(tls: Certificates) -> ssl.SSLContext:
    """What a client of ours trusts here."""
    return ssl.create_default_context(cafile=tls.authority)


@dataclass
class House:
    """The family's Hearth with its HTTPS side, and where that is."""

    server: FakeServer
    process: Process
    beside: Beside
    url: str = ""

    @property
    def runs(self) -> list[str]:
        """The causes of the turns that our model ran for."""
        assert isinstance(self.process.bot, Parrot)
        return self.process.bot.runs

    async def until(self, true: Callable[[], bool], seconds: float = 6.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not true():  # noqa: ASYNC110 - a double has no event for it
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError("\n--\n".join(self.server.texts())) from None


class Mortal:
    """What is sent over HTTPS is a boundary of its process, as what is sent to its own server is."""

    def __init__(self, beside: Beside, process: Process) -> None:
        self.carries = beside.carries
        self._beside = beside
        self._cross = process.boundaries.cross

    async def perform(self, action: StoredAction) -> str | None:
        self._cross("before https")
        done = await self._beside.perform(action)
        self._cross("after https")
        return done


@asynccontextmanager
async def served(app: Callable[[str], Gate | Any], tls: Certificates) -> AsyncIterator[str]:
    """Serve what `app` makes for its own address, over TLS; yields that address."""
    listener = await asyncio.to_thread(socket.create_server, ("127.0.0.1", 0))
    url = f"https://localhost:{listener.getsockname()[1]}"
    server = await asyncio.to_thread(server_of, app(url), tls.server, tls.key)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield url
    finally:
        server.should_exit = server.force_exit = True
        await serving


@pytest.fixture
async def family(tmp_path: Path, tls: Certificates) -> AsyncIterator[Callable[..., Awaitable[House]]]:
    """Start the family's Hearth with these peers beside its account; it may be started again."""
    async with AsyncExitStack() as stack:
        scripted = FakeServer(VirtualClock().now)
        scripted.room(ROOM, PlaceKind.GROUP, ADA, BEN, MOD, HEARTH, BOT)
        rules(scripted)
        allow(scripted)

        async def started(
            *peers: Peer, serving: bool = False, tokens: dict[str, str] | None = None, **kinds: Any
        ) -> House:
            kinds = {"policy": LOOSEST, "community": COMMUNITY, **kinds}
            process = Process(scripted, tmp_path / "journal.db", **kinds)
            await process.start()
            assert process.router.links is not None
            https = Beside(
                process.journal,
                process.clock,
                process.platform.account,
                list(peers) or [Peer(CITY, None)],
                admit=process.router.admit,
                links=process.router.links,
            )
            await https.start()
            process.delivery.beside = Mortal(https, process)
            process._tasks.append(asyncio.create_task(https.run()))
            stack.push_async_callback(https.close)
            stack.push_async_callback(_over, process)
            house = House(scripted, process, https)
            if serving:
                known = {CITY: TOKEN} if tokens is None else tokens
                house.url = await stack.enter_async_context(served(lambda url: app(house, url, known), tls))
            await process.idle()
            return house

        yield started


def app(house: House, url: str, tokens: dict[str, str]) -> Gate:
    """The family's side, as `bridge.a2a.start` puts it together."""
    card, shown = cards(url)
    return application(house.beside, card, shown, tokens, time.monotonic)


def cards(url: str) -> tuple[AgentCard, AgentCard]:
    """The family's card, and the same signed."""
    ours = COMMUNITY.card
    card = card_of(ours, f"{url}/", "1")
    return card, signed(card, FAMILY_KEY, ours.key)


@pytest.fixture
async def http(trust: ssl.SSLContext) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """A plain HTTP client, as strangers have one; with a token, if one is given."""
    async with AsyncExitStack() as stack:

        def made(token: str = "", **headers: str) -> httpx.AsyncClient:
            if token:
                headers["Authorization"] = f"Bearer {token}"
            client = httpx.AsyncClient(verify=trust, headers={"A2A-Version": "1.0", **headers}, timeout=20)
            stack.push_async_callback(client.aclose)
            return client

        yield made


async def _over(process: Process) -> None:
    if not process.over:
        await process.stop()
