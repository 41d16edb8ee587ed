"""Two accounts on a server that speaks Mastodon's API, over plain HTTP and nothing else.

Promises: what they post is deleted again, and what they change about themselves is put back. The server
is given the time that it may take: what is posted is looked for until it is there, with a deadline.
Knows nothing of the double beyond its address and its tokens.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
import wave
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import aiohttp
import pytest

from bridge.mastodon.instance import READS_MANY_SINCE, parse_instance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from bridge.mastodon.instance import Instance

Json = dict[str, Any]
T = TypeVar("T")

OK = 200
GONE = (404, 410)
POLICY = "/v2/notifications/policy"
ACCEPT = "accept"
FILTERS = ("for_private_mentions", "for_not_following")
PATIENCE = 20.0
"""Seconds until what was posted is there: servers tell of it in the background."""
_PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any
    """JSON as it was sent; None where it is not JSON."""


@dataclass
class Person:
    """Who asks: an account with its token, or anybody without one."""

    session: aiohttp.ClientSession
    url: str
    token: str = ""
    id: str = ""
    acct: str = ""
    posted: list[str] = field(default_factory=list)
    """What stands and is to be deleted."""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Sequence[tuple[str, str]] = (),
        key: str | None = None,
        form: aiohttp.FormData | None = None,
    ) -> Answer:
        """One request to `/api{path}`; `key` is the idempotency key, `form` instead of JSON."""
        headers = self.headers | ({} if key is None else {"Idempotency-Key": key})
        async with self.session.request(
            method,
            f"{self.url}/api{path}",
            params=list(query),
            headers=headers,
            json=body,
            data=form,
            allow_redirects=False,
        ) as response:
            is_json = response.content_type == "application/json"
            return Answer(response.status, response.headers, await response.json() if is_json else None)

    def called(self, text: str) -> str:
        """`text` for this account, which its mention delivers."""
        return f"@{self.acct} {text}"

    async def get(self, path: str, **query: str) -> Any:
        """What is at `path`; it is there."""
        answer = await self.ask("GET", path, query=tuple(query.items()))
        assert answer.status == OK, f"{path}: {answer.status} {answer.body}"
        return answer.body

    async def send(self, text: str, *, key: str | None = None, **more: object) -> Answer:
        """Post; a status that comes of it is deleted at the end."""
        asked = {"status": text, "visibility": "unlisted"} | more
        answer = await self.ask("POST", "/v1/statuses", asked, key=key)
        if answer.status == OK and answer.body["id"] not in self.posted:
            self.posted.append(answer.body["id"])
        return answer

    async def post(self, text: str, *, key: str | None = None, **more: object) -> Json:
        answer = await self.send(text, key=key, **more)
        assert answer.status == OK, f"{answer.status} {answer.body}"
        return dict(answer.body)

    async def delete(self, status_id: str) -> Answer:
        answer = await self.ask("DELETE", f"/v1/statuses/{status_id}")
        if answer.status in (OK, *GONE):
            self.posted.remove(status_id)
        return answer

    async def withdraw(self, status_id: str) -> None:
        """Delete, and wait until that is done; some servers do it in the background."""
        answer = await self.delete(status_id)
        assert answer.status == OK, f"{answer.status} {answer.body}"

        async def look() -> bool | None:
            return True if (await self.ask("GET", f"/v1/statuses/{status_id}")).status in GONE else None

        await until(look)

    async def present(self, note: str, *, bot: bool) -> Answer:
        """Set the profile's text and the bot mark, as a form."""
        form = aiohttp.FormData({"note": note, "bot": str(bot).lower()})
        return await self.ask("PATCH", "/v1/accounts/update_credentials", form=form)

    async def mentions(self, **query: str) -> list[Json]:
        """A page of notifications of mentions, as the server orders it."""
        asked = [("types[]", "mention"), *query.items()]
        answer = await self.ask("GET", "/v1/notifications", query=asked)
        assert answer.status == OK, f"{answer.status} {answer.body}"
        return list(answer.body)

    async def hears(self, status_id: str) -> Json:
        """The notification of the mention in this status, once it has come."""

        async def look() -> Json | None:
            told = (one for one in await self.mentions() if one["status"] is not None)
            return next((one for one in told if one["status"]["id"] == status_id), None)

        return await until(look)


