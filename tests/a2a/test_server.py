"""Being asked over HTTPS, by a2a-sdk's own client and by strangers: conformance, and who is let in."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.client.client import Client, ClientCallContext
from a2a.client.service_parameters import ServiceParametersFactory, with_a2a_extensions
from a2a.types import (
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Role,
    SendMessageRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import (
    A2AError,
    ExtensionSupportRequiredError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
)
from a2a.utils.signing import InvalidSignaturesError, create_signature_verifier
from cryptography.hazmat.primitives import serialization

from bridge.a2a.beside import Peer
from bridge.a2a.card import envelopes_on
from bridge.a2a.gate import LARGEST_BODY
from bridge.a2a.wire import ENVELOPE, EXTENSION, message_of
from bridge.link import bodies
from bridge.link.bodies import Kind
from bridge.link.envelope import LARGEST, seal
from bridge.link.key import public_text
from bridge.link.opening import Asked, Known, Opened, open_envelope
from policies.classes import Class
from policies.grant import GRANT_TYPE
from tests.a2a.conftest import OTHER_TOKEN, TOKEN, VILLAGE, House
from tests.bridge.city import CITY, CITY_KEY, FAMILY, FAMILY_KEY, OTHER_KEY
from tests.bridge.family import HOUR, said
from tests.fakes.process import Parrot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.link.envelope import Sealed

    Family = Callable[..., Awaitable[House]]
    Http = Callable[..., httpx.AsyncClient]

WON = "Who won?"
NUMBER = iter(range(1, 1_000_000))


def name() -> str:
    return f"{next(NUMBER):022d}"


def sealed(house: House, body: Any, id_: str, **fields: Any) -> Sealed:
    """What the city signs for the family; `fields` of the header may be wrong."""
    now = house.server.now()
    usual: dict[str, Any] = {"key": CITY_KEY, "sender": CITY, "to": FAMILY, "iat": now, "exp": now + HOUR}
    return seal(body, id=id_, **(usual | fields))


def ask(house: House, words: str = WON, cls: Class = Class.GENERAL, **fields: Any) -> Sealed:
    id_ = fields.pop("id", None) or name()
    body = bodies.Ask(
        message_id=id_,
        context_id="a" * 26,
        parts=(bodies.Part(text=words),),
        metadata=bodies.About(asker="b" * 26, cls=cls, share=bodies.Share.ANSWERS),
    )
    return sealed(house, body, id_, room_ref="a" * 26, **fields)


def context(*extensions: str) -> ClientCallContext:
    return ClientCallContext(
        service_parameters=ServiceParametersFactory.create([with_a2a_extensions(list(extensions))])
    )


OURS = context(EXTENSION)


async def speak(house: House, http: httpx.AsyncClient) -> Client:
    """a2a-sdk's client, from the card as it finds it."""
    return await ClientFactory(ClientConfig(streaming=False, httpx_client=http)).create_from_url(house.url)


async def send(client: Client, text: str, **more: Any) -> Task | Message:
    message = message_of(text)
    return await send_message(client, message, **more)


async def send_message(client: Client, message: Message, how: ClientCallContext = OURS) -> Task | Message:
    (event,) = [one async for one in client.send_message(SendMessageRequest(message=message), context=how)]
    return event.task if event.HasField("task") else event.message


async def over(client: Client, task: str) -> Task:
    """The task, once it is over."""
    async with asyncio.timeout(15):
        while True:
            found = await client.get_task(GetTaskRequest(id=task), context=OURS)
            if found.status.state != TaskState.TASK_STATE_WORKING:
                return found
            await asyncio.sleep(0.02)


def opened(house: House, text: str, *asks: Sealed) -> Opened:
    """What the family signed, as the city believes it."""
    known = Known(
        us=CITY,
        keys={FAMILY: public_text(FAMILY_KEY)},
        asks={
            one.signed.digest: Asked(one.signed.header.id, one.signed.header.room_ref, FAMILY, ours=True)
            for one in asks
        },
    )
    found = open_envelope(text, known, sender=FAMILY, now=house.server.now())
    assert isinstance(found, Opened), found
    return found


