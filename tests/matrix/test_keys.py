"""Keys that cannot be shared: noticed, retried, never a reason to send less than everybody can read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest

from bots.conversation import Say
from bridge.matrix.client import Client
from bridge.platform import Reach, Retryable

if TYPE_CHECKING:
    from tests.human import Human
    from tests.matrix.conftest import World


async def test_a_failed_key_exchange_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the key did not reach a device, nothing is sent, and the next try shares a new session."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    send = Client.send
    failing = {"keys/claim": 2, "sendToDevice": 2}

    async def faulty(self: Client, method: str, path: str, *rest: Any, **more: Any) -> Any:
        for what, times in failing.items():
            if what in path and times:
                failing[what] -= 1
                if times == 2:
                    raise aiohttp.ClientConnectionError(what)
                return await send(self, "GET", "/_matrix/client/v3/no/such/thing", *rest, **more)
        return await send(self, method, path, *rest, **more)

    monkeypatch.setattr(Client, "send", faulty)
    action = bot.action(room, Say("can you read this?"))
    for _ in range(4):
        with pytest.raises(Retryable):
            await bot.platform.perform(action)
    sent = await bot.platform.perform(action)
    assert failing == {"keys/claim": 0, "sendToDevice": 0}
    said = await ada.until(room, lambda said: said.id == sent)
    assert (said.readable, said.text) == (True, "can you read this?")


async def test_a_device_without_one_time_keys_gets_a_later_session(world: World) -> None:
    """A device that no key could be claimed for stops nobody, and reads again once it has keys."""
    ada, ben, account = await world.human(), await world.human("ben"), await world.account()
    now = [1000.0]
    # Ben's one-time keys are all taken, as when his server was away for long.
    for _ in range(60):
        answer = await ada.client.send(
            "POST",
            "/_matrix/client/v3/keys/claim",
            json.dumps({"one_time_keys": {ben.user_id: {ben.client.device_id: "signed_curve25519"}}}),
            {"Authorization": f"Bearer {ada.client.access_token}"},
        )
        if not (await answer.json())["one_time_keys"].get(ben.user_id):
            break
    else:
        pytest.fail("Ben still has one-time keys")
    bot = await world.bot(account, clock=lambda: now[0])
    room = await ada.create_room("Home", invite=[account, ben.user_id])
    ben_joins = await ben.client.join(room)
    assert ben_joins.room_id == room
    await ada.until_joined(room, account)
    await bot.until(lambda: any(event.place == room for event in bot.events))
    lost = await bot.say(room, "Ben cannot read this")
    assert (await ada.until(room, lambda said: said.id == lost)).readable
    reach = bot.platform.reach(room)
    assert reach is not None
    assert (reach.standing, reach.devices, reach.without) == ("signed", 2, (ben.user_id,))
    await ben.catch_up()
    assert not (await ben.until(room, lambda said: said.id == lost)).readable
    ben.client.olm.uploaded_key_count = 0  # matrix-nio does not believe a count of zero
    await ben.catch_up()
    now[0] += 61
    read = await bot.say(room, "but this")
    assert (await ben.until(room, lambda said: said.id == read)).text == "but this"
    assert bot.platform.reach(room) == Reach("signed", 2)
    assert bot.platform.reach("!elsewhere") is None


async def test_the_replay_index_does_not_grow_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What matrix-nio remembers of every message ever read is bounded."""
    monkeypatch.setattr("bridge.matrix.client._REPLAY_ENTRIES", 3)
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    for number in range(6):
        await ada.say(room, f"message {number}", mentions=[], fresh=False)
    await bot.heard("message 5")
    client = bot.platform._client
    assert client is not None
    await client.keep_keys()
    assert len(client.olm.message_index_store) == 3


