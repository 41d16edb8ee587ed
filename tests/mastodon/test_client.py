"""One call is one request, whatever the server does; every answer has one meaning."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import TYPE_CHECKING, Any

import mastodon.errors
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bridge.mastodon.client import MANY, REMEMBERED, Client
from bridge.mastodon.errors import TABLE, Answer, Means, family, of_answer
from bridge.mastodon.instance import Instance, parse_instance
from bridge.mastodon.wire import told
from bridge.platform import Broken, Misconfigured, PlatformError, Refused, Retryable, Unclear
from bridge.schedule import SystemClock
from tests.mastodon.scripted import INSTANCE, Scripted, html, json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

POST = "/api/v1/statuses"


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with Scripted() as scripted:
        yield scripted


@pytest.fixture
async def client(server: Scripted) -> AsyncIterator[Client]:
    client = made(server.url)
    yield client
    await client.close()


def made(url: str, **options: Any) -> Client:
    return Client(url, "token-1", clock=SystemClock(), rng=random.Random(1), **options)


# -- the table of errors ---------------------------------------------------------------------------


def _subclasses(cls: type[BaseException]) -> set[type[BaseException]]:
    return {cls}.union(*map(_subclasses, cls.__subclasses__()))


def test_every_error_of_the_library_is_in_the_table() -> None:
    """No exception of Mastodon.py falls through to a default by being forgotten."""
    assert set(TABLE) == _subclasses(mastodon.errors.MastodonError)


@given(
    kind=st.sampled_from(sorted(TABLE, key=lambda cls: cls.__name__)),
    status=st.none() | st.integers(100, 599),
    is_json=st.booleans(),
    sent=st.booleans(),
    posts=st.booleans(),
)
def test_any_failure_is_one_family(
    kind: type[mastodon.errors.MastodonError],
    status: int | None,
    is_json: bool,  # noqa: FBT001 - drawn, not called
    sent: bool,  # noqa: FBT001 - as above
    posts: bool,  # noqa: FBT001 - as above
) -> None:
    """Any exception with any answer has one meaning, and only what was sent to post can be unclear."""
    answer = Answer(status, is_json=is_json, sent=sent)
    error = family("status_post", kind("they said: secret"), answer, posts=posts)
    assert isinstance(error, Retryable | Refused | Broken | Misconfigured)
    assert "secret" not in str(error)
    if isinstance(error, Unclear):
        assert posts
        assert TABLE[kind] in (Means.ANSWER, Means.NETWORK)
        assert status is None or status >= 500 or status < 300


@pytest.mark.parametrize(
    ("status", "is_json", "reading", "posting"),
    [
        (401, True, Misconfigured, Misconfigured),
        (301, False, Retryable, Retryable),
        (403, True, Refused, Refused),
        (404, True, Refused, Refused),
        (410, True, Refused, Refused),
        (404, False, Retryable, Retryable),
        (403, False, Retryable, Retryable),
        (408, False, Retryable, Retryable),
        (429, True, Retryable, Retryable),
        (422, True, Broken, Broken),
        (400, True, Broken, Broken),
        (413, False, Broken, Broken),
        (500, True, Retryable, Unclear),
        (503, False, Retryable, Unclear),
        (200, False, Retryable, Unclear),
        (None, False, Retryable, Unclear),
    ],
)
def test_the_family_says_what_to_do(
    status: int | None,
    is_json: bool,  # noqa: FBT001 - a column of the table
    reading: type[PlatformError],
    posting: type[PlatformError],
) -> None:
    """The table of the module, line by line; the status decides and not the text."""
    answer = Answer(status, is_json=is_json)
    assert type(of_answer("x", answer)) is reading
    assert type(of_answer("x", answer, posts=True)) is posting


def test_takahe_says_no_in_html() -> None:
    """Its 404 is an answer, its 400 to the question whose token this is means the token."""
    assert type(of_answer("x", Answer(404, is_json=False, speaks_html=True))) is Refused
    assert type(of_answer("x", Answer(400, is_json=False), verifying=True)) is Misconfigured
    assert type(of_answer("x", Answer(400, is_json=False))) is Broken


# -- opening ---------------------------------------------------------------------------------------


async def test_opening_takes_two_requests(server: Scripted, client: Client) -> None:
    """The document and the token are read once each, and nothing else is asked for."""
    await client.open()
    assert server.paths() == ["/api/v2/instance", "/api/v1/accounts/verify_credentials"]
    assert client.requests == 2
    assert (client.me.id, client.me.address, client.me.is_bot) == ("1", "@hearth@home.example", True)
    assert client.instance.reads_many
    assert all(headers["Authorization"] == "Bearer token-1" for _, _, headers in server.seen)


async def test_an_older_server_has_the_older_document(server: Scripted, client: Client) -> None:
    """404 for version 2 of the document, in JSON or HTML, means version 1."""
    server.on("/api/v2/instance", html(404))
    server.on(
        "/api/v1/instance", json({"uri": "https://old.example", "version": "2.7.2 (compatible; Pleroma 2.5)"})
    )
    await client.open()
    assert (client.instance.software, client.instance.domain) == ("pleroma", "old.example")
    assert client.requests == 3


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("/api/v1/accounts/verify_credentials", json({"error": "The access token is invalid"}, 401), "login"),
        ("/api/v1/accounts/verify_credentials", html(400), "login"),
        ("/api/v1/accounts/verify_credentials", json({"error": "disabled"}, 403), "suspended"),
        (
            "/api/v2/instance",
            html(301, Location="https://new.example/api/v2/instance"),
            "https://new.example",
        ),
        ("/api/v2/instance", html(404), "no Mastodon API"),
    ],
)
async def test_what_only_the_operator_can_help(
    server: Scripted, client: Client, path: str, answer: web.Response, said: str
) -> None:
    """A bad token, a suspended account, a base that redirects or is something else: one clear line."""
    server.on(path, answer)
    with pytest.raises(Misconfigured, match=said) as raised:
        await client.open()
    assert "private words" not in str(raised.value)
    assert client.requests <= 2


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_an_instance_that_is_down_is_asked_once(server: Scripted, client: Client, status: int) -> None:
    """No version is hunted for (974 requests, once): one failed call is one request."""
    server.on("/api/v2/instance", html(status))
    with pytest.raises(Retryable):
        await client.open()
    assert client.requests == len(server.seen) == 1


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        ("notifications", (), {"types": ["mention"], "min_id": "5"}),
        ("notifications_dismiss", ("7",), {}),
        ("status_post", ("hello",), {"visibility": "direct"}),
        ("status_context", ("7",), {}),
        ("account_statuses", ("1",), {}),
        ("notifications_policy", (), {}),
        ("account_update_credentials", (), {"bot": True}),
    ],
)
async def test_no_method_asks_for_more_than_itself(
    server: Scripted, client: Client, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Against a server that answers 503 to everything each call is one request, never a recursion."""
    server.answers = {}
    for path in (POST, "/api/v1/notifications", "/api/v1/notifications/7/dismiss", "/api/v1/instance/"):
        server.on(path, html(503))
    with pytest.raises(PlatformError):
        await client.call(method, *args, **kwargs)
    assert client.requests == len(server.seen) == 1


