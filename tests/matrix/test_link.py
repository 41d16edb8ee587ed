"""Link rooms: envelopes that are encrypted or not sent, found again, and greetings that come once."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from bots.conversation import OpenLink, SendEnvelope
from bridge.link.envelope import LARGEST
from bridge.matrix import link
from bridge.matrix.facts import LINK_TYPE, RoomState
from bridge.matrix.translate import ENVELOPE, MARKER, Us, translate
from bridge.platform import Broken, EventKind, Found, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.human import Human
    from tests.matrix.conftest import Bot, World

ME, PEER, ADA = "@hearth:home.org", "@hearth:city.org", "@ada:home.org"
TEXT = '{"body":{"text":"Wann öffnet das Bad? 🏊"},"signature":"x"}'


def linked(*bots: str, **more: Any) -> dict[str, Any]:
    """The state that makes a room a link room."""
    return {"type": LINK_TYPE, "state_key": "", "content": {"v": 1, "bots": [*bots]}} | more


def room(*members: str, encrypted: bool = True, by: str = PEER) -> RoomState:
    state = RoomState("!r", ME)
    made = {"room_version": "12", "type": LINK_TYPE}
    state.apply({"type": "m.room.create", "state_key": "", "sender": by, "content": made})
    for user in members:
        content = {"membership": "join"}
        state.apply({"type": "m.room.member", "state_key": user, "sender": user, "content": content})
    if encrypted:
        state.apply({"type": "m.room.encryption", "state_key": "", "sender": ADA, "content": {}})
    return state


def carrying(envelope: object, sender: str = PEER) -> dict[str, Any]:
    """An event that carries `envelope`, in clear."""
    content = {"envelope": envelope, "body": "asked", MARKER: {"bot": True, "key": "k"}}
    return {"type": ENVELOPE, "event_id": "$1", "sender": sender, "origin_server_ts": 5, "content": content}


def read(event: dict[str, Any]) -> Any:
    """What an encrypted event with this inside means."""
    sealed = event | {"type": "m.room.encrypted", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    return translate(sealed, {"type": event["type"], "content": event["content"]}, room(ME, PEER), Us(ME))


def based(text: str) -> str:
    return base64.b64encode(text.encode()).decode().rstrip("=")


# -- what arrives ----------------------------------------------------------------------------------


def test_an_envelope_arrives_as_it_was_sent() -> None:
    """Not a byte is changed; its sender is a bot, and it is ours to look at."""
    content = link.envelope_content(SendEnvelope(TEXT, "asks when the pool opens"), "k")
    event = read(carrying(None) | {"content": content})
    assert (event.kind, event.text, event.sender.id) == (EventKind.ENVELOPE, TEXT, PEER)
    assert (event.context_only, event.own, event.key, event.sender.is_bot) == (False, False, None, True)
    assert not event.addressed


def test_our_own_envelope_is_context() -> None:
    """It comes back with the key of its action."""
    event = read(carrying(based(TEXT), ME))
    assert (event.context_only, event.own, event.key, event.text) == (True, True, "k", TEXT)


def test_what_was_not_encrypted_is_nothing() -> None:
    """Anybody who can write into the room's database could have put it there."""
    event = carrying(based(TEXT))
    assert read(event) is not None
    assert translate(event, None, room(ME, PEER), Us(ME)) is None


@pytest.mark.parametrize("envelope", [None, 3, "", "=", "a", "äö", "/w", {"v": 1}, "\ud800", "a b", "YQ==YQ"])
def test_what_is_no_text_in_base64_is_nothing(envelope: object) -> None:
    """A stranger writes what he likes."""
    assert read(carrying(envelope)) is None


# -- which rooms are link rooms --------------------------------------------------------------------


def test_the_peers_are_the_bots_that_are_there() -> None:
    """Named by the state, joined, and not ourselves."""
    state = room(ME, PEER, ADA)
    assert (state.is_link, state.peers) == (False, frozenset())
    state.apply(linked(ME, PEER))
    assert (state.is_link, state.peers) == (True, frozenset({PEER}))
    gone = {"membership": "leave"}
    state.apply({"type": "m.room.member", "state_key": PEER, "sender": PEER, "content": gone})
    assert (state.is_link, state.peers) == (True, frozenset())


