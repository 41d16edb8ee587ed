"""One account on one instance: Mastodon.py in threads, one request for one call.

    call() --- budget --- thread: Mastodon.py on a session of ours --- answer, headers ---> limits, clock
    status() -- at once; those that come meanwhile --> one GET /api/v1/statuses?id[]=  (at most 20 ids)

Promises: never two threads on one Mastodon object; no request beside the one that was asked for
(`requests` counts them); what comes back is the JSON as it was sent, ids as strings and times as
ISO 8601; every failure is one of the four families, without the server's words in it. Refuses to let
Mastodon.py ask for the instance's version: it recurses until the stack ends where that cannot be
read (halcy/Mastodon.py#450), unless it is given a version *and* a check mode.

Source: https://docs.joinmastodon.org/methods/instance/, /methods/accounts/#verify_credentials,
/methods/statuses/#index.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import requests
from mastodon import Mastodon
from mastodon.errors import MastodonError

from bridge.mastodon.errors import FORBIDDEN, Answer, family, of_answer
from bridge.mastodon.instance import parse_instance
from bridge.mastodon.limits import Limits
from bridge.mastodon.outage import Outage
from bridge.mastodon.wire import Told, Wire
from bridge.platform import Broken, Misconfigured, PlatformError, Refused, Retryable

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from bridge.mastodon.instance import Instance
    from bridge.schedule import Clock

MANY: Final = 20
"""Statuses in one request: the most that Mastodon takes."""
REMEMBERED: Final = 1000
"""Statuses that are kept for a second look."""
THREADS: Final = 3

_VERSION: Final = "99.0.0"
"""What Mastodon.py is told: what an older server lacks, it says itself (404)."""
_AGENT: Final = "Hearth"
_GONE: Final = frozenset({"404", "410"})
_BAD_REQUEST: Final = 400
_CLIENT_ERROR: Final = range(400, 500)
_PASSING: Final = frozenset({401, 403, 408, 425, 429})
_LIMITED: Final = 429
_LIMITED_WAIT: Final = 60.0

_Waiting = dict[str, list[asyncio.Future[dict[str, Any] | None]]]
"""Who waits for which status."""


@dataclass(frozen=True, slots=True)
class Me:
    """The account whose token this is."""

    id: str
    username: str
    address: str
    """`@name@domain`."""
    is_bot: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one attempt in a thread gave: the JSON, or the error."""

    body: Any
    error: PlatformError | None
    answer: Answer
    told: Told


@dataclass(frozen=True, slots=True)
class _Seen:
    """A status as it was at `at` (ms); None: it was gone."""

    at: int
    status: dict[str, Any] | None