# -- one call --------------------------------------------------------------------------------------


async def test_the_answer_is_what_was_sent(server: Scripted, client: Client) -> None:
    """Ids stay strings and times stay text, and fields that the library does not know are there."""
    status = {"id": "01J", "created_at": "2026-07-02T10:00:00.000Z", "pleroma": {"x": 1}}
    server.on("/api/v1/statuses/01J", json(status))
    assert await client.call("status", "01J") == status


async def test_headers_that_the_library_cannot_read_cost_no_post(server: Scripted, client: Client) -> None:
    """A post that was made is made, whatever stands in the rate-limit headers."""
    server.on(
        POST,
        json({"id": "9"}, X_RateLimit_Remaining="many", X_RateLimit_Reset="soon", Deprecation="true"),
    )
    assert await client.call("status_post", "hello", posts=True) == {"id": "9"}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (html(502), Unclear),
        (html(200), Unclear),
        (json({}, 422), Broken),
        (html(302, Location="/x"), Retryable),
    ],
)
async def test_a_post_is_never_sent_twice(
    server: Scripted, client: Client, answer: web.Response, kind: type[PlatformError]
) -> None:
    """Doubt is told as doubt; a redirect is not followed, which would make the POST a GET."""
    server.on(POST, answer)
    with pytest.raises(kind):
        await client.call("status_post", "hello", posts=True)
    assert server.paths() == [POST]


