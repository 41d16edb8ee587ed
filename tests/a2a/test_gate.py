"""Who may speak over HTTPS at all, how often and how slowly; by a clock of the test's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from bridge.a2a import gate
from bridge.a2a.gate import CARD, LARGEST_BODY, PER_MINUTE, STRANGERS_PER_MINUTE, Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CITY, VILLAGE = "bot:city.example", "bot:village.example"


class Behind:
    """Says who was let in, and keeps what it got."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.now = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        user = scope.get("user")
        if scope["path"] != CARD:
            self.bodies.append((await receive())["body"])
        await PlainTextResponse("" if user is None else user.display_name)(scope, receive, send)


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
async def http(behind: Behind) -> AsyncIterator[httpx.AsyncClient]:
    app = Gate(behind, {CITY: "one", VILLAGE: "two"}, lambda: behind.now)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://here") as client:
        yield client


def by(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_token_says_who_it_is(http: httpx.AsyncClient, behind: Behind) -> None:
    """Each peer by its own; the body arrives whole."""
    assert (await http.post("/", headers=by("one"), content=b"a")).text == CITY
    assert (await http.post("/", headers=by("two"), content=b"b")).text == VILLAGE
    assert (await http.post("/", headers=by("three"))).status_code == 401
    assert (await http.get(CARD)).status_code == 200
    assert behind.bodies == [b"a", b"b"]


async def test_each_peer_has_its_share_of_a_minute(http: httpx.AsyncClient, behind: Behind) -> None:
    """One that used its own up takes nothing from another, and gets it back; told when."""
    for _ in range(PER_MINUTE):
        assert (await http.post("/", headers=by("one"))).status_code == 200
        behind.now += 0.1
    held = await http.post("/", headers=by("one"))
    assert held.status_code == 429
    wait = int(held.headers["retry-after"])
    assert (await http.post("/", headers=by("two"))).status_code == 200
    behind.now += wait
    assert (await http.post("/", headers=by("one"))).status_code == 200


async def test_strangers_share_one_minute(http: httpx.AsyncClient, behind: Behind) -> None:
    """Guesses of tokens and readers of the card together; peers are not held up by them."""
    for _ in range(STRANGERS_PER_MINUTE):
        assert (await http.post("/", headers=by("guess"))).status_code == 401
    assert (await http.post("/", headers=by("guess"))).status_code == 429
    assert (await http.get(CARD)).status_code == 429
    assert (await http.post("/", headers=by("one"))).status_code == 200
    behind.now += 60
    assert (await http.get(CARD)).status_code == 200


async def test_a_body_that_goes_on_is_left(http: httpx.AsyncClient, behind: Behind) -> None:
    """At the limit it passes, a byte more does not, whatever length was announced."""
    assert (await http.post("/", headers=by("one"), content=b"x" * LARGEST_BODY)).status_code == 200
    assert (await http.post("/", headers=by("one"), content=b"x" * (LARGEST_BODY + 1))).status_code == 413
    assert len(behind.bodies) == 1


async def test_a_body_that_does_not_come_is_not_waited_for(
    http: httpx.AsyncClient, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is held open without a word ends."""
    monkeypatch.setattr(gate, "BODY_DEADLINE", 0.05)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    assert (await http.post("/", headers=by("one"), content=never())).status_code == 408
    assert not behind.bodies
