"""What `hearth check` and `hearth doctor` ask a Matrix homeserver, beside a running `hearth run`.

Nothing is sent into any room; a session that is made to try a password is ended at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp

from bridge.credentials import MATRIX_ACCESS_TOKEN, MATRIX_PASSWORD
from bridge.matrix.errors import raise_for_response
from bridge.matrix.identity import is_signed_by
from bridge.platform import Misconfigured, Retryable
from bridge.report import Line, State

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from bridge.matrix.identity import Caller
    from bridge.sections import MatrixSettings
    from bridge.settings import Settings

NETWORK_DEADLINE = 15.0


async def lines(settings: Settings, matrix: MatrixSettings) -> AsyncIterator[Line]:
    """The homeserver, the login, and whether our device is signed."""
    if not matrix.allow:
        yield Line("matrix.allow", State.PROBLEM, "empty: nobody may invite or ask", "name your server there")
    timeout = aiohttp.ClientTimeout(total=NETWORK_DEADLINE)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        api = _Api(http, matrix.homeserver)
        try:
            code, versions = await api.call("GET", "/_matrix/client/versions")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            yield Line(
                "homeserver",
                State.LATER,
                f"{matrix.homeserver} does not answer as one: {str(error) or type(error).__name__}",
                "start it, or correct matrix.homeserver; `hearth run` waits for it",
            )
            return
        known = versions.get("versions")
        if code != HTTPStatus.OK or not known:
            yield Line(
                "homeserver",
                State.PROBLEM,
                f"{matrix.homeserver} answers {code}, not as a homeserver",
                "correct matrix.homeserver: the address of its client API",
            )
            return
        yield Line("homeserver", State.OK, f"{matrix.homeserver}, up to {known[-1]}")
        try:
            async for line in _login(api, settings, matrix):
                yield line
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            yield Line("login", State.LATER, f"no answer: {error or type(error).__name__}", "try again later")


@contextlib.asynccontextmanager
async def caller(settings: Settings) -> AsyncGenerator[Caller | None]:
    """Requests with the session that `hearth run` keeps; None before its first login."""
    token = await asyncio.to_thread(session_token, settings)
    if token is None:
        yield None
        return
    timeout = aiohttp.ClientTimeout(total=NETWORK_DEADLINE)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        api = _Api(http, settings.need_matrix().homeserver)

        async def call(
            method: str,
            path: tuple[str, ...],
            body: Mapping[str, Any] | None = None,
            *,
            query: Mapping[str, str] | None = None,
            deadline: float = NETWORK_DEADLINE,
            accept: frozenset[int] = frozenset(),
        ) -> dict[str, Any]:
            del query, deadline  # of what is asked here nothing needs them
            url = "/".join(("/_matrix/client", *(quote(part, safe="") for part in path)))
            try:
                code, told = await api.call(method, url, body, token)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise Retryable(f"{method} {path[1]}: {type(error).__name__}") from error
            if code not in accept:
                raise_for_response(f"{method} {path[1]}", code, told)
            return told

        yield call


@dataclass(frozen=True, slots=True)
class _Api:
    http: aiohttp.ClientSession
    base: str

    async def call(
        self, method: str, path: str, body: object = None, token: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of one request; raises as aiohttp does, `ValueError` if it is no JSON."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self.http.request(method, self.base + path, json=body, headers=headers) as answer:
            told = await answer.json(content_type=None)
            if not isinstance(told, dict):
                raise ValueError("the answer is not a JSON object")  # noqa: TRY004 - of their data, not of our types
            return answer.status, told


async def _login(api: _Api, settings: Settings, matrix: MatrixSettings) -> AsyncIterator[Line]:
    try:
        files = settings.credentials()
        password = await asyncio.to_thread(files.get, MATRIX_PASSWORD)
        token = await asyncio.to_thread(files.get, MATRIX_ACCESS_TOKEN)
    except Misconfigured:
        return  # said by the line of the credentials
    try:
        known = await asyncio.to_thread(session_token, settings)
    except Misconfigured as error:
        yield Line("login", State.PROBLEM, error.path, error.remedy)
        return
    use = known
    if use is None and password is not None:  # it goes before the token, as in `hearth run`
        async with _tried(api, matrix, password.get_secret_value()) as (made, line):
            yield line
            if made is not None:
                yield await _signed(api, matrix, made, None)
        return
    if use is None:
        if token is None:
            return  # as above
        use = token.get_secret_value()
    code, told = await api.call("GET", "/_matrix/client/v3/account/whoami", token=use)
    if code != HTTPStatus.OK:
        which = "the session in the data folder" if known else MATRIX_ACCESS_TOKEN
        yield Line(
            "login", State.PROBLEM, f"{which} is refused: {_said(told)}", _renew(ours=known is not None)
        )
        return
    if told.get("user_id") != matrix.user:
        yield Line(
            "login",
            State.PROBLEM,
            f"the credentials are those of {told.get('user_id')}",
            f"set matrix.user to it, or give the credentials of {matrix.user}",
        )
        return
    yield Line("login", State.OK, f"{matrix.user}, device {told.get('device_id')}")
    yield await _signed(api, matrix, use, told.get("device_id"))


def _renew(*, ours: bool) -> str:
    if ours:
        return "`hearth run` logs in anew, if it has the password"
    return f"write a new token into {MATRIX_ACCESS_TOKEN}"


@contextlib.asynccontextmanager
async def _tried(api: _Api, matrix: MatrixSettings, password: str) -> AsyncGenerator[tuple[str | None, Line]]:
    """Log in with the password, and out again."""
    code, told = await api.call(
        "POST",
        "/_matrix/client/v3/login",
        {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": matrix.user},
            "password": password,
            "initial_device_display_name": f"{matrix.device_name} (check)",
        },
    )
    made = told.get("access_token")
    if code != HTTPStatus.OK or not isinstance(made, str):
        remedy = f"correct {MATRIX_PASSWORD} or matrix.user"
        if told.get("errcode") == "M_LIMIT_EXCEEDED":
            yield None, Line("login", State.LATER, f"too many logins: {_said(told)}", "try again later")
        else:
            yield None, Line("login", State.PROBLEM, f"{matrix.user} is refused: {_said(told)}", remedy)
        return
    try:
        yield (
            made,
            Line("login", State.OK, f"{matrix.user} by password; the first `hearth run` makes a device"),
        )
    finally:
        await api.call("POST", "/_matrix/client/v3/logout", {}, made)


async def _signed(api: _Api, matrix: MatrixSettings, token: str, device: str | None) -> Line:
    """Whether the device is signed by the account's identity, as clients of 2026 ask (MSC4153)."""
    user = matrix.user
    _, told = await api.call("POST", "/_matrix/client/v3/keys/query", {"device_keys": {user: []}}, token)
    master, signing = (_inner(told, f"{usage}_keys", user) for usage in ("master", "self_signing"))
    if not master or not signing:
        return Line("cross-signing", State.NOTE, "not set up yet", "the first `hearth run` does it")
    if device is None:
        return Line("cross-signing", State.NOTE, "the account has keys", "the first `hearth run` uses them")
    made = _inner(told, "device_keys", user, device)
    by_master = any(is_signed_by(signing, user, key) for key in _inner(master, "keys").values())
    if by_master and any(is_signed_by(made, user, key) for key in _inner(signing, "keys").values()):
        return Line("cross-signing", State.OK, f"device {device} is signed by the account's identity")
    return Line(
        "cross-signing",
        State.PROBLEM,
        f"device {device} is not signed: other people's clients will ignore it",
        f"give {MATRIX_PASSWORD} and restart `hearth run`; its log says why where that is not enough",
    )


def session_token(settings: Settings) -> str | None:
    """The access token of the session that `hearth run` keeps; None before its first login."""
    matrix = settings.need_matrix()
    try:
        kept = json.loads((settings.matrix_store / "session.json").read_text("utf-8"))
        ours = (kept["homeserver"], kept["user_id"]) == (matrix.homeserver, matrix.user)
        return str(kept["access_token"]) if ours else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        path = settings.matrix_store / "session.json"
        raise Misconfigured(str(path), f"is damaged ({error}); delete it to log in anew") from error


def _inner(value: dict[str, Any], *path: str) -> dict[str, Any]:
    for key in path:
        inner = value.get(key)
        value = inner if isinstance(inner, dict) else {}
    return value


def _said(told: dict[str, Any]) -> str:
    return f"{told.get('errcode', 'no code')} {told.get('error', '')}".strip()
