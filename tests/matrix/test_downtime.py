"""What happens around the edges of a run: starts, outages, gaps, lost keys, lost sessions."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING

import nio
import pytest
import structlog

from bots.conversation import Say
from bridge.homeserver import Homeserver
from bridge.matrix.session import PASSWORD, TOKEN
from bridge.platform import EventKind, Misconfigured, Retryable
from tests.human import Human

if TYPE_CHECKING:
    from pathlib import Path

    from tests.matrix.conftest import World


async def test_what_was_said_while_down_comes_after_a_restart(world: World) -> None:
    """A restart from the cursor yields what was missed, decrypted, once, and nothing from before it."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    await ada.say(room, "before", mentions=[])
    await bot.heard("before")
    await bot.stop()
    await ada.say(room, "while down", mentions=[bot.id])
    again = await world.bot(bot.id, bot.cursor)
    event = await again.heard("while down")
    assert event.addressed
    assert not event.context_only
    assert again.texts(room) == ["while down"]


async def test_the_first_start_answers_no_backlog(world: World) -> None:
    """With no cursor, what is already in a room is context."""
    ada, account = await world.human(), await world.account()
    async with Human(world.server.url, account, "pw") as before:
        room = await ada.create_room("Old", encrypted=False, invite=[account])
        await before.join(room)
    await ada.say(room, "old question", mentions=[account])
    bot = await world.bot(account)
    assert (await bot.heard("old question")).context_only
    assert all(event.context_only for event in bot.events)
    await ada.say(room, "new question", mentions=[account])
    assert not (await bot.heard("new question")).context_only


async def test_history_from_before_we_joined_is_context(world: World) -> None:
    """On joining a room with history, only what was said after the join is work."""
    ada, bot = await world.human(), await world.bot()
    room = await ada.create_room("Old", encrypted=False, public=True)
    await ada.say(room, "long ago", mentions=[bot.id])
    await ada.invite(room, bot.id)
    await ada.until_joined(room, bot.id)
    await ada.say(room, "today", mentions=[bot.id])
    assert not (await bot.heard("today")).context_only
    assert (await bot.heard("long ago")).context_only
    joined = [event for event in bot.events if event.kind is EventKind.JOINED]
    assert [(event.place, event.context_only) for event in joined] == [(room, False)]


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_limited_timeline_is_filled(world: World, encrypted: bool) -> None:  # noqa: FBT001 - a case
    """More messages than one sync holds arrive all, in order, each once."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=encrypted)
    await ada.say(room, "last seen", mentions=[])
    await bot.heard("last seen")
    await bot.stop()
    texts = [f"message {number}" for number in range(130)]
    for text in texts:
        await ada.say(room, text, mentions=[], fresh=False)
    again = await world.bot(bot.id, bot.cursor)
    await again.heard(texts[-1])
    assert again.texts(room) == texts
    assert again.gaps == []
    assert len({event.id for event in again.events}) == len(again.events)


async def test_a_gap_beyond_the_bound_is_recorded(world: World) -> None:
    """Fetching stops at the bound, the newest events come, and what is missing is a gap."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=False)
    await bot.stop()
    for number in range(90):
        await ada.say(room, f"message {number}", mentions=[], fresh=False)
    again = await world.bot(bot.id, bot.cursor, max_backfill=10)
    await again.heard("message 89")
    assert again.texts(room) == [f"message {number}" for number in range(30, 90)]
    assert [(gap.place, gap.since, gap.reason) for gap in again.gaps] == [(room, bot.cursor, "limit")]


async def test_redelivered_to_device_messages_break_nothing(world: World) -> None:
    """A rollback to an older cursor delivers room keys again; all messages stay readable, also later ones."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    old = bot.cursor
    await ada.say(room, "first", mentions=[])
    await bot.heard("first")
    await ada.say(room, "second", mentions=[])
    await bot.heard("second")
    await bot.stop()
    again = await world.bot(bot.id, old)
    await again.heard("second")
    assert again.texts(room) == ["first", "second"]
    ada.client.invalidate_outbound_session(room)
    await ada.say(room, "third, with a new key", mentions=[])
    await again.heard("third, with a new key")
    answer = await again.say(room, "and back")
    await ada.until(room, lambda said: said.id == answer and said.text == "and back")
    assert not any(event.kind is EventKind.SEALED for event in again.events)


async def test_a_failed_commit_is_fetched_again(world: World) -> None:
    """Closing the generator without a commit and starting from the old cursor yields the same events."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    await bot.stop()
    await ada.say(room, "do not lose me", mentions=[bot.id])
    platform = world.unstarted(bot.id).platform
    for _ in range(3):
        events = platform.events(bot.cursor)
        batch = await anext(events)
        await events.aclose()
        assert [event.text for event in batch.events if event.text] == ["do not lose me"]
    await platform.close()