async def test_an_error_of_the_key_server_is_one_of_the_families(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims, queries and uploads that fail are retryable, whatever matrix-nio makes of the answer."""
    bot = await world.bot()
    client = bot.platform._client
    assert client is not None
    client.access_token = "nonsense"
    with pytest.raises(Retryable):
        await client.keys_claim({bot.id: [bot.platform.device]})
    client.olm.users_for_key_query.add(bot.id)
    with pytest.raises(Retryable):
        await client.keep_keys()


async def claimed(human: Human, bot: str, device: str) -> dict[str, Any]:
    """One key of that device, as somebody gets it who wants to send to it; empty where there is none."""
    answer = await human.client.send(
        "POST",
        "/_matrix/client/v3/keys/claim",
        json.dumps({"one_time_keys": {bot: {device: "signed_curve25519"}}}),
        {"Authorization": f"Bearer {human.client.access_token}"},
    )
    keys: dict[str, Any] = (await answer.json())["one_time_keys"].get(bot, {}).get(device, {})
    return next(iter(keys.values()), {})


async def test_a_bot_that_was_away_can_still_be_written_to(world: World) -> None:
    """Every one-time key is taken while it is off: its fallback key is used, and replaced when it is back."""
    ada, account = await world.human(), await world.account()
    bot = await world.bot(account)
    room = await world.room(ada, bot)
    device = bot.platform.device
    await bot.stop()
    for _ in range(80):
        key = await claimed(ada, account, device)
        if key.get("fallback"):
            break
    assert key.get("fallback") is True
    assert (await claimed(ada, account, device)) == key  # as often as need be
    ben = await world.human("ben")
    await ada.invite(room, ben.user_id)
    await ben.join(room)
    await ben.until_joined(room, account)
    await ben.say(room, "are you there?", mentions=[account])
    bot = await world.bot(account, cursor=bot.cursor)
    assert (await bot.heard("are you there?")).sender.id == ben.user_id
    await bot.stop()
    for _ in range(80):
        again = await claimed(ada, account, device)
        if again.get("fallback"):
            break
    assert again != key


async def test_why_a_key_is_kept_from_us_is_read(world: World) -> None:
    """`m.room_key.withheld`, of any sender, in any shape: it is only ever used to word a notice."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    device = bot.platform.device
    wrong = [{}, {"room_id": 7}, {"room_id": room, "session_id": ["x"], "code": "m.odd"}]
    right = {"room_id": room, "session_id": "lost", "sender_key": "x", "code": "m.unverified"}
    for number, content in enumerate([*wrong, right]):
        answer = await ada.client.send(
            "PUT",
            f"/_matrix/client/v3/sendToDevice/m.room_key.withheld/{number}",
            json.dumps({"messages": {bot.id: {device: content}}}),
            {"Authorization": f"Bearer {ada.client.access_token}"},
        )
        assert answer.status == 200
    await ada.say(room, "now", mentions=[])
    await bot.heard("now")
    assert bot.platform.withheld(room, "lost") == "m.unverified"
    assert bot.platform.withheld(room, "other") == ""


async def test_what_was_encrypted_once_is_not_heard_twice(world: World) -> None:
    """The same ciphertext under another event id: this process refuses it, the next says whence it is."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    sent = await ada.say(room, "pay Mallory", mentions=[bot.id])
    first = await bot.heard("pay Mallory")
    assert first.ratchet is not None
    headers = {"Authorization": f"Bearer {ada.client.access_token}"}
    url = f"/_matrix/client/v3/rooms/{quote(room)}"
    raw = await (await ada.client.send("GET", f"{url}/event/{quote(sent)}", None, headers)).json()

    async def again(name: str) -> None:
        body = json.dumps(raw["content"])
        answer = await ada.client.send("PUT", f"{url}/send/m.room.encrypted/{name}", body, headers)
        assert answer.status == 200

    await again("one")
    await ada.say(room, "after that", mentions=[])
    await bot.heard("after that")
    assert bot.texts(room).count("pay Mallory") == 1
    await bot.stop()
    await again("two")
    bot = await world.bot(bot.id, bot.cursor)
    assert (await bot.heard("pay Mallory")).ratchet == first.ratchet  # which the journal knows
