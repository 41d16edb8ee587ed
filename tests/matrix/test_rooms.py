"""Rooms, words and answers against a real Synapse, read by a second account."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from bots.conversation import PlaceKind, Redact, Revise, Say
from bridge.matrix.client import Client
from bridge.platform import Ephemeral, EventKind, Found, Refused
from tests.human import expect

if TYPE_CHECKING:
    from tests.matrix.conftest import World


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_mention_arrives_and_the_answer_is_read(world: World, encrypted: bool) -> None:  # noqa: FBT001 - a case
    """A mention reaches us addressed; the answer reaches the asker, encrypted where the room is."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot, ben, encrypted=encrypted)
    asked = await ada.say(room, "Hearth, hello", mentions=[bot.id])
    event = await bot.heard("Hearth, hello")
    assert (event.id, event.addressed, event.context_only, event.own) == (asked, True, False, False)
    assert event.sender.id == ada.user_id
    assert 0 <= event.age_ms < 30_000
    await bot.say(room, "hello **Ada**", reply_to=asked, mentions=(ada.user_id,))
    for person in (ada, ben):
        said = await person.until(room, lambda said: said.reply_to == asked)
        assert (said.text, said.html) == ("hello **Ada**", "<p>hello <strong>Ada</strong></p>")
        assert (said.encrypted, said.msgtype, said.mentions) == (encrypted, "m.text", (ada.user_id,))
        assert said.mark["bot"] is True
    assert bot.facts(room).must_encrypt is encrypted


async def test_a_group_needs_a_mention(world: World) -> None:
    """In a group, words that do not name us are heard but not addressed to us."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot, ben)
    await ada.say(room, "lovely weather", mentions=[])
    await ada.say(room, "hearth without the field")
    assert not (await bot.heard("lovely weather")).addressed
    assert (await bot.heard("hearth without the field")).addressed


async def test_direct_becomes_group_and_direct_again(world: World) -> None:
    """A room is direct while exactly one other person is in it, whatever it was made as."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot, direct=True)
    assert bot.facts(room).place.kind is PlaceKind.DIRECT
    await ada.say(room, "just us", mentions=[])
    assert (await bot.heard("just us")).addressed
    await ada.invite(room, ben.user_id)
    await ben.join(room)
    await bot.until(lambda: bot.facts(room).place.kind is PlaceKind.GROUP)
    await ada.say(room, "now three", mentions=[])
    assert not (await bot.heard("now three")).addressed
    await ben.leave(room)
    await bot.until(lambda: bot.facts(room).place.kind is PlaceKind.DIRECT)
    await ada.say(room, "two again", mentions=[])
    assert (await bot.heard("two again")).addressed


async def test_the_same_key_shows_once(world: World) -> None:
    """One key sent twice, also by the next process, is one event."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    action = bot.action(room, Say("only once"))
    first = await bot.platform.perform(action)
    assert await bot.platform.perform(action) == first
    await bot.stop()
    again = await world.bot(bot.id, bot.cursor)
    assert again.platform.device == action.device
    assert await again.platform.perform(action) == first
    said = [one for one in await ada.history(room) if one.text == "only once"]
    assert [one.id for one in said] == [first]


@pytest.mark.parametrize("encrypted", [True, False])
async def test_find_says_what_happened(world: World, encrypted: bool) -> None:  # noqa: FBT001 - a case
    """What was sent is found by its key, before and after a restart; what was not sent is absent."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=encrypted)
    say = bot.action(room, Say("an answer"))
    sent = await bot.platform.perform(say)
    revise = bot.action(room, Revise(say.key, "a better answer"), target=sent)
    revised = await bot.platform.perform(revise)
    redact = bot.action(room, Redact(say.key), target=sent)
    assert await bot.platform.find(redact) is Found.ABSENT
    await bot.stop()
    again = await world.bot(bot.id, bot.cursor)
    assert await again.platform.find(say) == sent
    assert await again.platform.find(revise) == revised
    assert await again.platform.find(bot.action(room, Say("never sent"))) is Found.ABSENT
    gone = await again.platform.perform(redact)
    assert await again.platform.find(redact) == gone
    assert await again.platform.find(say) == sent