async def test_a_late_key_opens_a_sealed_event(world: World) -> None:
    """An event without its key is kept sealed; when the key comes, also to the next process, it opens."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    device = bot.platform.device
    key = await ada.key_kept_from(room, bot.id, device)
    asked = await ada.say(room, "can you read this?", mentions=[bot.id], fresh=False)
    await bot.until(lambda: any(event.kind is EventKind.SEALED for event in bot.events))
    sealed = next(event for event in bot.events if event.kind is EventKind.SEALED)
    assert (sealed.id, sealed.text) == (asked, "")
    assert sealed.sealed is not None
    assert "ciphertext" in sealed.sealed
    await bot.stop()
    again = await world.unstarted(bot.id, bot.cursor).start((sealed,))
    await ada.hand_over(key, bot.id, device)
    await again.until(lambda: bool(again.opened))
    opened = again.opened[0]
    assert (opened.id, opened.text, opened.addressed) == (asked, "can you read this?", True)
    assert opened.kind is EventKind.MESSAGE


async def test_invitations_of_strangers_are_refused(world: World) -> None:
    """Only allowed people bring us into rooms; an invitation told while we were down counts too."""
    mallory, ada, account = await world.human("mallory"), await world.human(), await world.account()
    bot = await world.bot(account)
    await bot.stop()
    trap = await mallory.create_room("Trap", invite=[account])
    home = await ada.create_room("Home", invite=[account])
    again = await world.bot(account, bot.cursor)
    await ada.until_joined(home, account)
    await again.until(lambda: any(event.place == home for event in again.events))
    await mallory.until_membership(trap, account, "leave")
    assert account not in await mallory.joined(trap)
    assert {event.place for event in again.events} == {home}


async def test_a_crash_between_invitation_and_join_is_made_good(world: World) -> None:
    """An invitation that is older than the cursor is accepted at the next start."""
    ada, account = await world.human(), await world.account()
    deaf = await world.bot(account, may_invite=lambda _: True)
    deaf.platform._invites.offer = lambda *_: None  # type: ignore[method-assign,union-attr] # dies before it joins
    room = await ada.create_room("Home", invite=[account])
    await deaf.until(lambda: len(deaf.batches) > 1)
    await deaf.stop()
    await world.bot(account, deaf.cursor)
    await ada.until_joined(room, account)


async def test_a_moved_room_is_followed(world: World) -> None:
    """A tombstone leads to the room that names the old one as predecessor, and out of any other."""
    ada, bot = await world.human(), await world.bot()
    old, liar = await world.room(ada, bot, encrypted=False), await world.room(ada, bot, encrypted=False)
    answer = await ada.client.room_create(
        preset=nio.RoomPreset.public_chat, predecessor={"room_id": old, "event_id": "$x"}
    )
    other = await ada.create_room("Other", encrypted=False, public=True)
    await ada.put_state(old, "m.room.tombstone", {"body": "moved", "replacement_room": answer.room_id})
    await ada.until_joined(answer.room_id, bot.id)
    await ada.put_state(liar, "m.room.tombstone", {"body": "moved", "replacement_room": other})
    await ada.until_membership(other, bot.id, "leave")
    assert bot.id in await ada.joined(answer.room_id)
    assert bot.id not in await ada.joined(other)


# -- logging in ------------------------------------------------------------------------------------


async def test_a_wrong_password_is_said_and_nothing_loops(world: World) -> None:
    """A refused password ends the run with the credential to correct."""
    account = await world.account()
    for given, remedy, path in (
        ({"password": "wrong"}, "refuses .* with this password", PASSWORD),
        ({"password": None}, "write the password", PASSWORD),
        ({"password": None, "access_token": "syt_nonsense"}, "does not accept this access token", TOKEN),
        ({"homeserver": f"{world.server.url}/nothing"}, "no Matrix homeserver answers", "matrix.homeserver"),
    ):
        bot = world.unstarted(account, **given)
        with pytest.raises(Misconfigured, match=remedy) as told:
            await bot.start()
        assert told.value.path == path
        await bot.stop()


async def test_an_access_token_is_enough(world: World) -> None:
    """With only an access token the bot runs under that token's device and signs it."""
    account = await world.account()
    async with Human(world.server.url, account, "pw") as other:
        device = other.client.device_id
        # That device has keys of its own already; a bot's token is fresh.
        fresh = await other.client.send(
            "POST",
            "/_matrix/client/v3/login",
            json.dumps(
                {
                    "type": "m.login.password",
                    "identifier": {"type": "m.id.user", "user": account},
                    "password": "pw",
                }
            ),
        )
        login = await fresh.json()
        assert login["device_id"] != device
        bot = world.unstarted(account, password=None, access_token=login["access_token"])
        await bot.start()
        assert (bot.platform.device, bot.platform.standing) == (login["device_id"], "signed")


