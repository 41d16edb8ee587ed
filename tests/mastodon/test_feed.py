"""What arrives: nothing lost, nothing twice, no storm, in hours of virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import web

from bridge.mastodon.doorbell import Bell
from bridge.mastodon.feed import LOOKS, PAGE, TOGETHER, Feed
from bridge.mastodon.translate import gone
from bridge.platform import Batch, Broken, EventKind, Misconfigured, Retryable
from bridge.schedule import Doorbell, SystemClock
from tests.fakes.clock import VirtualClock, run
from tests.mastodon.posts import HOME, ME, notification, status
from tests.mastodon.scripted import Scripted, html
from tests.mastodon.stub import StubClient

if TYPE_CHECKING:
    from bridge.mastodon.client import Client
    from bridge.platform import Event


class Listening:
    """A feed and what it has yielded, consumed for a while at a time."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.client = StubClient(self.clock)
        self.bell = Doorbell(self.clock)
        self.batches: list[Batch] = []
        self.feed = Feed(
            cast("Client", self.client),
            account=ME.address,
            admins=frozenset(),
            clock=self.clock,
            rng=random.Random(1),
            doorbell=self.bell,
        )

    @property
    def cursor(self) -> str | None:
        return next((batch.cursor for batch in reversed(self.batches) if batch.cursor), None)

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch.events]

    async def listen(
        self, seconds: float, cursor: str | None = None, answered: tuple[Event, ...] = ()
    ) -> None:
        try:
            async with asyncio.timeout(seconds), aclosing(self.feed.events(cursor, answered)) as batches:
                async for batch in batches:
                    self.batches.append(batch)
        except TimeoutError:
            pass

    def arrive(self, *numbers: int) -> None:
        for number in numbers:
            post = status(f"s{number}", f"question {number}")
            self.client.posts[post["id"]] = post
            self.client.notifications.append(notification(f"n{number}", post))


def at(min_id: str, account: str = ME.id) -> str:
    return json.dumps({"account": account, "min_id": min_id})


def test_a_first_start_answers_no_backlog() -> None:
    """The cursor begins at the newest notification, and what comes after it is answered."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(*range(100))
        await here.listen(10)
        assert here.events == []
        assert here.cursor is not None
        assert json.loads(here.cursor) == {"account": "1", "min_id": "n99"}
        here.arrive(100)
        await here.listen(10, here.cursor)
        assert [event.id for event in here.events] == ["s100"]

    run(scenario())


def test_what_comes_after_a_start_with_nothing_is_all_new() -> None:
    """An account that was never mentioned misses none of the first hundred mentions."""

    async def scenario() -> None:
        here = Listening()
        await here.listen(10)
        here.arrive(*range(100))
        await here.listen(10, here.cursor)
        assert [event.id for event in here.events] == [f"s{number}" for number in range(100)]

    run(scenario())


def test_a_backlog_comes_oldest_first_a_page_at_a_time() -> None:
    """Each page is one batch whose cursor is its newest id; requests are one for a page."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(*range(101))
        await here.listen(10, at("n0"))
        assert [event.id for event in here.events] == [f"s{number}" for number in range(1, 101)]
        assert [json.loads(batch.cursor or "")["min_id"] for batch in here.batches] == ["n40", "n80", "n100"]
        assert [len(batch.events) for batch in here.batches] == [PAGE, PAGE, 20]
        assert here.client.count("notifications") == 4
        assert {fact.place.id for batch in here.batches for fact in batch.places} == {"2"}

    run(scenario())


def test_a_page_that_was_not_taken_comes_again() -> None:
    """A consumer that stopped before it asked for more starts again from its own cursor."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(*range(101))
        async with aclosing(here.feed.events(at("n0"))) as batches:
            taken = await anext(batches)
            lost = await anext(batches)
        await here.listen(10, taken.cursor)
        assert here.batches[0] == lost

    run(scenario())


@pytest.mark.parametrize("cursor", [at("n5", "99"), "", "nonsense", "[]", '{"account": "1"}'])
def test_a_cursor_of_another_account_is_a_first_start(cursor: str) -> None:
    """A foreign id might give the oldest page: whatever is not ours answers no backlog."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(*range(10))
        await here.listen(10, cursor)
        assert here.events == []
        assert here.cursor == json.dumps({"account": "1", "min_id": "n9"}, separators=(",", ":"))

    run(scenario())