async def test_a_post_into_a_dead_connection_is_unclear(server: Scripted) -> None:
    """The server took the request and closed without a word: it may have posted."""

    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.on(POST, hang_up)
    server.on("/api/v1/statuses/1", hang_up)
    client = made(server.url)
    with pytest.raises(Unclear):
        await client.call("status_post", "hello", posts=True)
    with pytest.raises(Retryable) as read:
        await client.call("status", "1")
    await client.close()
    assert type(read.value) is not Unclear


async def test_a_refused_connection_is_no_doubt() -> None:
    """Where nobody listens nothing was posted: the same post may simply go again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = made(f"http://127.0.0.1:{port}")
    with pytest.raises(Retryable) as raised:
        await client.call("status_post", "hello", posts=True)
    await client.close()
    assert type(raised.value) is Retryable


async def test_an_answer_that_trickles_ends(server: Scripted) -> None:
    """A byte now and then is no progress: the whole answer has a deadline of its own."""

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            try:
                await response.write(b" ")
            except ConnectionError:
                return response
            await asyncio.sleep(0.02)

    server.on("/api/v1/statuses/1", trickle)
    client = made(server.url, timeout=0.1)
    async with asyncio.timeout(10):
        with pytest.raises(Retryable):
            await client.call("status", "1")
    await client.close()


async def test_a_wrong_argument_is_broken(client: Client) -> None:
    """What can never work is told as that, without a request."""
    with pytest.raises(Broken):
        await client.call("status_post", "hello", visibility="loud", posts=True)
    assert client.requests == 0


async def test_a_closed_client_sends_nothing(server: Scripted) -> None:
    """After `close` every call is Retryable, and nothing goes out."""
    client = made(server.url)
    await client.close()
    with pytest.raises(Retryable):
        await client.call("status", "1")
    assert not server.seen


# -- clocks and limits -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reset", ["2026-07-02T10:05:00.000000Z", "2026-07-02T10:05:00", "1782986700", "1782986700000", "300"]
)
def test_the_reset_is_read_in_every_form(reset: str) -> None:
    """ISO 8601 with and without a zone, epoch in seconds and milliseconds, plain seconds."""
    said = told(
        {"Date": "Thu, 02 Jul 2026 10:00:00 GMT", "X-RateLimit-Remaining": "7", "X-RateLimit-Reset": reset}
    )
    assert said.remaining == 7
    assert said.reset == 300.0


@given(st.dictionaries(st.sampled_from(["Date", "X-RateLimit-Remaining", "X-RateLimit-Reset"]), st.text()))
def test_any_header_is_read_or_passed_over(headers: dict[str, str]) -> None:
    """Nothing in a header raises."""
    said = told(headers)
    assert said.reset is None or said.reset >= 0


async def test_a_spent_budget_sends_nothing(server: Scripted, client: Client) -> None:
    """After the server says that nothing is left, calls say when, and no request goes out."""
    server.on("/api/v1/statuses/1", json({"id": "1"}, X_RateLimit_Remaining="0", X_RateLimit_Reset="200"))
    await client.call("status", "1")
    with pytest.raises(Retryable) as raised:
        await client.call("status", "1")
    assert raised.value.after is not None
    assert 190 < raised.value.after <= 200
    assert client.requests == 1


async def test_429_says_how_long(server: Scripted, client: Client) -> None:
    """Too many requests: the wait is the server's, and it is kept without asking again."""
    server.on("/api/v1/statuses/1", json({"error": "Too many requests"}, 429, Retry_After="40"))
    with pytest.raises(Retryable) as raised:
        await client.call("status", "1")
    assert raised.value.after == 40
    with pytest.raises(Retryable):
        await client.call("status", "1")
    assert client.requests == 1


async def test_the_clock_of_the_instance_is_known(server: Scripted, client: Client) -> None:
    """`Date` of the answers says what time it is there, days off or not."""
    server.on("/api/v1/statuses/1", json({"id": "1"}, Date="Thu, 02 Jul 2020 10:00:00 GMT"))
    await client.call("status", "1")
    assert abs(client.server_now() - 1_593_684_000_000) < 5_000


# -- statuses --------------------------------------------------------------------------------------


async def many(request: web.Request) -> web.StreamResponse:
    ids = request.query.getall("id[]")
    assert len(ids) <= MANY
    return web.json_response([{"id": one} for one in reversed(ids) if one != "gone"])


