"""Which verifications are open, what is taken up, what is left alone: with a homeserver that only listens."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from bridge.matrix.crypto import sas, verification
from bridge.matrix.crypto.verification import Heard, Line, Verifications, heard, taken_out
from bridge.matrix.facts import RoomState
from bridge.matrix.identity import Identity, public
from bridge.platform import Refused, Retryable
from tests.matrix.crypto.other_side import OtherSide
from tests.matrix.crypto.test_trust import ADA, PHONE, US, answered

if TYPE_CHECKING:
    from bridge.matrix.client import Client
    from bridge.matrix.crypto.identities import Identities
    from bridge.platform import Event

OURS = Identity.generate()
ROOM = "!home"


class Server:
    """Takes what is sent, and may fail; knows the keys of everybody as those of Ada."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.fails: list[Exception] = []
        self.refuses_signatures = False
        self.signatures: list[dict[str, Any]] = []
        self.server_time = 1_000_000
        self.rooms = {ROOM: SimpleNamespace(encrypted=False)}
        self.asked = 0

    async def call(self, _method: str, path: tuple[str, ...], body: dict[str, Any]) -> dict[str, Any]:
        if self.fails:
            raise self.fails.pop(0)
        match path:
            case ("v3", "keys", "signatures", "upload"):
                if self.refuses_signatures:
                    return {"failures": {ADA: {"key": {"errcode": "M_INVALID_SIGNATURE"}}}}
                self.signatures.append(body)
            case ("v3", "sendToDevice", kind, _):
                ((_, devices),) = body["messages"].items()
                ((_, content),) = devices.items()
                self.sent.append((kind, content))
            case ("v3", "rooms", _, "send", kind, _):
                self.sent.append((kind, body))
        return {}

    # What `Identities` does.

    def forget(self, _users: list[str]) -> None:
        pass

    async def learn(self, _users: list[str]) -> None:
        self.asked += 1

    def keys_of(self, user: str) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(json.dumps(answered(verified=False)).replace(ADA, user)))

    def party(self, user: str, device: str) -> sas.Party | None:
        if device == "UNKNOWN":
            return None
        (master,) = self.keys_of(user)["master_keys"][user]["keys"].values()
        return sas.Party(user, device, public(PHONE), master)


class House:
    """The verifications of one account over that server, at a time that the test sets."""

    def __init__(self, **more: Any) -> None:
        self.server, self.now, self.names = Server(), 100.0, iter(range(10**6))
        room = RoomState(ROOM, US)
        for user in (US, ADA):
            joined = {"membership": "join"}
            room.apply({"type": "m.room.member", "state_key": user, "sender": user, "content": joined})
        self.rooms = {ROOM: room}
        given: dict[str, Any] = {"may_verify": lambda user: "mallory" not in user, "has_admins": True, **more}
        self.all = Verifications(
            US, clock=lambda: self.now, names=lambda: str(next(self.names)), pause=self.pause, **given
        )
        self.line = Line(cast("Client", self.server), cast("Identities", self.server), OURS, "HEARTH", "key")
        self.all.attach(self.line)
        self.told: list[Event] = []
        self.pauses = 0

    async def pause(self, _tried: int) -> None:
        self.pauses += 1

    async def take(self, *events: Heard) -> list[str]:
        """What is sent when these arrive: `ready`, or `cancel` with its code."""
        before = len(self.server.sent)
        self.told += await self.all.take(events, self.rooms)
        await self.settle()
        kinds = [(kind.rpartition(".")[2], content) for kind, content in self.server.sent[before:]]
        return [f"cancel {content['code']}" if kind == "cancel" else kind for kind, content in kinds]

    async def settle(self) -> None:
        while self.all._sender is not None and not self.all._sender.done():
            await asyncio.wait([self.all._sender])

    @property
    def stages(self) -> list[str]:
        return [json.loads(event.text)["stage"] for event in self.told]


def asked(name: str = "txn", sender: str = ADA, device: str = "PHONE", **other: Any) -> Heard:
    """A request between devices."""
    content = {"from_device": device, "methods": [sas.SAS], "transaction_id": name, "timestamp": 1_000_000}
    return Heard(sender, None, sas.REQUEST, content | other)