# -- conformance: a2a-sdk's client against us ------------------------------------------------------


async def test_a_question_is_a_task_that_is_completed(family: Family, http: Http) -> None:
    """Sent, worked on, fetched: an A2A task with its answer, and the signed envelope in its metadata."""
    house = await family(serving=True)
    client = await speak(house, http(TOKEN))
    asked = ask(house)
    task = await send(client, asked.text)
    assert isinstance(task, Task)
    assert task.id == asked.signed.header.id
    done = await over(client, task.id)
    assert done.status.state == TaskState.TASK_STATE_COMPLETED
    assert "yes, and gladly" in done.status.message.parts[0].text
    reply = opened(house, done.metadata[ENVELOPE], asked)
    assert reply.header.kind is Kind.ANSWER
    assert reply.body.status.message.parts[0].text == done.status.message.parts[0].text  # type: ignore[union-attr]
    listed = await client.list_tasks(ListTasksRequest(), context=OURS)
    assert [one.id for one in listed.tasks] == [task.id]


async def test_the_card_is_signed_with_the_key_that_grants_pin(family: Family, http: Http) -> None:
    """By anybody's JOSE library, with a key that the reader had before; a changed card does not pass."""
    house = await family(serving=True)
    client = await speak(house, http())
    card = client._card  # type: ignore[attr-defined] # what it found
    pem = FAMILY_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    check = create_signature_verifier(lambda _kid, _jku: pem, ["EdDSA"])
    check(card)
    assert card.capabilities.extensions[0].required
    card.description += " And more."
    with pytest.raises(InvalidSignaturesError):
        check(card)


async def test_what_is_sent_twice_is_asked_once(family: Family, http: Http) -> None:
    """A client that heard nothing sends again: the same task, one turn, one answer."""
    house = await family(serving=True)
    client = await speak(house, http(TOKEN))
    asked = ask(house)
    tasks = await asyncio.gather(*(send(client, asked.text) for _ in range(4)))
    assert {task.id for task in tasks if isinstance(task, Task)} == {asked.signed.header.id}
    await over(client, asked.signed.header.id)
    again = await send(client, asked.text)
    assert isinstance(again, Task)
    assert again.status.state == TaskState.TASK_STATE_COMPLETED
    assert len(house.runs) == 1


async def test_a_card_and_a_grant_are_told_to_whom_they_are_for(family: Family, http: Http) -> None:
    """On the extended card, signed; the city's own are taken and shown at home."""
    house = await family(serving=True)
    client = await speak(house, http(TOKEN))
    card = bodies.Card(
        name="City", description="", key=public_text(CITY_KEY), capabilities=("answers",), languages=("en",)
    )
    id_ = name()
    taken = await send(client, sealed(house, card, id_).text)
    assert isinstance(taken, Message)
    await house.until(lambda: "The key of `City`" in said(house.server))
    async with asyncio.timeout(15):
        kinds: set[Kind] = set()
        while kinds != {Kind.CARD, Kind.GRANT}:
            shown = await client.get_extended_agent_card(GetExtendedAgentCardRequest(), context=OURS)
            kinds = {opened(house, text).header.kind for text in envelopes_on(shown)}
    public = (await http().get(f"{house.url}/.well-known/agent-card.json")).text
    assert "envelopes" not in public


async def test_who_asked_can_cancel(family: Family, http: Http) -> None:
    """By a signed envelope; what is over, or was never asked, cannot be."""
    house = await family(serving=True)
    assert isinstance(house.process.bot, Parrot)
    house.process.bot.pace = 30.0
    client = await speak(house, http(TOKEN))
    asked = ask(house)
    header = asked.signed.header
    await send(client, asked.text)
    cancel = sealed(
        house, bodies.Cancel(id=header.id), name(), room_ref=header.room_ref, prev=asked.signed.digest
    )
    for metadata in ({}, {ENVELOPE: "{}"}, {ENVELOPE: asked.text}):
        with pytest.raises(InvalidParamsError):
            await client.cancel_task(CancelTaskRequest(id=header.id, metadata=metadata), context=OURS)
    request = CancelTaskRequest(id=header.id, metadata={ENVELOPE: cancel.text})
    done = await client.cancel_task(request, context=OURS)
    assert done.status.state == TaskState.TASK_STATE_CANCELED
    with pytest.raises(TaskNotCancelableError):
        await client.cancel_task(request, context=OURS)
    with pytest.raises(TaskNotFoundError):
        await client.cancel_task(CancelTaskRequest(id="x", metadata={ENVELOPE: cancel.text}), context=OURS)


