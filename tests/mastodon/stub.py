"""An open client without a network, for what happens in hours: the instance's side in a few lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.mastodon.limits import Limits
from bridge.platform import Refused
from tests.mastodon.posts import HOME, ME

if TYPE_CHECKING:
    from bridge.platform import PlatformError
    from bridge.schedule import Clock


class StubClient:
    """`notifications` (oldest first), `posts` and `contexts` are what there is; `down` is raised."""

    url = HOME.url
    token = "token-1"

    def __init__(self, clock: Clock) -> None:
        self.me, self.instance, self.limits = ME, HOME, Limits()
        self.notifications: list[dict[str, Any]] = []
        self.posts: dict[str, dict[str, Any]] = {}
        self.contexts: dict[str, list[dict[str, Any]]] = {}
        self.down: PlatformError | None = None
        self.opening: PlatformError | None = None
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.ignores_min_id = False
        self._clock = clock

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.calls)

    def server_now(self) -> int:
        return self._clock.now()

    async def open(self) -> None:
        self.calls.append(("open", {}))
        if self.opening is not None:
            raise self.opening

    async def call(self, method: str, *args: Any, **query: Any) -> Any:
        self.calls.append((method, query))
        if self.down is not None:
            raise self.down
        self.limits.requested(self._clock.now())
        if method == "status_context":
            if args[0] not in self.contexts:
                raise Refused("404", "gone")
            return {"ancestors": self.contexts[args[0]], "descendants": []}
        assert method == "notifications"
        return self._page(**query)

    def _page(
        self, *, limit: int, min_id: str = "", max_id: str = "", types: list[str] | None = None
    ) -> list[dict[str, Any]]:
        there = [one for one in self.notifications if types is None or one["type"] in types]
        ids = [one["id"] for one in self.notifications]
        if min_id and not self.ignores_min_id:
            there = [one for one in there if ids.index(one["id"]) > ids.index(min_id)][:limit]
        elif max_id:
            there = [one for one in there if ids.index(one["id"]) < ids.index(max_id)][-limit:]
        return there[-limit:][::-1]

    async def status(self, status_id: str, *, max_age: float = 0.0) -> dict[str, Any] | None:
        self.calls.append(("status", {"id": status_id}))
        if self.down is not None:
            raise self.down
        return self.posts.get(status_id)