def asked_here(name: str = "$asked", sender: str = ADA, *, age_ms: int = 0, **other: Any) -> Heard:
    """A request in a room."""
    content = {"from_device": "PHONE", "methods": [sas.SAS], "to": US} | other
    return Heard(sender, ROOM, sas.REQUEST, content, name, age_ms)


def them(name: str = "txn", *, room: bool = False) -> OtherSide:
    party = Server().party(ADA, "PHONE")
    assert party is not None
    expected = {"ed25519:HEARTH": "key", f"ed25519:{public(OURS.master)}": public(OURS.master)}
    return OtherSide(ADA, "PHONE", party.keys, (US, "HEARTH"), expected, name, room)


async def talk(house: House, side: OtherSide, *events: tuple[str, dict[str, Any]], seen: int = 0) -> int:
    """Carry events to and fro until both are silent; how many of what the bot sent has been seen."""
    waiting = list(events)
    while waiting or seen < len(house.server.sent):
        new = [Heard(ADA, ROOM if side.room else None, kind, content) for kind, content in waiting]
        await house.take(*new)
        waiting = [more for kind, content in house.server.sent[seen:] for more in side.hear(kind, content)]
        seen = len(house.server.sent)
    return seen


async def comparing(house: House) -> tuple[OtherSide, int]:
    """The other side of a verification in the room whose signs are shown, and how much it has seen."""
    side = them("$asked", room=True)
    assert await house.take(asked_here()) == ["ready"]
    return side, await talk(house, side, *side.start(), seen=1)


@pytest.mark.parametrize(("room", "requested"), [(True, True), (False, True), (False, False)])
async def test_from_the_request_to_the_signature(*, room: bool, requested: bool) -> None:
    """Also without a request, as old clients do between devices: the master key is signed, and then done."""
    house, side = House(), them("$asked" if room else "txn", room=room)
    if requested:
        assert await house.take(asked_here() if room else asked()) == ["ready"]
    seen = await talk(house, side, *side.start(), seen=len(house.server.sent))
    (which,) = house.all.comparing
    seen = await talk(house, side, *side.confirm(), seen=seen)
    assert house.server.signatures == []
    assert house.all.answer(which, matches=True)
    await house.settle()
    await talk(house, side, seen=seen)
    assert side.done
    master = next(one for one in side.keys if "PHONE" not in one).removeprefix("ed25519:")
    signed = house.server.signatures[0][ADA][master]
    assert list(signed["signatures"]) == [US]
    assert list(signed["signatures"][US]) == [f"ed25519:{public(OURS.user_signing)}"]
    assert house.all.comparing == ()
    assert not house.all.answer(which, matches=True)
    await house.take()
    # Between devices, the room of the two is told only where it is encrypted.
    assert house.stages == (["shown", "verified"] if room else [])


@pytest.mark.parametrize(
    "event",
    [
        asked(sender="@mallory:home.org"),
        asked(methods=["m.qr_code.show.v1"]),
        asked(methods=None),
        asked(from_device=3),
        asked(device="UNKNOWN"),
        asked(name=""),
        asked(name="x" * 256),
        asked(name="a\x00b"),
        asked(timestamp=None),
        asked(timestamp=1_000_000 - 600_001),
        asked(timestamp=1_000_000 + 300_001),
        asked_here(to="@ben:home.org"),
        asked_here(age_ms=600_001),
        replace(asked_here(), room="!elsewhere"),
        asked(sender=US, device="LAPTOP"),
    ],
)
async def test_what_is_not_taken_up(event: Heard) -> None:
    """Strangers, other methods, other people, what is old, what has no keys, our own devices: no answer."""
    house = House()
    assert await house.take(event) == []
    assert house.all._open == {}


async def test_without_admins_it_is_declined() -> None:
    """And the room is told, once; a `start` without request gets no answer."""
    house = House(has_admins=False)
    assert await house.take(asked_here()) == ["cancel m.user"]
    assert house.stages == ["no_admins"]
    assert await house.take(Heard(ADA, None, *them("two").start()[0])) == []