async def test_a_second_process_is_refused_the_folder(world: World) -> None:
    """The crypto store has one user at a time; the second one is told what to do."""
    bot = await world.bot()
    with pytest.raises(Misconfigured, match="another hearth uses this folder"):
        await world.unstarted(bot.id).start()
    await bot.stop()
    await world.bot(bot.id, bot.cursor)


async def test_a_wrong_pickle_key_is_said(world: World) -> None:
    """A crypto store that does not open names the folder and the credential."""
    bot = await world.bot()
    await bot.stop()
    with pytest.raises(Misconfigured, match="does not open with this pickle key"):
        await world.unstarted(bot.id, pickle_key="another").start()


async def test_lost_keys_are_noticed(world: World) -> None:
    """A device whose crypto store is gone does not go on with other keys."""
    bot = await world.bot()
    await bot.stop()
    for database in (world.folder / bot.id.partition(":")[0][1:]).glob("*.db"):
        database.unlink()
    with pytest.raises(Misconfigured, match="keys of this device are gone"):
        await world.unstarted(bot.id).start()


async def test_a_session_ended_by_the_server_is_renewed_on_the_same_device(world: World) -> None:
    """When the token dies, the bot logs in again, keeps its device id, and is readable and signed again."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot)
    device = bot.platform.device
    await bot.platform._client.call("POST", ("v3", "logout"), {})  # type: ignore[union-attr] # connected
    await ada.say(room, "are you back?", mentions=[bot.id])
    async with asyncio.timeout(30):
        while True:
            try:
                answer = await bot.say(room, "I am")
                break
            except Retryable:
                await asyncio.sleep(0.1)
    assert bot.platform.device == device
    assert bot.platform.standing == "signed"
    await ada.until(room, lambda said: said.id == answer and said.text == "I am")
    # matrix-nio, which Ada uses, never trusts a device again that was away once; Ben sees it first now.
    await ada.invite(room, ben.user_id)
    await ben.join(room)
    await ben.say(room, "good", mentions=[bot.id])
    await bot.heard("good")


async def test_a_homeserver_that_is_down_is_waited_for(tmp_path: Path, world: World) -> None:
    """Down at start: one line in the log, growing pauses, and it begins when it answers; also mid-run."""
    pauses: list[float] = []
    up = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            await server.start()
            up.set()
        await asyncio.sleep(0)

    async with Homeserver(tmp_path / "server", server_name="down.test") as server:
        account = await server.register("hearth", "pw")
        ada_id = await server.register("ada", "pw")
        await server.stop()
        with structlog.testing.capture_logs() as lines:
            bot = world.unstarted(account, homeserver=server.url, sleep=sleep, rng=random.Random(2))
            await bot.start()
        told = [line["event"] for line in lines if line["event"] == "homeserver_not_answering"]
        assert (len(pauses), told, up.is_set()) == (6, ["homeserver_not_answering"], True)
        assert all(0.25 * 2**n <= pause <= 0.5 * 2**n for n, pause in enumerate(pauses))
        async with Human(server.url, ada_id, "pw") as ada:
            room = await ada.create_room("Home", invite=[account])
            await ada.until_joined(room, account)
            await server.stop()
            await server.start()
            await ada.say(room, "back again", mentions=[])
            await bot.heard("back again")
            await bot.say(room, "so am I")
            await ada.until(room, lambda said: said.text == "so am I")
        await bot.stop()


async def test_sending_before_the_first_sync_is_retryable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent before it is known who reads the room."""
    monkeypatch.setattr("bridge.matrix.platform._READY_DEADLINE", 0.05)
    bot = world.unstarted("@nobody:hearth.test")
    with pytest.raises(Retryable):
        await bot.platform.perform(bot.action("!r:hearth.test", Say("too early")))
    await bot.platform.acknowledge("!r:hearth.test", "$e", None)
    await bot.platform.typing("!r:hearth.test", on=True)
    assert (bot.platform._beside, bot.platform._typing) == (set(), {})