async def test_find_from_another_device(world: World) -> None:
    """Another device finds plain events by the key inside, and says unknown where it cannot read."""
    ada, bot = await world.human(), await world.bot()
    plain, sealed = await world.room(ada, bot, encrypted=False), await world.room(ada, bot)
    in_plain, in_sealed = bot.action(plain, Say("plain")), bot.action(sealed, Say("sealed"))
    sent = await bot.platform.perform(in_plain)
    await bot.platform.perform(in_sealed)
    await bot.stop()
    other = await world.bot(bot.id, store=world.folder / "another device")
    assert other.platform.device != in_plain.device
    assert await other.platform.find(in_plain) == sent
    assert await other.platform.find(in_sealed) is Found.UNKNOWN


async def test_streaming_ends_in_one_event(world: World) -> None:
    """Progress edits and the final revision change the draft's event and notify nobody again."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot, ben)
    draft = bot.action(room, Say("…", mentions=(ada.user_id,)))
    sent = await bot.platform.perform(draft)
    assert sent is not None
    await bot.platform.progress(Ephemeral(room, "$cause", None, sent, "so f", (ada.user_id,)))
    shown = await ada.until(room, lambda said: said.text == "so f")
    assert shown.mark == {"bot": True, "progress": True}
    await bot.platform.perform(
        bot.action(room, Revise(draft.key, "so far, so good", mentions=(ada.user_id,)), target=sent)
    )
    said = await ada.until(room, lambda said: said.text == "so far, so good")
    assert (said.id, said.edits) == (sent, 2)
    assert said.content["m.mentions"] == {"user_ids": [ada.user_id]}
    outer = [
        event.source["content"]["m.mentions"]
        for event in ada._raw[room]
        if event.source["content"].get("m.relates_to", {}).get("rel_type") == "m.replace"
    ]
    assert outer == [{}, {}]
    await ada.say(room, "the end", mentions=[])
    await bot.heard("the end")
    own = [(event.kind, event.text) for event in bot.events if event.own and event.text]
    assert own == [(EventKind.MESSAGE, "…"), (EventKind.EDIT, "so far, so good")]
    assert next(event.key for event in bot.events if event.own and event.text) == draft.key


async def test_edits_redactions_replies_and_threads_are_told(world: World) -> None:
    """What people do to their messages arrives as what it means, with the ids it relates to."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot, ben)
    root = await ada.say(room, "root", mentions=[])
    await ada.say(room, "in thread", mentions=[bot.id], thread=root)
    await ada.say(room, "a reply", mentions=[], reply_to=root)
    await ada.edit(room, root, "root, edited", mentions=[bot.id])
    await ada.redact(room, root)
    await ada.say(room, "done", mentions=[])
    await bot.heard("done")
    assert (await bot.heard("in thread")).thread == root
    assert (await bot.heard("in thread")).reply_to is None
    assert (await bot.heard("a reply")).reply_to == root
    edit = await bot.heard("root, edited")
    assert (edit.kind, edit.relates_to, edit.addressed) == (EventKind.EDIT, root, True)
    redaction = next(event for event in bot.events if event.kind is EventKind.REDACTION)
    assert (redaction.relates_to, redaction.sender.id) == (root, ada.user_id)
    answer = await bot.say(room, "threaded", thread=root)
    said = await ada.until(room, lambda said: said.id == answer)
    assert (said.thread, said.reply_to) == (root, None)