async def test_two_at_once_from_one_device_are_both_cancelled() -> None:
    """Nobody can tell which one is meant (spec); another device, or person, is another matter."""
    house = House()
    assert await house.take(asked("1")) == ["ready"]
    assert await house.take(asked("1")) == []
    assert await house.take(asked("2", device="LAPTOP")) == ["ready"]
    assert await house.take(asked("3", sender="@ben:home.org")) == ["ready"]
    assert await house.take(asked("4")) == ["cancel m.unexpected_message"] * 2
    assert len(house.all._open) == 2
    assert await house.take(asked("4")) == []


async def test_few_are_open_and_few_are_begun() -> None:
    """Eight at once; six of one person and forty of all in ten minutes, whatever became of them."""
    house = House()
    for number in range(20):
        await house.take(asked(f"{number}", sender=f"@{number}:home.org"))
    assert len(house.all._open) == verification.MOST
    house = House()
    for number in range(20):
        await house.take(asked(f"{number}"), Heard(ADA, None, sas.CANCEL, {"transaction_id": f"{number}"}))
    assert house.server.asked == verification.BEGUN_BY_ONE
    for number in range(100):
        user = f"@{number}:home.org"
        await house.take(
            asked("t", sender=user), Heard(user, None, sas.CANCEL, {"transaction_id": "t", "code": "m.user"})
        )
    assert house.server.asked == verification.BEGUN
    assert len(house.all._ended) <= verification.REMEMBERED
    house.now += 600
    assert await house.take(asked("new")) == ["ready"]


async def test_an_unknown_transaction_is_answered_once_and_seldom() -> None:
    """Only where a device can be named, never a cancel, and of many at once only a few."""
    house = House()
    known = {"from_device": "PHONE", "transaction_id": "gone"}
    assert await house.take(Heard(ADA, None, sas.READY, known)) == ["cancel m.unknown_transaction"]
    assert await house.take(Heard(ADA, None, sas.READY, known)) == []
    for kind in (sas.CANCEL, sas.KEY, sas.DONE, sas.MAC):
        assert await house.take(Heard(ADA, None, kind, known | {"transaction_id": kind})) == []
    many = [Heard(ADA, None, sas.READY, known | {"transaction_id": f"{number}"}) for number in range(1000)]
    assert len(await house.take(*many)) == 4
    assert await house.take(Heard(ADA, ROOM, sas.READY, {"from_device": "PHONE"}, "$x")) == []


async def test_a_third_person_has_no_part_in_it() -> None:
    """What refers to a verification of others in the room is not theirs."""
    house = House()
    await house.take(asked_here())
    refers = {"m.relates_to": {"rel_type": "m.reference", "event_id": "$asked"}, "code": "m.user"}
    assert await house.take(Heard("@ben:home.org", ROOM, sas.CANCEL, refers)) == []
    assert await house.take(Heard(ADA, "!elsewhere", sas.CANCEL, refers)) == []
    assert len(house.all._open) == 1
    await house.take(Heard(ADA, ROOM, sas.CANCEL, refers))
    assert house.all._open == {}


async def test_another_device_of_ours_that_answers_takes_it_over() -> None:
    """Ours goes silent; its own echo changes nothing."""
    house = House()
    await house.take(asked_here())
    refers = {"m.relates_to": {"rel_type": "m.reference", "event_id": "$asked"}}
    await house.take(Heard(US, ROOM, sas.READY, refers | {"from_device": "HEARTH"}))
    assert len(house.all._open) == 1
    await house.take(Heard(US, ROOM, sas.READY, refers | {"from_device": "LAPTOP"}))
    assert house.all._open == {}