async def test_reads_made_together_are_one_request(server: Scripted, client: Client) -> None:
    """Twenty-five looks at once take two requests; what is not in the answer is gone."""
    await client.open()
    server.on(POST, many)
    ids = [*map(str, range(23)), "gone", "7"]
    found = await asyncio.gather(*map(client.status, ids))
    assert [status and status["id"] for status in found] == [*map(str, range(23)), None, "7"]
    assert server.paths()[2:] == [POST, POST]
    assert client.requests == 4


async def test_an_instance_that_reads_one_is_asked_one_by_one(server: Scripted, client: Client) -> None:
    """Before 4.3 each look is a request, and 404 is gone."""
    server.on("/api/v2/instance", json({**INSTANCE, "version": "4.2.0", "api_versions": {}}))
    await client.open()
    server.on("/api/v1/statuses/1", json({"id": "1"}))
    assert await client.status("1") == {"id": "1"}
    assert await client.status("2") is None


async def test_a_young_copy_is_enough_where_that_is_said(server: Scripted, client: Client) -> None:
    """`max_age` reads from memory; without it the server is asked; `forget` drops the copy."""
    await client.open()
    server.on(POST, many)
    await client.status("1")
    await client.status("1", max_age=60)
    assert client.requests == 3
    await client.status("1")
    assert client.requests == 4
    client.forget("1")
    await client.status("1", max_age=60)
    assert client.requests == 5


async def test_the_memory_of_statuses_is_bounded(server: Scripted, client: Client) -> None:
    """However many are read, no more than a thousand are kept."""
    await client.open()
    server.on(POST, many)
    await asyncio.gather(*(client.status(str(n)) for n in range(REMEMBERED + 40)))
    assert len(client._known) == REMEMBERED
    assert client.requests == 2 + (REMEMBERED + 40) // MANY


async def test_all_who_wait_learn_of_a_failure(server: Scripted, client: Client) -> None:
    """A failed read of many fails each of them, and a waiter that left disturbs nobody."""
    await client.open()
    server.on(POST, html(503))
    waiting = [asyncio.create_task(client.status(str(n))) for n in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, Retryable) for result in results[1:])
    assert client.requests == 3


# -- the document ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "source", "software"),
    [
        ("4.4.0", "https://github.com/mastodon/mastodon", "mastodon"),
        ("4.3.0+glitch", "", "mastodon"),
        ("4.8.0-alpha.1", "", "mastodon"),
        ("0.20.1+git-7d2a", "https://codeberg.org/superseriousbusiness/gotosocial", "gotosocial"),
        ("takahe/0.11.0", "", "takahe"),
        ("2.7.2 (compatible; Pleroma 2.5.0)", "", "pleroma"),
        ("2.7.2 (compatible; Akkoma 3.10)", "", "pleroma"),
        ("3.5.3 (compatible; Pixelfed 0.12)", "", "pixelfed"),
        ("3.0.0 (compatible; Sharkey 2025)", "", "other"),
        ("", "", "other"),
    ],
)
def test_the_software_is_told_apart(version: str, source: str, software: str) -> None:
    """By version and source, as the servers write them."""
    document = {"version": version, "source_url": source}
    assert parse_instance("https://x.example", document).software == software


@pytest.mark.parametrize(
    ("url", "told_url", "expected"),
    [
        ("https://x.example", "wss://streaming.x.example", "https://streaming.x.example"),
        ("http://127.0.0.1:8080", "wss://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://x.example", "ws://x.example/s/", "https://x.example/s"),
        ("https://x.example", "ws://other.example", "https://other.example"),
        ("https://x.example", "ftp://x.example", None),
        ("https://x.example", "wss://[", None),
        ("https://x.example", 5, None),
    ],
)
def test_the_streaming_address_is_put_right(url: str, told_url: object, expected: str | None) -> None:
    """`wss` over plain http is a proxy's mistake, and no token goes out in clear beside an https API."""
    document = {"version": "4.4.0", "configuration": {"urls": {"streaming": told_url}}}
    assert parse_instance(url, document).streaming_url == expected


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["domain", "uri", "version", "configuration", "api_versions", "urls", "max_toot_chars"]
        ),
        _JSON | st.fixed_dictionaries({"statuses": _JSON, "urls": _JSON, "mastodon": _JSON}),
    )
)
def test_any_document_is_an_instance(document: dict[str, Any]) -> None:
    """Whatever stands in it, there is an instance with usable numbers."""
    instance = parse_instance("https://x.example/", document)
    assert isinstance(instance, Instance)
    assert instance.max_characters > 0
    assert instance.characters_per_url > 0
    assert instance.domain