async def test_a_short_answer_takes_four_requests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Receipt, typing, send and typing off are all that a short answer costs once keys are shared."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot, ben)
    asked = await ada.say(room, "Hearth, hello", mentions=[bot.id])
    await bot.say(room, "first, with key exchange", reply_to=asked)
    asked = await ada.say(room, "Hearth, again", mentions=[bot.id])
    await bot.heard("Hearth, again")
    requests: list[str] = []
    send = Client.send

    async def counted(self: Client, method: str, path: str, *rest: object, **more: object) -> object:
        if "/sync" not in path:
            requests.append(f"{method} {path.split('/')[6]}")
        return await send(self, method, path, *rest, **more)

    monkeypatch.setattr(Client, "send", counted)
    await bot.platform.acknowledge(room, asked, None)
    await bot.platform.typing(room, on=True)
    await asyncio.gather(*bot.platform._beside)
    await bot.say(room, "short", reply_to=asked)
    await bot.platform.typing(room, on=False)
    await asyncio.gather(*bot.platform._beside)
    assert sorted(requests) == ["POST receipt", "PUT send", "PUT typing", "PUT typing"]


async def test_typing_that_ends_at_once_costs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typing switched off before its request went out is not sent."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    calls: list[str] = []
    call = Client.call

    async def counted(
        self: Client, method: str, path: tuple[str, ...], *rest: object, **more: object
    ) -> object:
        calls.append(path[-2])
        return await call(self, method, path, *rest, **more)  # type: ignore[arg-type] # passed through

    monkeypatch.setattr(Client, "call", counted)
    await bot.platform.typing(room, on=True)
    await bot.platform.typing(room, on=False)
    await asyncio.gather(*bot.platform._beside)
    assert "typing" not in calls


async def test_invisible_characters_in_names_do_not_reach_us(world: World) -> None:
    """A name with HTML, zero-width and bidi characters is shown as plain visible text."""
    ada, bot = await world.human(), await world.bot()
    await ada.set_name("<b>A\u200bd\u202ea</b>\n  \u2066!")
    room = await world.room(ada, bot, encrypted=False)
    await ada.say(room, "who am I?", mentions=[])
    assert (await bot.heard("who am I?")).sender.name == "<b>Ada</b> !"


async def test_a_60_kb_message_arrives_whole(world: World) -> None:
    """The largest message that a server takes reaches us as it was written."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=False)
    text = "long " * 12_000
    await ada.say(room, text, mentions=[])
    assert (await bot.heard(text)).addressed


@pytest.mark.parametrize(
    "text", ["plain words " * 12_000, "```py\n" + "x = '<&>ü🙂'\n" * 6_000 + "```", "\x01&🙂" * 30_000]
)
async def test_every_part_of_a_long_answer_is_accepted(world: World, text: str) -> None:
    """Whatever is said, each part fits an encrypted event, also as the revision of a draft."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    parts = bot.platform.parts(text).shown
    assert len(parts) > 1
    draft = bot.action(room, Say("…"))
    target = await bot.platform.perform(draft)
    for part in parts[:3]:
        await bot.say(room, part)
        await bot.platform.perform(bot.action(room, Revise(draft.key, part), target=target))


