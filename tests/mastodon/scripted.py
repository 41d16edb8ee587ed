"""A server that says what a test tells it to: for answers that no instance gives on a good day."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Answer = web.StreamResponse | Callable[[web.Request], Awaitable[web.StreamResponse]]

# https://docs.joinmastodon.org/entities/Instance/ (shortened)
INSTANCE = {
    "domain": "home.example",
    "version": "4.4.0",
    "source_url": "https://github.com/mastodon/mastodon",
    "api_versions": {"mastodon": 6},
    "configuration": {"statuses": {"max_characters": 500, "characters_reserved_per_url": 23}},
}
# https://docs.joinmastodon.org/entities/Account/#CredentialAccount (shortened)
ACCOUNT = {"id": "1", "username": "hearth", "acct": "hearth", "bot": True, "display_name": "Hearth"}


class Scripted:
    """`answers[path]` is given once each, the last one for ever; `seen` are the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, deque[Answer]] = {}
        self.seen: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.on("/api/v2/instance", json(INSTANCE))
        self.on("/api/v1/accounts/verify_credentials", json(ACCOUNT))

    def on(self, path: str, *answers: Answer) -> None:
        self.answers[path] = deque(answers)

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.seen]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        query = {key: request.query.getall(key) for key in request.query}
        self.seen.append((request.path, query, dict(request.headers)))
        queue = self.answers.get(request.path)
        if not queue:
            return web.json_response({"error": "Record not found"}, status=404)
        answer = queue[0] if len(queue) == 1 else queue.popleft()
        if callable(answer):
            return await answer(request)
        assert isinstance(answer, web.Response)
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)


def json(body: object, status: int = 200, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response(body, status=status, headers=named)


def html(status: int, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(
        text="<h1>someone's private words</h1>", status=status, content_type="text/html", headers=named
    )