def test_a_server_that_ignores_the_cursor_makes_no_loop() -> None:
    """The same newest id again is no news."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(*range(50))
        here.client.ignores_min_id = True
        await here.listen(600, at("n3"))
        assert len(here.batches) == 1
        assert here.client.count("notifications") <= 14

    run(scenario())


def test_odd_notifications_move_the_cursor_and_ask_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """No status, unknown types, moderation: passed over in the log, with a remedy where there is one."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(1)
        here.client.notifications += [
            notification("n2", None),
            notification("n3", None, type="moderation_warning", moderation_warning={"action": "silence"}),
        ]
        await here.listen(10, at("n1"))
        assert here.events == []
        assert json.loads(here.cursor or "")["min_id"] == "n3"

    run(scenario())
    said = capsys.readouterr().out
    assert "moderation_warning" in said
    assert "silence" in said
    assert "remedy" in said


def test_the_doorbell_brings_it_at_once_and_polling_within_a_minute() -> None:
    """A ring is a poll now; without one a mention waits a minute at most."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(0)
        listening = asyncio.create_task(here.listen(200, at("n0")))
        await asyncio.sleep(10)
        here.arrive(1)
        here.bell.ring()
        await asyncio.sleep(1)
        assert [event.id for event in here.events] == ["s1"]
        asked = here.client.count("notifications")
        here.arrive(2)
        await asyncio.sleep(67)
        assert [event.id for event in here.events] == ["s1", "s2"]
        assert here.client.count("notifications") <= asked + 2
        await listening

    run(scenario())


def test_a_bell_that_never_stops_leaves_a_budget() -> None:
    """However often it rings, a five-minute window keeps requests for answers."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(0)

        async def ring() -> None:
            while True:
                here.bell.ring()
                await asyncio.sleep(0.05)

        ringing = asyncio.create_task(ring())
        await here.listen(300, at("n0"))
        ringing.cancel()
        assert here.client.count("notifications") <= 280

    run(scenario())


def test_an_hour_of_503_is_few_requests_and_loses_nothing() -> None:
    """The pauses grow to two minutes; what was asked meanwhile is there when the instance is back."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(0)
        here.client.down = Retryable("notifications: 503")
        listening = asyncio.create_task(here.listen(4_000, at("n0")))
        for _ in range(3_600):
            here.bell.ring()
            await asyncio.sleep(1)
        assert 30 <= len(here.client.calls) <= 60
        here.arrive(1, 2)
        here.client.down = None
        await asyncio.sleep(121)
        assert [event.id for event in here.events] == ["s1", "s2"]
        await listening

    run(scenario())


def test_the_wait_that_a_server_asks_for_is_kept() -> None:
    """`Retry-After` is longer than our own pause: nothing is asked before."""

    async def scenario() -> None:
        here = Listening()
        here.client.down = Retryable("notifications: 429", 250.0)
        await here.listen(249, at("n0"))
        assert len(here.client.calls) == 1

    run(scenario())


def test_a_revoked_token_ends_the_feed() -> None:
    """401 is told at once; a refusal in other words is made sure of by asking whose token it is."""

    async def scenario() -> None:
        here = Listening()
        here.client.down = Misconfigured("mastodon", "the access token is not valid")
        with pytest.raises(Misconfigured):
            await here.listen(10, at("n0"))
        assert len(here.client.calls) == 1
        here.client.down = Broken("notifications: 400")
        here.client.opening = Misconfigured("mastodon", "the access token is not valid")
        with pytest.raises(Misconfigured):
            await here.listen(10, at("n0"))

    run(scenario())


def test_what_was_told_comes_without_a_cursor() -> None:
    """A deletion that was found elsewhere is an event of its own batch, once, and stops being watched."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(0, 1)
        await here.listen(5, at("n0"))
        event = here.events[0]
        here.feed.watch(event)
        here.feed.tell(gone("s1", "2", event.sender, 5))
        here.feed.tell(gone("s1", "2", event.sender, 9))
        await here.listen(5, here.cursor)
        assert [(batch.cursor, [one.id for one in batch.events]) for batch in here.batches[1:]] == [
            (None, ["gone:s1"])
        ]
        assert here.feed._watched == {}

    run(scenario())


