"""What Hearth and the tests rely on of a homeserver, held against Synapse and against our double alike."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import nio
import pytest
import pytest_asyncio

from bridge.homeserver import Homeserver
from tests.fakes.homeserver import HomeserverDouble
from tests.human import Human, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

Json = dict[str, Any]


@dataclass
class Server:
    """One of the two, with the same three things to do to it."""

    url: str
    register: Callable[[str], Awaitable[str]]
    stack: AsyncExitStack

    async def human(self, name: str) -> Human:
        user = await self.register(f"{name}-{uuid.uuid4().hex[:8]}")
        return await self.stack.enter_async_context(Human(self.url, user, "pw"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def synapse(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Homeserver]:
    async with Homeserver(tmp_path_factory.mktemp("synapse")) as server:
        yield server


@pytest_asyncio.fixture(params=["double", "synapse"])
async def server(request: pytest.FixtureRequest, synapse: Homeserver) -> AsyncIterator[Server]:
    async with AsyncExitStack() as stack:
        if request.param == "synapse":
            yield Server(synapse.url, lambda name: synapse.register(name, "pw"), stack)
            return
        double = await stack.enter_async_context(HomeserverDouble())

        async def register(name: str) -> str:
            return double.register(name)

        yield Server(double.url, register, stack)


async def call(
    person: Human, method: str, path: str, body: Json | None = None, *, api: str = "client/v3"
) -> tuple[int, Json]:
    token = person.client.access_token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{person.client.homeserver}/_matrix/{api}{path}"
    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
        session.request(method, url, json=body) as answer,
    ):
        return answer.status, await answer.json()


async def two_in_a_room(server: Server, **more: Any) -> tuple[Human, Human, str]:
    ada, ben = await server.human("ada"), await server.human("ben")
    room = await ada.create_room("Family", invite=[ben.user_id], **more)
    await ben.join(room)
    await ada.catch_up()
    return ada, ben, room


async def test_an_encrypted_conversation(server: Server) -> None:
    """Two clients exchange keys and read each other, in both directions."""
    ada, ben, room = await two_in_a_room(server)
    await ada.say(room, "hello", mentions=[])
    heard = await ben.until(room, lambda said: said.text == "hello")
    assert heard.encrypted
    await ben.say(room, "good morning", reply_to=heard.id)
    answer = await ada.until(room, lambda said: said.text == "good morning")
    assert answer.reply_to == heard.id
    assert answer.readable


async def test_one_transaction_id_is_one_event(server: Server) -> None:
    """The same id twice gives the same event, with the first text; another device's is another event."""
    ada, ben, room = await two_in_a_room(server, encrypted=False)
    path = f"/rooms/{quote(room)}/send/m.room.message/once"
    first = await call(ada, "PUT", path, {"msgtype": "m.text", "body": "first"})
    again = await call(ada, "PUT", path, {"msgtype": "m.text", "body": "second"})
    other = await call(ben, "PUT", path, {"msgtype": "m.text", "body": "third"})
    assert first == again
    assert other[1]["event_id"] != first[1]["event_id"]
    assert [said.text for said in await ada.history(room)] == ["first", "third"]


async def test_the_sender_finds_its_transaction_id(server: Server) -> None:
    """Own events carry `unsigned.transaction_id` for the device that sent them, and for no other."""
    ada, ben, room = await two_in_a_room(server, encrypted=False)
    path = f"/rooms/{quote(room)}/send/m.room.message/mine"
    await call(ada, "PUT", path, {"msgtype": "m.text", "body": "first"})
    told = []
    for person in (ada, ben):
        _, page = await call(person, "GET", f"/rooms/{quote(room)}/messages?dir=b&limit=1")
        told.append(page["chunk"][0].get("unsigned", {}).get("transaction_id"))
    assert told == ["mine", None]


async def test_since_may_be_asked_again(server: Server) -> None:
    """The same `since` gives the same events again: a cursor that was not committed loses nothing."""
    ada, ben, room = await two_in_a_room(server, encrypted=False)
    _, before = await call(ben, "GET", "/sync?timeout=0")
    asked = await ada.say(room, "do not lose me")
    for _ in range(2):
        _, told = await call(ben, "GET", f"/sync?timeout=10000&since={before['next_batch']}")
        events = told["rooms"]["join"][room]["timeline"]["events"]
        assert [event["event_id"] for event in events] == [asked]


async def test_a_long_poll_wakes_up(server: Server) -> None:
    """A sync that waits is answered when something is said, long before its timeout."""
    ada, ben, room = await two_in_a_room(server, encrypted=False)
    _, before = await call(ben, "GET", "/sync?timeout=0")
    poll = asyncio.create_task(call(ben, "GET", f"/sync?timeout=25000&since={before['next_batch']}"))
    asked = await ada.say(room, "wake up")
    async with asyncio.timeout(10):
        _, told = await poll
    assert told["rooms"]["join"][room]["timeline"]["events"][-1]["event_id"] == asked