def test_a_room_of_three_links_nobody() -> None:
    """Whoever made it would read, or let his people read, what two others say to each other."""
    state = room(ME, PEER, "@away:else.org")
    state.apply(linked(ME, PEER, "@away:else.org"))
    assert (state.is_link, state.peers, state.peers_there) == (False, frozenset(), frozenset())
    gone = {"membership": "leave"}
    state.apply({"type": "m.room.member", "state_key": PEER, "sender": PEER, "content": gone})
    assert (state.is_link, state.peers) == (False, frozenset())


@pytest.mark.parametrize(
    "content",
    [
        *({}, {"v": 2, "bots": [ME, PEER]}, {"v": True, "bots": [ME, PEER]}, {"v": 1}),
        *({"v": 1, "bots": {ME: 1}}, {"v": 1, "bots": [PEER]}, {"v": 1, "bots": [3, None, "hearth"]}),
    ],
)
def test_what_does_not_name_us_links_nothing(content: dict[str, Any]) -> None:
    """Another version, no list, or a list without us."""
    state = room(ME, PEER)
    state.apply(linked(content=content))
    assert (state.is_link, state.peers) == (False, frozenset())


def test_a_room_that_is_not_encrypted_links_nothing() -> None:
    """What passes between communities is for nobody else."""
    state = room(ME, PEER, encrypted=False)
    state.apply(linked(ME, PEER))
    assert (state.is_link, state.peers) == (False, frozenset())


@pytest.mark.parametrize("inside", [True, False])
def test_whoever_may_redact_can_end_a_link(*, inside: bool) -> None:
    """Room version 11 moved `redacts` into the content."""
    state = room(ME, PEER)
    state.apply(linked(ME, PEER, event_id="$link"))
    told = {"content": {"redacts": "$link"}} if inside else {"redacts": "$link", "content": {}}
    other = json.loads(json.dumps(told).replace("$link", "$other"))
    state.apply({"type": "m.room.redaction", **other})
    assert state.is_link
    state.apply({"type": "m.room.redaction", **told})
    assert not state.is_link


# -- on a real homeserver --------------------------------------------------------------------------


def sees(bot: Bot, place: str, names: Sequence[str]) -> bool:
    """Whether a bot knows that all of them have joined."""
    told = [facts for batch in bot.batches for facts in batch.places if facts.place.id == place]
    return bool(told) and {one.id for one in told[-1].members if one.since} >= set(names)


async def link_room(ada: Human, *bots: Bot) -> str:
    """The room that two bots open, in which Ada watches, greeted by both."""
    first, second = sorted(bots, key=lambda bot: bot.id)
    place = await opens(first, second, watchers=(ada.user_id,))
    invites = second.platform._invites
    assert invites is not None
    await second.until(lambda: invites.link_from(first.id) == place)
    assert await opens(second, first) == place
    await ada.join(place)
    for bot in bots:
        await bot.until(partial(sees, bot, place, [first.id, second.id]))
    return place


async def opens(bot: Bot, other: Bot, watchers: tuple[str, ...] = ()) -> str:
    """The room that a bot gets which wants to share one with another."""
    place = await bot.platform.perform(bot.action("!any", OpenLink(other.id[1:], watchers)))
    assert place is not None
    return place


def envelopes(bot: Bot) -> list[tuple[str, str, bool]]:
    found = [event for event in [*bot.events, *bot.opened] if event.kind is EventKind.ENVELOPE]
    return [(event.sender.id, event.text, event.context_only) for event in found]