def test_a_deleted_question_is_noticed_within_minutes() -> None:
    """Answered mentions are looked at every five minutes for a day: gone, or not to us any more, is told."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(0, 1, 2, 3)
        await here.listen(5, at("n0"))
        asked = tuple(here.events)
        del here.client.posts["s1"]
        here.client.posts["s2"] = status("s2", "never mind", to=())
        await here.listen(310, here.cursor, asked)
        found = {event.id: (event.kind, event.relates_to) for event in here.events[3:]}
        assert found == {
            "gone:s1": (EventKind.REDACTION, "s1"),
            "gone:s2": (EventKind.REDACTION, "s2"),
        }
        looked = here.client.count("status")
        await here.listen(2 * 86_400, here.cursor)
        assert here.client.count("status") - looked <= 9

    run(scenario())


def test_a_look_is_bounded() -> None:
    """Two thousand answers of a day are looked at in turn, in at most twenty requests each time."""

    async def scenario() -> None:
        here = Listening()
        here.arrive(*range(2_600))
        await here.listen(20, at("n0"))
        for event in here.events:
            here.feed.watch(event)
        assert len(here.feed._watched) == 2_000
        here.client.calls.clear()
        here.client.limits = type(here.client.limits)()
        await here.listen(320, here.cursor)
        assert here.client.count("status") == LOOKS * TOGETHER

    run(scenario())


# -- the stream, on a real server ------------------------------------------------------------------


class _Stream:
    """A streaming server: sends `lines`, then ends or stays."""

    def __init__(self, *lines: bytes, stays: bool = False) -> None:
        self.lines, self.stays, self.opened = lines, stays, 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.opened += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for line in self.lines:
            await response.write(line)
        if self.stays:
            # The client hangs up first; the server notices when it writes.
            while True:
                await asyncio.sleep(0.5)
                if request.transport is None or request.transport.is_closing():
                    break
        return response


class _Pauses(SystemClock):
    """Counts the pauses instead of making them; the one after `most` never ends."""

    def __init__(self, most: int) -> None:
        self.pauses: list[float] = []
        self.most = most
        self.reached = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) >= self.most:
            self.reached.set()
            await asyncio.Event().wait()


def _bell(server: Scripted, clock: SystemClock, ring: Any, silence: float = 60.0) -> Bell:
    client = StubClient(clock)
    client.instance = replace(HOME, streaming_url=server.url)
    return Bell(cast("Client", client), ring, clock=clock, rng=random.Random(1), silence=silence)


async def test_an_event_rings_and_a_heartbeat_does_not() -> None:
    """The open stream rings once, each event after it; heartbeats and a ULID in a `delete` change nothing."""
    rung: list[int] = []
    async with Scripted() as server:
        server.on("/api/v1/streaming/user/notification", _Stream(b":)\n", b":thump\n", b":thump\n"))
        clock = _Pauses(1)
        task = asyncio.create_task(_bell(server, clock, lambda: rung.append(1)).run())
        await clock.reached.wait()
        task.cancel()
        assert len(rung) == 1
        rung.clear()
        server.on("/api/v1/streaming/user/notification", _Stream(b"event: delete\ndata: 01JB\n\n"))
        clock = _Pauses(1)
        task = asyncio.create_task(_bell(server, clock, lambda: rung.append(1)).run())
        await clock.reached.wait()
        task.cancel()
        assert len(rung) >= 2
        _, query, headers = server.seen[-1]
        assert query == {}
        assert headers["Authorization"] == "Bearer token-1"


@pytest.mark.parametrize(
    "answer", [_Stream(), html(503), html(404), html(200)], ids=["closes", "503", "404", "html"]
)
async def test_a_stream_that_ends_at_once_is_opened_ever_more_rarely(answer: Any) -> None:
    """A clean end is a failure too: twelve tries take at least a quarter of an hour of pauses."""
    async with Scripted() as server:
        server.on("/api/v1/streaming/user/notification", answer)
        clock = _Pauses(12)
        task = asyncio.create_task(_bell(server, clock, lambda: None).run())
        await clock.reached.wait()
        task.cancel()
        assert len(server.seen) == 12
        assert sum(clock.pauses) > 15 * 60
        assert max(clock.pauses) <= 300


async def test_a_silent_stream_is_left() -> None:
    """Without even a heartbeat the watchdog opens a new one."""
    async with Scripted() as server:
        stream = _Stream(b":)\n", stays=True)
        server.on("/api/v1/streaming/user/notification", stream)
        clock = _Pauses(1)
        task = asyncio.create_task(_bell(server, clock, lambda: None, silence=0.2).run())
        async with asyncio.timeout(10):
            await clock.reached.wait()
        task.cancel()
        assert stream.opened == 1


async def test_401_ends_the_bell() -> None:
    """A token that is not taken is not tried again; the poll says what is wrong."""
    async with Scripted() as server:
        server.on("/api/v1/streaming/user/notification", html(401))
        async with asyncio.timeout(10):
            await _bell(server, SystemClock(), lambda: None).run()
        assert len(server.seen) == 1