async def test_a_limited_timeline_can_be_filled(server: Server) -> None:
    """More events than the limit: the newest come with `prev_batch`; `/messages` gives the rest."""
    ada, ben, room = await two_in_a_room(server, encrypted=False)
    _, before = await call(ben, "GET", "/sync?timeout=0")
    said = [await ada.say(room, str(number), fresh=False) for number in range(7)]
    chosen = quote('{"room":{"timeline":{"limit":3}}}')
    _, told = await call(ben, "GET", f"/sync?timeout=0&since={before['next_batch']}&filter={chosen}")
    timeline = told["rooms"]["join"][room]["timeline"]
    assert timeline["limited"] is True
    assert [event["event_id"] for event in timeline["events"]] == said[-3:]
    path = f"/rooms/{quote(room)}/messages?dir=b&limit=4&from={timeline['prev_batch']}"
    _, page = await call(ben, "GET", path)
    assert [event["event_id"] for event in page["chunk"]] == said[-4::-1]


async def test_redacted_words_are_gone(server: Server) -> None:
    """After a redaction nobody is told the content, and everybody who redacted it and by which event."""
    ada, ben, room = await two_in_a_room(server, encrypted=False)
    said = await ada.say(room, "a secret")
    status, _ = await call(ben, "PUT", f"/rooms/{quote(room)}/redact/{quote(said)}/no", {})
    assert status == 403
    redaction = await ada.redact(room, said)
    _, event = await call(ben, "GET", f"/rooms/{quote(room)}/event/{quote(said)}")
    assert event["content"] == {}
    assert event["unsigned"]["redacted_because"]["event_id"] == redaction


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_file_is_read_back(server: Server, encrypted: bool) -> None:  # noqa: FBT001 - a case
    """A voice message is fetched by the other one as it was sent, with its type and size told."""
    ada, ben, room = await two_in_a_room(server, encrypted=encrypted)
    voice = bytes(range(256)) * 1000
    sent = await ada.send_voice(room, voice)
    said = await ben.until(room, lambda said: said.id == sent)
    assert (said.encrypted, said.msgtype) == (encrypted, "m.audio")
    assert await ben.read_file(said) == voice
    url = said.content["file"]["url"] if encrypted else said.content["url"]
    answer = expect(await ben.client.download(url), nio.MemoryDownloadResponse)
    assert answer.content_type == ("application/octet-stream" if encrypted else "audio/ogg")
    told = answer.transport_response.headers
    assert told["Content-Length"] == str(len(voice))


async def test_only_who_is_logged_in_has_files(server: Server) -> None:
    """Files are neither given nor taken without a token; what is not there is 404; the limit is told."""
    ada = await server.human("ada")
    where = await ada.put_file(b"voice", "audio/ogg", encrypted=False)
    path = f"/download/{where['url'].removeprefix('mxc://')}"
    _, config = await call(ada, "GET", "/config", api="client/v1/media")
    assert config["m.upload.size"] >= 2**20
    status, body = await call(ada, "GET", f"{path}x", api="client/v1/media")
    assert (status, body["errcode"]) == (404, "M_NOT_FOUND")
    ada.client.access_token = ""
    for method, api, asked in (("GET", "client/v1/media", path), ("POST", "media/v3", "/upload")):
        status, body = await call(ada, method, asked, api=api)
        assert (status, body["errcode"]) == (401, "M_MISSING_TOKEN")


async def test_the_double_limits_files() -> None:
    """A file above the limit is refused, announced or not; one at the limit is not."""

    async def unannounced() -> AsyncIterator[bytes]:
        yield bytes(11)

    async with AsyncExitStack() as stack:
        double = await stack.enter_async_context(HomeserverDouble(max_upload=10))
        ada = await stack.enter_async_context(Human(double.url, double.register("ada"), "pw"))
        headers = {"Authorization": f"Bearer {ada.client.access_token}"}
        timeout = aiohttp.ClientTimeout(total=30)
        session = await stack.enter_async_context(aiohttp.ClientSession(headers=headers, timeout=timeout))
        told = []
        for data in (bytes(10), bytes(11), unannounced()):
            async with session.post(f"{double.url}/_matrix/media/v3/upload", data=data) as answer:
                told.append((answer.status, (await answer.json()).get("errcode")))
        assert told == [(200, None), (413, "M_TOO_LARGE"), (413, "M_TOO_LARGE")]
        assert len(double.media.files) == 1