async def test_plaintext_is_never_sent_where_encryption_was_seen(world: World) -> None:
    """A room that the journal knows as encrypted gets ciphertext even if the server denies it."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=False)
    await bot.platform.perform(bot.action(room, Say("a secret"), must_encrypt=True))
    said = await ada.until(room, lambda said: said.sender == bot.id)
    assert said.encrypted
    answer = await ada.client.send(
        "GET",
        f"/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=50",
        headers={"Authorization": f"Bearer {ada.client.access_token}"},
    )
    chunk = (await answer.json())["chunk"]
    types = [event["type"] for event in chunk if event["sender"] == bot.id and "state_key" not in event]
    assert types == ["m.room.encrypted"]


async def test_encryption_switched_on_is_obeyed_at_once(world: World) -> None:
    """After a room turns encryption on, our next words are encrypted."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=False)
    await bot.say(room, "in the open")
    await ada.put_state(room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await bot.until(lambda: bot.facts(room).must_encrypt)
    await bot.say(room, "in private")
    assert not (await ada.until(room, lambda said: said.text == "in the open")).encrypted
    assert (await ada.until(room, lambda said: said.text == "in private")).encrypted


async def test_being_removed_is_told_and_sending_is_refused(world: World) -> None:
    """A kick ends the place; an action for it is refused with a rule, not retried for ever."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    await ada.kick(room, bot.id)
    await bot.until(lambda: any(event.kind is EventKind.LEFT for event in bot.events))
    assert not bot.facts(room).joined
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await bot.say(room, "still there?")


async def test_a_room_of_version_11_works_too(world: World) -> None:
    """The creator's power and the mention gate are the same in rooms before version 12."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot, ben, version="11")
    await ada.say(room, "Hearth?", mentions=[bot.id])
    assert (await bot.heard("Hearth?")).sender.power == 100
    message = await ada.say(room, "oops", mentions=[])
    await ada.redact(room, message)
    await bot.until(lambda: any(event.kind is EventKind.REDACTION for event in bot.events))
    assert [event.relates_to for event in bot.events if event.kind is EventKind.REDACTION] == [message]


async def test_a_hostile_ciphertext_does_not_stop_us(world: World) -> None:
    """What no parser takes in (nested 20,000 deep) is not heard, a lone surrogate is; then life goes on."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    await ada.say(room, "hello", mentions=[])
    nested = "[" * 20_000 + "]" * 20_000
    clear = f'{{"type":"m.room.message","room_id":"{room}","content":{{"body":{nested}}}}}'
    session = ada.client.olm.outbound_group_sessions[room]
    content = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "sender_key": ada.client.olm.account.identity_keys["curve25519"],
        "device_id": ada.client.device_id,
        "session_id": session.id,
        "ciphertext": session.encrypt(clear),
    }
    path = f"/_matrix/client/v3/rooms/{room}/send/m.room.encrypted/nested"
    headers = {"Authorization": f"Bearer {ada.client.access_token}"}
    answer = await ada.client.send("PUT", path, json.dumps(content), headers)
    sent = (await answer.json())["event_id"]
    await ada.say(room, "still there?", mentions=[], fresh=False)  # her own client would fall over it
    await bot.heard("still there?")
    assert next(event for event in bot.events if event.id == sent).kind is EventKind.SEALED
    await ada.say(room, "half a \ud83d smile", mentions=[], fresh=False)
    await bot.heard("half a \ufffd smile")


async def test_a_notice_and_a_marked_message_are_context(world: World) -> None:
    """Notices, other bots' marked words and media are read, never answered."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    await ada.say(room, "a notice", mentions=[bot.id], msgtype="m.notice")
    await ada.say(room, "marked", mentions=[bot.id], extra={"community.hearth": {"bot": True}})
    await ada.say(room, "photo.jpg", mentions=[bot.id], msgtype="m.image", extra={"url": "mxc://x/y"})
    await ada.say(room, "and a question", mentions=[bot.id])
    await bot.heard("and a question")
    told = [(e.text, e.context_only, e.sender.is_bot) for e in bot.events if e.kind is EventKind.MESSAGE]
    assert told == [
        ("a notice", True, True),
        ("marked", True, True),
        ("", True, False),
        ("and a question", False, False),
    ]


async def test_malformed_to_device_messages_do_not_stop_the_sync(world: World) -> None:
    """Garbage sent to our device by a stranger changes nothing."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    key = bot.platform._client.olm.account.identity_keys["curve25519"]  # type: ignore[union-attr] # connected
    rubbish = {"algorithm": "m.olm.v1.curve25519-aes-sha2", "sender_key": "A" * 43}
    for ciphertext in (
        {key: {"type": 0, "body": "!!"}},
        {key: {"type": 1, "body": "A"}},
        {key: {"type": 7, "body": ""}},
        {},
    ):
        body = {"messages": {bot.id: {bot.platform.device: {**rubbish, "ciphertext": ciphertext}}}}
        answer = await ada.client.send(
            "PUT",
            f"/_matrix/client/v3/sendToDevice/m.room.encrypted/{len(str(ciphertext))}",
            json.dumps(body),
            {"Authorization": f"Bearer {ada.client.access_token}"},
        )
        assert answer.status == 200
    await ada.say(room, "still listening?", mentions=[bot.id])
    await bot.heard("still listening?")
    assert expect(bot.platform._client, Client) is not None