async def test_what_cannot_be_sent_is_tried_again_and_then_given_up() -> None:
    """A server that is away for a moment costs a pause; one that refuses ends it. The order stays."""
    house = House()
    house.server.fails = [Retryable("away"), Retryable("away")]
    assert await house.take(asked()) == ["ready"]
    assert house.pauses == 2
    house.server.fails = [Refused("M_FORBIDDEN", "no")]
    await house.take(asked("2", sender="@ben:home.org"))
    assert [one.flow.theirs.user for one in house.all._open.values()] == [ADA]
    house.server.fails = [Retryable("away")] * 6
    await house.take(asked("3", sender="@cleo:home.org"))
    assert [one.flow.theirs.user for one in house.all._open.values()] == [ADA]


async def test_a_lost_connection_ends_nothing() -> None:
    """What is to be sent meanwhile goes out over the next one."""
    house = House()
    await house.all.detach()
    assert await house.take(asked()) == []
    house.all.attach(house.line)
    assert await house.take(asked()) == ["ready"]
    await house.all.detach()
    house.now += 16
    assert await house.take() == []
    house.all.attach(house.line)
    await house.settle()
    assert house.server.sent[-1][0] == sas.START


async def test_a_signature_that_is_not_taken_is_said() -> None:
    """The status is 200 even then."""
    house = House()
    side, seen = await comparing(house)
    await talk(house, side, *side.confirm(), seen=seen)
    house.server.refuses_signatures = True
    house.all.answer(house.all.comparing[0], matches=True)
    await house.settle()
    await house.take()
    assert house.stages == ["shown", "not_signed"]


async def test_an_identity_that_the_device_did_not_vouch_for_is_not_signed() -> None:
    """The server publishes one; but whoever compared signs has not said that it is theirs."""
    house = House()
    side, seen = await comparing(house)
    side.keys = {"ed25519:PHONE": side.keys["ed25519:PHONE"]}
    seen = await talk(house, side, *side.confirm(), seen=seen)
    house.all.answer(house.all.comparing[0], matches=True)
    await house.settle()
    await house.take()
    assert (house.stages, house.server.signatures) == (["shown", "device_only"], [])


async def test_without_an_identity_of_ours_nothing_is_signed() -> None:
    """The person can be sure of our device all the same."""
    house = House()
    house.all.attach(replace(house.line, identity=None))
    side, seen = await comparing(house)
    seen = await talk(house, side, *side.confirm(), seen=seen)
    house.all.answer(house.all.comparing[0], matches=True)
    await house.settle()
    await talk(house, side, seen=seen)
    assert side.done
    assert side.proven == {"ed25519:HEARTH"}
    await house.take()
    assert (house.stages, house.server.signatures) == (["shown", "no_identity"], [])


def test_what_belongs_to_a_verification() -> None:
    """By its type; in a room, the request is a message. Anything else is something else."""
    event = {"sender": ADA, "event_id": "$1", "unsigned": {"age": 7}}
    request = {"msgtype": sas.REQUEST}
    assert heard(event, "m.room.message", request, ROOM) == Heard(ADA, ROOM, sas.REQUEST, request, "$1", 7)
    assert heard(event, sas.START, {}, None) == Heard(ADA, None, sas.START, {}, "$1", 7)
    others: list[tuple[Any, Any, str | None]] = [
        ("m.room.message", {"msgtype": "m.text"}, ROOM),
        ("m.room.message", request, None),
        (sas.REQUEST, {}, ROOM),
        (3, {}, ROOM),
        (sas.START, [], ROOM),
        ("m.room.encrypted", {}, None),
    ]
    for kind, content, room in others:
        assert heard(event, kind, content, room) is None
    assert heard({**event, "sender": 3}, sas.START, {}, None) is None


def test_matrix_nio_never_sees_it() -> None:
    """It would answer with cancels of its own; all other events to our device stay, in order."""
    keys = {"type": "m.room.encrypted", "sender": ADA, "content": {}}
    start = {"type": sas.START, "sender": ADA, "content": {"transaction_id": "t"}}
    rest, ours = taken_out({"next_batch": "s", "to_device": {"events": [keys, start, 3]}})
    assert rest == {"next_batch": "s", "to_device": {"events": [keys]}}
    assert ours == [Heard(ADA, None, sas.START, {"transaction_id": "t"})]
    assert taken_out({}) == ({"to_device": {"events": []}}, [])