async def test_the_largest_envelope_passes_once(world: World) -> None:
    """As long as the protocol allows, of letters that JSON writes long; sent twice, it is there once."""
    ada, ours, theirs = await world.human(), await world.bot(), await world.bot(await world.account("city"))
    place = await link_room(ada, ours, theirs)
    text = "🏊" * (LARGEST // 4)
    action = ours.action(place, SendEnvelope(text, "asks when the pool opens"))
    sent = await ours.platform.perform(action)
    assert await ours.platform.perform(action) == sent
    last = SendEnvelope("{}", "the last one")
    await ours.platform.perform(ours.action(place, last))
    await theirs.until(lambda: (ours.id, "{}", False) in envelopes(theirs))
    assert envelopes(theirs) == [(ours.id, text, False), (ours.id, "{}", False)]
    await ours.until(lambda: (ours.id, "{}", True) in envelopes(ours))
    assert envelopes(ours) == [(ours.id, text, True), (ours.id, "{}", True)]
    assert await ours.platform.find(action) == sent
    assert await ours.platform.find(ours.action(place, last)) is Found.ABSENT


async def test_an_envelope_is_refused_where_nobody_is_linked(world: World) -> None:
    """In an ordinary room, and in a link room that the other bot has left; too long it is broken."""
    ada, ours, theirs = await world.human(), await world.bot(), await world.bot(await world.account("city"))
    place = await link_room(ada, ours, theirs)
    with pytest.raises(Broken, match="46,000"):
        await ours.platform.perform(ours.action(place, SendEnvelope("x" * 40_000, "")))
    client = theirs.platform._client
    assert client is not None
    await client.call("POST", ("v3", "rooms", place, "leave"), {})
    await ours.until(lambda: theirs.id not in {one.id for one in ours.facts(place).members})
    other = await world.room(ada, ours)
    for one in (place, other):
        with pytest.raises(Refused, match="not_linked"):
            await ours.platform.perform(ours.action(one, SendEnvelope(TEXT, "")))


async def hellos(ada: Human, place: str, count: int) -> list[str]:
    """Who greeted, in order, once there are `count` greetings."""

    def found() -> list[str]:
        raw = ada._raw[place]
        return [event.sender for event in raw if event.source.get("type") == link.HELLO]

    while len(found()) < count:
        await ada.catch_up(500)
    return found()


async def test_a_link_room_is_greeted_after_each_connection(world: World) -> None:
    """Both greet, encrypted; a new process greets again; another room is not greeted."""
    ada, ours = await world.human(), await world.bot()
    theirs = await world.bot(await world.account("city"))
    place = await link_room(ada, ours, theirs)
    other = await world.room(ada, ours)
    assert {ours.id, theirs.id} <= set(await hellos(ada, place, 2))
    before = len(await hellos(ada, place, 2))
    await ours.stop()
    again = await world.bot(ours.id, ours.cursor)
    told = await hellos(ada, place, before + 1)
    assert told.count(again.id) >= 2
    assert all(event.decrypted for event in ada._raw[place] if event.source.get("type") == link.HELLO)
    await again.say(other, "nothing more to say")
    await ada.until(other, lambda said: said.text == "nothing more to say")
    assert await hellos(ada, other, 0) == []


async def test_a_link_room_is_opened_once(world: World) -> None:
    """Whoever asks again, on either side, gets the room that is there; whoever left it is invited again."""
    ada, ours, theirs = await world.human(), await world.bot(), await world.bot(await world.account("city"))
    place = await link_room(ada, ours, theirs)
    assert [await opens(ours, theirs), await opens(theirs, ours)] == [place, place]
    assert ours.facts(place).links == (theirs.id[1:],)
    assert ours.facts(place).must_encrypt
    powers = {one.id: one.power for one in ours.facts(place).members}
    assert powers[theirs.id] >= 50 > powers[ada.user_id]


async def test_a_room_of_somebody_else_links_nobody(world: World) -> None:
    """Its state may name the two bots: whoever made it would read along."""
    ada, ours, theirs = await world.human(), await world.bot(), await world.bot(await world.account("city"))
    names = [ours.id, theirs.id]
    place = await ada.create_room("Link", invite=names, state=[linked(*names)])
    for bot in (ours, theirs):
        await ada.until_joined(place, bot.id)
    await ours.until(partial(sees, ours, place, names))
    assert ours.facts(place).links is None
    with pytest.raises(Refused, match="not_linked"):
        await ours.platform.perform(ours.action(place, SendEnvelope(TEXT, "")))