async def test_what_is_not_offered_says_so(family: Family, http: Http) -> None:
    """Streams and webhooks: an error of A2A's own, and nothing is called."""
    house = await family(serving=True)
    plain = http(TOKEN, **{"A2A-Extensions": EXTENSION})

    async def code(method: str, **params: Any) -> int:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        told = (await plain.post(house.url, json=body)).json()
        return int(told["error"]["code"])

    message = {"messageId": "x", "role": "ROLE_USER", "parts": [{"text": "x"}]}
    assert await code("SendStreamingMessage", message=message) == -32004
    assert await code("SubscribeToTask", id="x") == -32004
    hook = {"taskId": "x", "url": "http://127.0.0.1:1/"}
    assert await code("CreateTaskPushNotificationConfig", **hook) == -32003
    assert await code("GetTaskPushNotificationConfig", taskId="x", id="y") == -32003
    assert await code("ListTaskPushNotificationConfigs", taskId="x") == -32003
    assert await code("DeleteTaskPushNotificationConfig", taskId="x", id="y") == -32003
    assert await code("Nothing") == -32601


# -- who is let in ---------------------------------------------------------------------------------


async def test_nobody_is_answered_without_a_token(family: Family, http: Http) -> None:
    """No token, a wrong one, a half of one, another scheme: 401, and nothing is admitted."""
    house = await family(serving=True)
    body = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}}
    for given in ("", "Bearer", "Bearer wrong", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}"):
        answer = await http(**({"Authorization": given} if given else {})).post(house.url, json=body)
        assert answer.status_code == 401, given
        assert answer.headers["www-authenticate"] == "Bearer"
    assert (await http(TOKEN).get(house.url)).status_code == 404
    assert (await http(TOKEN).post(f"{house.url}/other", json=body)).status_code == 404


async def test_a_peer_sees_what_it_asked_and_nothing_else(family: Family, http: Http) -> None:
    """A task of the city is not there for the village, which has a token of its own."""
    tokens = {CITY: TOKEN, VILLAGE: OTHER_TOKEN}
    house = await family(Peer(CITY, None), Peer(VILLAGE, None), serving=True, tokens=tokens)
    city, village = await speak(house, http(TOKEN)), await speak(house, http(OTHER_TOKEN))
    asked = ask(house)
    await send(city, asked.text)
    await over(city, asked.signed.header.id)
    with pytest.raises(TaskNotFoundError):
        await village.get_task(GetTaskRequest(id=asked.signed.header.id), context=OURS)
    assert not (await village.list_tasks(ListTasksRequest(), context=OURS)).tasks
    with pytest.raises(InvalidParamsError):  # the city's envelope, sent by the village
        await send(village, ask(house).text)


async def test_an_envelope_is_needed_and_believed(family: Family, http: Http) -> None:
    """Without our extension, without an envelope, with another's key, changed, or for somebody else."""
    house = await family(serving=True)
    client = await speak(house, http(TOKEN))
    good = ask(house)
    with pytest.raises(ExtensionSupportRequiredError):
        await send(client, good.text, how=context("https://example.org/other"))
    plain = Message(message_id="x", role=Role.ROLE_USER)
    plain.parts.add(text=WON)
    changed = message_of(good.text)
    changed.parts[0].text = "Who lost?"
    for message in (plain, changed):
        with pytest.raises(InvalidParamsError):
            await send_message(client, message)
    for wrong in (
        ask(house, key=OTHER_KEY).text,
        ask(house, to="bot:else.example").text,
        ask(house, iat=house.server.now() + HOUR, exp=house.server.now() + 2 * HOUR).text,
        good.text.replace(WON, "Who lost"),
    ):
        with pytest.raises(A2AError):
            await send(client, wrong)
    assert not house.runs


