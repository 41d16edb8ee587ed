"""An instance that is down is left in peace, and found again soon after it is back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.mastodon.client import Client
from bridge.mastodon.outage import LONGEST_PAUSE, STUMBLES, Outage
from bridge.platform import Retryable
from tests.mastodon.scripted import Scripted, html, json

NOW = 1_800_000_000_000
HOUR = 3600
STATUS = "/api/v1/statuses/1"


class ManualClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> int:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += int(seconds * 1000)


async def test_an_hour_of_errors_is_no_storm() -> None:
    """Ten that want something every second for an hour: about a request a minute, and back within one."""
    clock = ManualClock()
    async with Scripted() as server:
        server.on(STATUS, html(503))
        client = Client(server.url, "token", clock=clock, rng=random.Random(1))
        for _ in range(HOUR):
            for _ in range(10):
                with pytest.raises(Retryable):
                    await client.call("status", "1")
            clock.at += 1000
        assert 60 <= len(server.paths()) <= 100
        server.on(STATUS, json({"id": "1"}))
        waited = 0
        while True:
            try:
                await client.call("status", "1")
            except Retryable:
                waited += 1
                clock.at += 1000
            else:
                break
        assert waited <= LONGEST_PAUSE
        before = len(server.paths())
        for _ in range(20):
            await client.call("status", "1")
        assert len(server.paths()) == before + 20
        await client.close()


async def test_a_no_is_an_answer() -> None:
    """A server that refuses one thing after the other is there: nobody waits for it."""
    async with Scripted() as server:
        server.on(STATUS, json({"error": "Record not found"}, 404))
        client = Client(server.url, "token", clock=ManualClock(), rng=random.Random(1))
        for _ in range(20):
            assert await client.status("1") is None
        assert len(server.paths()) == 20
        await client.close()


def test_what_fails_together_counts_once() -> None:
    """Twenty requests that were under way when the instance went away are one failure."""
    outage = Outage()
    for _ in range(20):
        outage.failed(0, NOW, 0.5)
    assert outage.failures == 1
    assert outage.before_request(NOW) == 0


def test_only_one_asks_at_a_time() -> None:
    """Who may go makes the others wait, even before it is known what came of it."""
    outage = Outage()
    for known in range(STUMBLES):
        outage.failed(known, NOW, 0.0)
    later = NOW + 10_000
    assert outage.before_request(later) == 0
    assert outage.before_request(later) > 0


@given(
    st.lists(
        st.tuples(
            st.integers(-(10**9), 10**9), st.sampled_from(["ask", "fail", "answer"]), st.floats(0, 0.999)
        ),
        max_size=60,
    )
)
def test_nobody_waits_longer_than_a_minute(steps: list[tuple[int, str, float]]) -> None:
    """Whatever happened, and however the clock jumped: a wait is at most a minute, and then one may go."""
    outage, now = Outage(), NOW
    for jump, what, jitter in steps:
        now += jump
        match what:
            case "fail":
                outage.failed(outage.failures, now, jitter)
            case "answer":
                outage.answered()
        wait = outage.before_request(now)
        assert 0 <= wait <= LONGEST_PAUSE
        if wait:
            assert outage.before_request(now + round(wait * 1000)) == 0