class Client:
    """One account on one instance. `url` is the base of its API, `token` an OAuth access token.

    `timeout` (seconds) is for the connection and for each wait for data; a whole answer may take three.
    """

    me: Me

    def __init__(
        self, url: str, token: str, *, clock: Clock, rng: random.Random, timeout: float = 15.0
    ) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self.instance: Instance = parse_instance(self.url, {})
        """What the instance said at `open`; defaults before."""
        self.limits = Limits()
        self._outage = Outage()
        self.requests = 0
        self._clock = clock
        self._rng = rng
        self._timeout = timeout
        self._ahead = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mastodon")
        self._own = threading.local()
        self._wires: list[Wire] = []
        self._counting = threading.Lock()
        self._closed = False
        self._known: dict[str, _Seen] = {}
        self._waiting: _Waiting = {}
        self._reader: asyncio.Task[None] | None = None

    # -- start and stop ----------------------------------------------------------------------------

    async def open(self) -> None:
        """Read the instance's document, then whose token this is; again, where it was done before.

        Raises `Misconfigured` where the operator must act (bad token, a base that redirects or is no
        Mastodon API), `Retryable` where the instance does not answer.
        """
        self.instance = parse_instance(self.url, await self._document())
        what = "account_verify_credentials"
        try:
            account = await self._call(what, lambda api: api.account_verify_credentials(), verifying=True)
        except Refused:
            raise Misconfigured("mastodon", f"{what}: {FORBIDDEN}") from None
        try:
            username = str(account["username"])
            self.me = Me(
                id=str(account["id"]),
                username=username,
                address=f"@{username}@{self.instance.domain}",
                is_bot=account.get("bot") is True,
            )
        except (KeyError, TypeError, AttributeError):
            raise Retryable(f"{what}: the answer is no account") from None

    async def _document(self) -> dict[str, Any]:
        """The document of version 2, or of version 1 where there is none.

        With the token, because some instances show nothing without; then without, because Takahe says no
        to everything that carries a bad one, and whose token it is, is asked next.
        """
        refused: Answer | None = None
        for version, signed in ((2, True), (1, True), (2, False), (1, False)):
            if not signed and refused is not None and refused.status != _BAD_REQUEST:
                break
            path = f"/api/v{version}/instance"
            outcome = await self._run(path, partial(self._get, path, signed=signed), verifying=True)
            status = outcome.answer.status
            if isinstance(outcome.body, dict) and outcome.error is None:
                return outcome.body
            if status not in _CLIENT_ERROR or status in _PASSING:
                raise outcome.error or Retryable(f"{path}: not JSON")
            refused = outcome.answer
        said = f"{self.url} answers {refused.status if refused else 'nothing'} to {path}"
        raise Misconfigured("mastodon", f"{said}: no Mastodon API there; set the url of the instance's API")

    def _get(self, path: str, wire: Wire, *, signed: bool) -> None:
        """Ask without Mastodon.py, whose reading of this document is the one not to be used."""
        headers = {"User-Agent": _AGENT} | ({"Authorization": f"Bearer {self.token}"} if signed else {})
        # `auth` that does nothing keeps a .netrc from replacing the header.
        wire.get(self.url + path, headers=headers, timeout=self._timeout, auth=lambda request: request)

    async def close(self) -> None:
        """Let go of the connections; requests under way end by their own deadline."""
        self._closed = True
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        _settle(self._waiting, Retryable("the client is closed"))
        self._waiting = {}
        self._threads.shutdown(wait=False, cancel_futures=True)
        for wire in self._wires:
            wire.close()

    # -- one call, one request ---------------------------------------------------------------------

    async def call(self, method: str, *args: Any, posts: bool = False, **kwargs: Any) -> Any:
        """Run one method of Mastodon.py; the JSON of the answer (dicts, lists, strings; nothing parsed).

        `posts`: it makes something that others see; a timeout or a 5xx is then `Unclear`. Raises one
        of the four families; a spent request budget is `Retryable(after)` without a request.
        """
        return await self._call(method, lambda api: getattr(api, method)(*args, **kwargs), posts=posts)

    def server_now(self) -> int:
        """Milliseconds since the epoch by the instance's clock; by ours where it does not tell its own."""
        return self._clock.now() + self._ahead

    async def _call(
        self, what: str, work: Callable[[Mastodon], object], *, posts: bool = False, verifying: bool = False
    ) -> Any:
        outcome = await self._run(what, lambda wire: work(self._api(wire)), posts=posts, verifying=verifying)
        if outcome.error is not None:
            raise outcome.error
        return outcome.body

    async def _run(
        self, what: str, work: Callable[[Wire], object], *, posts: bool = False, verifying: bool = False
    ) -> _Outcome:
        if self._closed:
            raise Retryable(f"{what}: the client is closed")
        now = self._clock.now()
        wait = self.limits.before_request(now)
        if wait > 0:
            raise Retryable(f"{what}: the request budget is spent", wait)
        wait = self._outage.before_request(now)
        if wait > 0:
            raise Retryable(f"{what}: the instance does not answer", wait)
        failures = self._outage.failures
        self.limits.requested(now)
        loop = asyncio.get_running_loop()
        outcome = await loop.run_in_executor(
            self._threads, lambda: self._attempt(what, work, posts=posts, verifying=verifying)
        )
        self._learn(outcome, posts=posts)
        if _is_outage(outcome):
            self._outage.failed(failures, self._clock.now(), self._rng.random())
        else:
            self._outage.answered()
        return outcome

    def _learn(self, outcome: _Outcome, *, posts: bool) -> None:
        """Take over the server's clock and what it says of its limits."""
        now, told = self._clock.now(), outcome.told
        if told.date is not None:
            self._ahead = told.date - now
        # In the answer to a post Mastodon speaks of the statuses, others of the requests.
        posting = posts and self.instance.software == "mastodon"
        if told.remaining is not None and told.reset is not None:
            self.limits.told(told.remaining, told.reset, now, posting=posting)
        if outcome.answer.status == _LIMITED:
            self.limits.told(0, outcome.answer.wait or _LIMITED_WAIT, now, posting=posting)

    # -- in the thread -----------------------------------------------------------------------------

    def _attempt(
        self, what: str, work: Callable[[Wire], object], *, posts: bool, verifying: bool
    ) -> _Outcome:
        """One request. An error is returned, not raised: its cause may quote what people wrote."""
        wire: Wire | None = getattr(self._own, "wire", None)
        if wire is None:
            wire = self._own.wire = Wire(self._timeout, self._count)
            self._wires.append(wire)
        wire.begin()
        error: PlatformError | None = None
        try:
            work(wire)
        except MastodonError as failure:
            error = family(what, failure, self._answer(wire), posts=posts, verifying=verifying)
        except requests.RequestException:
            pass  # the document, which is read without Mastodon.py; the answer says it
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as failure:
            # Where an answer came, Mastodon.py has stumbled over its shape, which is of no interest.
            if wire.answer.status is None:
                error = Broken(f"{what}: {type(failure).__name__}")
        answer = self._answer(wire)
        if error is None and not answer.is_good:
            error = of_answer(what, answer, posts=posts, verifying=verifying)
        return _Outcome(None if error else wire.body, error, answer, wire.told)

    def _answer(self, wire: Wire) -> Answer:
        return replace(wire.answer, speaks_html=self.instance.software == "takahe")

    def _api(self, wire: Wire) -> Mastodon:
        api: Mastodon | None = getattr(self._own, "api", None)
        if api is None:
            api = Mastodon(
                api_base_url=self.url,
                session=wire,
                request_timeout=self._timeout,
                ratelimit_method="throw",
                mastodon_version=_VERSION,
                version_check_mode="created",
                user_agent=_AGENT,
            )
            api.access_token = self.token  # the constructor would open a file of that name
            self._own.api = api
        return api

    def _count(self) -> None:
        with self._counting:
            self.requests += 1

    # -- statuses ----------------------------------------------------------------------------------

    async def status(self, status_id: str, *, max_age: float = 0.0) -> dict[str, Any] | None:
        """One status as it is now, or was at most `max_age` seconds ago; None where it is gone.

        Gone is what cannot be seen any more, for whatever reason. Raises as `call` does.
        """
        known = self._known.get(status_id)
        if known is not None and max_age > 0 and 0 <= self._clock.now() - known.at <= max_age * 1000:
            return known.status
        if self.instance.reads_many:
            return await self._read_together(status_id)
        try:
            status = await self.call("status", status_id)
        except Refused as error:
            if error.rule not in _GONE:
                raise
            status = None
        return self._remember(status_id, status)

    def known(self, status_id: str) -> dict[str, Any] | None:
        """A status as it was when it was last read; None where that was long ago, or never."""
        seen = self._known.get(status_id)
        return None if seen is None else seen.status

    def forget(self, status_id: str) -> None:
        """Keep no copy of a status: it is gone, or has changed."""
        self._known.pop(status_id, None)

    async def _read_together(self, status_id: str) -> dict[str, Any] | None:
        future: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(status_id, []).append(future)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_waiting())
        return await future

    async def _read_waiting(self) -> None:
        try:
            while self._waiting:
                some = list(self._waiting)[:MANY]
                await self._read_many({one: self._waiting.pop(one) for one in some})
        finally:
            self._reader = None

    async def _read_many(self, wanted: _Waiting) -> None:
        try:
            answer = await self.call("statuses", list(wanted))
            if not isinstance(answer, list):
                raise Retryable("statuses: the answer is no list")
            found = {str(one["id"]): one for one in answer if isinstance(one, dict) and "id" in one}
            for status_id, futures in wanted.items():
                status = self._remember(status_id, found.get(status_id))
                for future in futures:
                    if not future.done():
                        future.set_result(status)
        except PlatformError as error:
            _settle(wanted, error)
        finally:
            _settle(wanted, Retryable("statuses: not read"))  # only those that nothing was said to

    def _remember(self, status_id: str, status: dict[str, Any] | None) -> dict[str, Any] | None:
        self._known.pop(status_id, None)
        self._known[status_id] = _Seen(self._clock.now(), status)
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return status


def _settle(waiting: _Waiting, error: PlatformError) -> None:
    """Tell all that still wait what went wrong."""
    for futures in waiting.values():
        for future in futures:
            if not future.done():
                future.set_exception(error)


def _is_outage(outcome: _Outcome) -> bool:
    """Whether nobody answered for the instance, or a proxy did; a limit is an answer."""
    passing = outcome.answer.status in _PASSING and outcome.answer.is_json
    return isinstance(outcome.error, Retryable) and not passing