async def test_a_reaction_is_told_in_clear(server: Server) -> None:
    """An emoji on a message reaches the others as it was sent, in an encrypted room too."""
    ada, ben, room = await two_in_a_room(server)
    said = await ada.say(room, "hello", mentions=[])
    await ben.until(room, lambda one: one.id == said)
    reaction = await ben.react(room, said, "👂")
    _, event = await call(ada, "GET", f"/rooms/{quote(room)}/event/{quote(reaction)}")
    assert event["type"] == "m.reaction"
    assert event["content"]["m.relates_to"] == {"rel_type": "m.annotation", "event_id": said, "key": "👂"}


async def test_strangers_read_and_write_nothing(server: Server) -> None:
    """Who is not in a room is refused; who left is refused from then on."""
    ada, ben, room = await two_in_a_room(server, encrypted=False)
    await ben.leave(room)
    for person in (ben, await server.human("mallory")):
        status, body = await call(
            person, "PUT", f"/rooms/{quote(room)}/send/m.room.message/x", {"msgtype": "m.text", "body": "x"}
        )
        assert (status, body["errcode"]) == (403, "M_FORBIDDEN")
    assert ada.user_id in await ada.joined(room)


async def test_relations_are_paged_and_lose_what_is_redacted(server: Server) -> None:
    """Answers to a poll come oldest first, page by page, each once; those below it apart from them."""
    ada, ben, room = await two_in_a_room(server, encrypted=False)
    poll = await ada.say(room, "a poll, as far as servers care")
    votes = [await ben.vote(room, poll, "yes") for _ in range(4)]
    below = await ben.say(room, "!vote no", thread=poll)
    await ben.redact(room, votes[1])
    path = f"/rooms/{quote(room)}/relations/{quote(poll)}"
    found, token = [], ""
    for _ in range(5):
        _, page = await call(ada, "GET", f"{path}/m.reference?dir=f&limit=2{token}", api="client/v1")
        assert len(page["chunk"]) <= 2
        found += [event["event_id"] for event in page["chunk"]]
        if "next_batch" not in page:
            break
        token = f"&from={quote(page['next_batch'])}"
    assert found == [votes[0], votes[2], votes[3]]
    _, page = await call(ada, "GET", f"{path}/m.thread?dir=b", api="client/v1")
    assert [event["event_id"] for event in page["chunk"]] == [below]


async def test_state_is_told_whole_to_who_asks_for_it(server: Server) -> None:
    """`format=event` gives the event, else the content; there is no state that nobody set."""
    ada = await server.human("ada")
    room = await ada.create_room("Family", encrypted=False)
    path = f"/rooms/{quote(room)}/state/community.hearth.grant/bot:city.example"
    status, body = await call(ada, "GET", f"{path}?format=event")
    assert (status, body["errcode"]) == (404, "M_NOT_FOUND")
    event_id = await ada.put_state(room, "community.hearth.grant", {"v": 1}, "bot:city.example")
    _, content = await call(ada, "GET", path)
    _, event = await call(ada, "GET", f"{path}?format=event")
    assert content == {"v": 1}
    assert (event["event_id"], event["content"]) == (event_id, {"v": 1})
    assert (event["type"], event["state_key"]) == ("community.hearth.grant", "bot:city.example")


async def test_a_token_that_nobody_knows(server: Server) -> None:
    """An unknown token is 401 `M_UNKNOWN_TOKEN`."""
    ada = await server.human("ada")
    ada.client.access_token = "made-up"
    status, body = await call(ada, "GET", "/account/whoami")
    assert (status, body["errcode"]) == (401, "M_UNKNOWN_TOKEN")


async def test_the_double_limits_rates() -> None:
    """Beyond its burst an account gets 429 with `Retry-After`; waiting that long is enough."""
    now = [0.0]
    async with AsyncExitStack() as stack:
        limited = HomeserverDouble(per_second=0.5, burst=2, clock=lambda: now[0])
        double = await stack.enter_async_context(limited)
        ada = await stack.enter_async_context(Human(double.url, double.register("ada"), "pw"))
        room = double.rooms.create_room(ada.user_id, {})
        body = {"msgtype": "m.text", "body": "x"}
        path = f"/rooms/{quote(room)}/send/m.room.message/"
        said = [await call(ada, "PUT", f"{path}{number}", body) for number in range(3)]
        assert [status for status, _ in said] == [200, 200, 429]
        now[0] += said[2][1]["retry_after_ms"] / 1000
        status, _ = await call(ada, "PUT", f"{path}2", body)
        assert status == 200


async def test_keys_are_given_out_once(server: Server) -> None:
    """Each one-time key is claimed by one device only."""
    ada, ben, _ = await two_in_a_room(server)
    claimed = []
    for _ in range(2):
        device = {ben.user_id: {ben.client.device_id: "signed_curve25519"}}
        _, told = await call(ada, "POST", "/keys/claim", {"one_time_keys": device})
        claimed += list(told["one_time_keys"][ben.user_id][ben.client.device_id])
    assert len(set(claimed)) == 2
    assert isinstance(ada.client, nio.AsyncClient)
