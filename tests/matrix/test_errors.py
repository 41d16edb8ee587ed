"""The map from a homeserver's answers to the four error families is total."""

from __future__ import annotations

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bridge.matrix.client import Client
from bridge.matrix.errors import BROKEN, LATER, LOGIN, OPERATOR, REFUSED, LoggedOut, family
from bridge.platform import Broken, Misconfigured, PlatformError, Refused, Retryable

SPEC = frozenset(
    {
        "M_BAD_ALIAS",
        "M_BAD_JSON",
        "M_BAD_STATE",
        "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM",
        "M_CANNOT_OVERWRITE_MEDIA",
        "M_CAPTCHA_NEEDED",
        "M_CONCURRENT_WRITE",
        "M_CONSENT_NOT_GIVEN",
        "M_DUPLICATE_ANNOTATION",
        "M_EXCLUSIVE",
        "M_FORBIDDEN",
        "M_GUEST_ACCESS_FORBIDDEN",
        "M_INCOMPATIBLE_ROOM_VERSION",
        "M_INVALID_PARAM",
        "M_INVALID_ROOM_STATE",
        "M_INVALID_SIGNATURE",
        "M_INVALID_USERNAME",
        "M_INVITE_BLOCKED",
        "M_LIMIT_EXCEEDED",
        "M_MISSING_PARAM",
        "M_MISSING_TOKEN",
        "M_NOT_FOUND",
        "M_NOT_JSON",
        "M_NOT_YET_UPLOADED",
        "M_RESOURCE_LIMIT_EXCEEDED",
        "M_ROOM_IN_USE",
        "M_SERVER_NOT_TRUSTED",
        "M_THREEPID_AUTH_FAILED",
        "M_THREEPID_DENIED",
        "M_THREEPID_IN_USE",
        "M_THREEPID_MEDIUM_NOT_SUPPORTED",
        "M_THREEPID_NOT_FOUND",
        "M_TOO_LARGE",
        "M_UNABLE_TO_AUTHORISE_JOIN",
        "M_UNABLE_TO_GRANT_JOIN",
        "M_UNKNOWN",
        "M_UNKNOWN_POS",
        "M_UNKNOWN_TOKEN",
        "M_UNRECOGNIZED",
        "M_UNSUPPORTED_ROOM_VERSION",
        "M_URL_NOT_SET",
        "M_USER_DEACTIVATED",
        "M_USER_IN_USE",
        "M_USER_LOCKED",
        "M_USER_SUSPENDED",
        "M_WEAK_PASSWORD",
    }
)


def test_every_code_of_the_spec_is_in_the_table() -> None:
    """No code falls through to the default by being forgotten, and none is in two families."""
    tables = [set(BROKEN), set(LATER), set(LOGIN), set(OPERATOR), set(REFUSED), {"M_LIMIT_EXCEEDED"}]
    assert set().union(*tables) == SPEC
    assert sum(map(len, tables)) == len(SPEC)


@given(
    status=st.integers(100, 599),
    body=st.dictionaries(
        st.sampled_from(["errcode", "error", "retry_after_ms"]),
        st.sampled_from(sorted(SPEC)) | st.integers() | st.none() | st.text() | st.floats(),
    ),
    header=st.none() | st.text() | st.integers(-5, 10**9).map(str),
)
def test_any_answer_is_a_success_or_one_family(
    status: int, body: dict[str, object], header: str | None
) -> None:
    """Whatever a server answers, there is exactly one meaning, and a wait is never negative or endless."""
    error = family("PUT rooms", status, body, retry_after=header)
    assert (error is None) == (200 <= status < 300)
    if error is not None:
        assert isinstance(error, Retryable | Refused | Broken | Misconfigured)
    if isinstance(error, Retryable) and error.after is not None:
        assert 0 <= error.after <= 3600


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "M_LIMIT_EXCEEDED", Retryable),
        (502, None, Retryable),
        (500, "M_UNKNOWN", Retryable),
        (503, "M_FORBIDDEN", Retryable),
        (401, "M_UNKNOWN_TOKEN", LoggedOut),
        (401, None, LoggedOut),
        (403, "M_FORBIDDEN", Refused),
        (404, "M_NOT_FOUND", Refused),
        (404, None, Refused),
        (413, "M_TOO_LARGE", Broken),
        (400, "M_UNKNOWN", Broken),
        (400, "ORG.EXAMPLE_CODE", Broken),
        (403, "M_USER_DEACTIVATED", Misconfigured),
    ],
)
def test_the_family_says_what_to_do(status: int, code: str | None, kind: type[PlatformError]) -> None:
    """Passing troubles are retried, a no is a no, and what can never work is parked."""
    assert type(family("PUT rooms", status, {} if code is None else {"errcode": code})) is kind


async def test_a_request_waits_as_long_as_the_server_asks(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A 429 carries the header's or the body's wait; HTML and dead connections are retryable."""
    answers = {
        "header": web.json_response(
            {"errcode": "M_LIMIT_EXCEEDED"}, status=429, headers={"Retry-After": "7"}
        ),
        "body": web.json_response({"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 1500}, status=429),
        "html": web.Response(text="<h1>Bad Gateway</h1>", status=502),
        "odd": web.Response(text="not JSON", status=200),
    }

    async def answer(request: web.Request) -> web.Response:
        return answers[request.match_info["what"]]

    app = web.Application()
    app.router.add_get("/_matrix/client/{what}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = Client(f"http://127.0.0.1:{port}", "@hearth:x", None, tmp_path_factory.mktemp("store"), "key")
    waits = {}
    try:
        for what in answers:
            with pytest.raises(Retryable) as told:
                await client.call("GET", (what,))
            waits[what] = told.value.after
        await runner.cleanup()
        with pytest.raises(Retryable):
            await client.call("GET", ("gone",))
    finally:
        await client.shut()
    with pytest.raises(Retryable):
        await client.call("GET", ("after shut",))
    assert waits == {"header": 7.0, "body": 1.5, "html": None, "odd": None}