async def test_what_the_rules_refuse_is_a_task_that_is_rejected(family: Family, http: Http) -> None:
    """With the rule, signed; and no model runs."""
    house = await family(serving=True)
    client = await speak(house, http(TOKEN))
    asked = ask(house, cls=Class.HEALTH)
    task = await send(client, asked.text)
    assert isinstance(task, Task)
    done = await over(client, task.id)
    assert done.status.state == TaskState.TASK_STATE_REJECTED
    assert opened(house, done.metadata[ENVELOPE], asked).body.metadata.code == "class_stays"  # type: ignore[union-attr]
    assert not house.runs


async def test_an_answer_is_fetched_only_while_it_may_go(family: Family, http: Http) -> None:
    """The grant ends, or the peer is refused, between the answer and its fetching: it is not there."""
    house = await family(serving=True)
    client = await speak(house, http(TOKEN))
    asked = ask(house)
    await send(client, asked.text)
    await over(client, asked.signed.header.id)
    journal, account = house.process.journal, house.process.platform.account
    await journal.refuse_peer(account, CITY, house.server.now(), refuse=True)
    with pytest.raises(TaskNotFoundError):
        await client.get_task(GetTaskRequest(id=asked.signed.header.id), context=OURS)
    await journal.refuse_peer(account, CITY, house.server.now(), refuse=False)
    await over(client, asked.signed.header.id)
    house.server.put_state(GRANT_TYPE, "{}", state_key=CITY)
    await house.process.idle()
    with pytest.raises(TaskNotFoundError):
        await client.get_task(GetTaskRequest(id=asked.signed.header.id), context=OURS)


# -- bad input -------------------------------------------------------------------------------------


async def test_too_much_is_not_read(family: Family, http: Http) -> None:
    """5 MB with and without a length, and an envelope over its limit: an error, and nothing is kept."""
    house = await family(serving=True)
    huge = b'{"jsonrpc": "2.0", "params": "' + b"x" * 5_000_000

    async def in_pieces() -> Any:
        for start in range(0, len(huge), 65_536):
            yield huge[start : start + 65_536]

    for content in (huge, in_pieces()):
        try:
            answer = await http(TOKEN).post(house.url, content=content)
        except httpx.TransportError:
            continue  # hung up on while it was still sending
        assert answer.status_code == 413
    assert len(huge) > LARGEST_BODY
    message = message_of(ask(house).text)
    message.metadata.update({ENVELOPE: "x" * (LARGEST + 1)})
    with pytest.raises(InvalidParamsError):
        await send_message(await speak(house, http(TOKEN)), message)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"[" * 50_000, b"\xff\xfe", b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","id":true,"method":"GetTask"}',
        b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":7}}',
        b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"\\ud800"}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    ],
)  # fmt: skip
async def test_garbage_is_an_error(family: Family, http: Http, body: bytes) -> None:
    """An error of JSON-RPC, never a 500 without words, and the server goes on."""
    house = await family(serving=True)
    answer = await http(TOKEN, **{"A2A-Extensions": EXTENSION}).post(house.url, content=body)
    assert answer.status_code == 200
    assert answer.json()["error"]["code"] < 0
    assert isinstance(await send(await speak(house, http(TOKEN)), ask(house).text), Task)


async def test_no_words_are_logged(
    family: Family, http: Http, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither by us nor by the libraries, whatever is wrong with a request."""
    caplog.set_level("INFO")
    house = await family(serving=True)
    words = "My secret garden"
    client = await speak(house, http(TOKEN))
    await send(client, ask(house, words).text)
    params = {"message": {"messageId": words, "parts": [{"text": 7, "raw": words}]}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
    answer = await http(TOKEN).post(house.url, content=json.dumps(body).encode())
    assert answer.status_code == 200
    captured = capsys.readouterr()
    assert words not in caplog.text + captured.out + captured.err