@dataclass
class Server:
    """One server with its two accounts. They are this suite's own, and what they do is undone."""

    instance: Instance
    document: Json
    alice: Person
    hearth: Person
    anyone: Person

    @property
    def documented(self) -> bool:
        """Whether the server says that it does as Mastodon does, 4.3 or later."""
        return self.instance.api_version >= READS_MANY_SINCE

    def lacks(self, what: str) -> NoReturn:
        """Other servers may do without something that is documented, and then say so; Mastodon may not."""
        assert not self.documented, what
        pytest.skip(f"{self.instance.software} {self.instance.version}: {what}")

    async def tidy(self) -> None:
        """Delete what was posted; a server limits that too, and then says so here."""
        left = {}
        for person in (self.alice, self.hearth):
            for status_id in tuple(reversed(person.posted)):
                answer = await person.delete(status_id)
                if answer.status not in (OK, *GONE):
                    left[status_id] = answer.status
            person.posted.clear()
        assert not left, f"not deleted, please do it by hand: {left}"


@asynccontextmanager
async def connected(url: str, tokens: Mapping[str, str]) -> AsyncIterator[Server]:
    """The server at `url`, with the accounts behind the tokens of `alice` and `hearth`.

    Strangers may write privately to both while this lasts: since 4.3 the default is that they may not.
    """
    timeout = aiohttp.ClientTimeout(total=30)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=jar) as session:
        anyone = Person(session, url)
        answer = await anyone.ask("GET", "/v2/instance")
        document = await anyone.get("/v1/instance") if answer.status in GONE else answer.body
        assert isinstance(document, dict), f"no instance document: {answer.status}"
        alice, hearth = [await _known(Person(session, url, tokens[name])) for name in ("alice", "hearth")]
        before = [(person, await _let_strangers_in(person)) for person in (alice, hearth)]
        try:
            yield Server(parse_instance(url, document), document, alice, hearth, anyone)
        finally:
            for person, policy in before:
                if policy:
                    await person.ask("PATCH", POLICY, policy)


async def _known(person: Person) -> Person:
    account = await person.get("/v1/accounts/verify_credentials")
    person.id, person.acct = account["id"], account["acct"]
    return person


async def _let_strangers_in(person: Person) -> Json:
    """Returns the policy as it was; empty where the server knows of none, or nobody is kept out.

    https://docs.joinmastodon.org/methods/notifications/#update-the-filtering-policy-for-notifications
    """
    answer = await person.ask("GET", POLICY)
    policy: Json = {} if answer.status in GONE else answer.body
    before = {name: policy[name] for name in FILTERS if policy.get(name, ACCEPT) != ACCEPT}
    if before:
        changed = await person.ask("PATCH", POLICY, dict.fromkeys(before, ACCEPT))
        assert changed.status == OK, f"{changed.status} {changed.body}: scope write:notifications"
    return before


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """What `look` finds, once it finds something; fails after `PATIENCE` seconds."""
    deadline = time.monotonic() + PATIENCE
    pauses = iter(_PAUSES)
    while True:
        found = await look()
        if found is not None:
            return found
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(next(pauses, _PAUSES[-1]))


async def listen(server: Server, opened: asyncio.Event, rung: asyncio.Event) -> None:
    """As our doorbell does; returns where the server has no such stream, or ends it."""
    base, person = server.instance.streaming_url, server.hearth
    if base is None:
        return
    if server.instance.websocket_only:
        url = f"{base}/api/v1/streaming?stream=user:notification"
        async with person.session.ws_connect(url, headers=person.headers) as socket:
            opened.set()
            async for message in socket:
                _ring(rung, message.json()["event"], message.json()["payload"])
        return
    url = f"{base}/api/v1/streaming/user/notification"
    forever = aiohttp.ClientTimeout(total=None)
    async with person.session.get(url, headers=person.headers, timeout=forever) as response:
        if response.status in GONE:
            return
        assert (response.status, response.content_type) == (OK, "text/event-stream")
        opened.set()
        kind = ""
        async for line in response.content:
            name, _, value = line.decode().strip().partition(":")
            if name == "data":
                _ring(rung, kind, value)
            kind = value.strip() if name == "event" else kind


def _ring(rung: asyncio.Event, kind: str, payload: str) -> None:
    assert (kind, json.loads(payload)["type"]) == ("notification", "mention")
    rung.set()


async def happens(listening: asyncio.Task[None], event: asyncio.Event) -> bool:
    """Whether it happened before the listener was done, in time; raises what the listener raised."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait((listening, waiting), timeout=PATIENCE / 3, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if listening.done():
        listening.result()
    return event.is_set()


def beep() -> bytes:
    """A second of a square wave: 16-bit mono at 8 kHz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes((b"\x00\x10" * 10 + b"\x00\xf0" * 10) * 400)
    return file.getvalue()
