"""A verification: both roles, against ourselves and against another implementation; every way it ends."""

from __future__ import annotations

import base64
import json
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import vodozemac
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from bridge.matrix.crypto import sas
from bridge.matrix.crypto.emoji import SIGNS, signs
from bridge.matrix.crypto.sas import CancelCode, Flow, News, Outgoing, Party, Stage, Step
from tests.matrix.crypto.other_side import OtherSide

if TYPE_CHECKING:
    from collections.abc import Callable

US = Party("@hearth:home.org", "HEARTH", "A" * 43, "B" * 43)
ADA = Party("@ada:home.org", "PHONE", "C" * 43, "D" * 43)


def flow(ours: Party = US, theirs: Party = ADA, *, room: str | None = None) -> Flow:
    return Flow("$asked" if room else "txn", room, ours, theirs, opened_at=100.0)


def other(at: Flow, **more: Any) -> OtherSide:
    ours, theirs = at.ours, at.theirs
    return OtherSide(
        theirs.user,
        theirs.device,
        theirs.keys,
        (ours.user, ours.device),
        ours.keys,
        at.id,
        bool(at.room),
        **more,
    )


def hear(at: Flow, kind: str, content: dict[str, Any]) -> Step:
    return sas.receive(at, kind, content, ephemeral=vodozemac.Sas)


def talk(step: Step, them: OtherSide, *events: tuple[str, dict[str, Any]]) -> Step:
    """Hand events to and fro until both are silent; the last step that told anything, else the last."""
    told: Step | None = step if step.news else None
    to_them = [(one.type, one.content) for one in step.sends]
    to_us = list(events)
    at = step
    while to_them or to_us:
        for kind, content in to_them:
            to_us += them.hear(kind, json.loads(json.dumps(content)))
        to_them = []
        for kind, content in to_us:
            at = hear(at.flow, kind, json.loads(json.dumps(content)))
            told = at if at.news else told
            to_them += [(one.type, one.content) for one in at.sends]
        to_us = []
    return replace(told, flow=at.flow) if told else at


def shown(room: str | None = None, *, we_start: bool = False, **more: Any) -> tuple[Step, OtherSide]:
    """Both sides at the point where the signs are shown."""
    at = flow(room=room)
    them = other(at, **more)
    step = talk(sas.begin(at), them) if we_start else talk(Step(at), them, *them.start())
    return step, them


@pytest.mark.parametrize("room", [None, "!room"])
@pytest.mark.parametrize("we_start", [True, False])
@pytest.mark.parametrize("we_confirm_first", [True, False])
def test_both_sides_agree(room: str | None, *, we_start: bool, we_confirm_first: bool) -> None:
    """With another implementation, in a room and between devices, whoever starts or says yes first."""
    step, them = shown(room, we_start=we_start)
    assert (step.news, step.flow.stage) == (News.SHOWN, Stage.SHOWN)
    assert (step.flow.emoji, step.flow.decimals) == them.shown
    if we_confirm_first:
        step = talk(sas.answer(step.flow, matches=True), them)
        assert (step.news, step.flow.closed) == (None, False)
        step = talk(step, them, *them.confirm())
    else:
        step = talk(Step(step.flow), them, *them.confirm())
        assert (step.news, step.flow.closed) == (None, False)
        step = talk(sas.answer(step.flow, matches=True), them)
    assert (step.news, step.flow.closed, step.flow.code) == (News.PROVEN, True, None)
    assert step.flow.proven == frozenset(ADA.keys)
    assert them.proven == set(US.keys)
    assert them.done


@pytest.mark.parametrize("room", [None, "!room"])
def test_the_module_agrees_with_itself(room: str | None) -> None:
    """Two flows that face each other show the same and prove each other."""
    one, two = flow(room=room), flow(ADA, US, room=room)
    steps = {0: sas.begin(one), 1: Step(two)}
    moves: list[tuple[int, Outgoing]] = [(1, out) for out in steps[0].sends]

    def run() -> None:
        while moves:
            side, out = moves.pop(0)
            steps[side] = hear(steps[side].flow, out.type, out.content)
            moves.extend((1 - side, more) for more in steps[side].sends)

    run()
    assert steps[0].flow.emoji == steps[1].flow.emoji != ()
    for side in (0, 1):
        steps[side] = sas.answer(steps[side].flow, matches=True)
        moves.extend((1 - side, more) for more in steps[side].sends)
    run()
    assert steps[0].flow.proven == frozenset(ADA.keys)
    assert steps[1].flow.proven == frozenset(US.keys)
    assert steps[0].flow.code is steps[1].flow.code is None


def test_the_arithmetic_is_that_of_the_spec() -> None:
    """The signs, the numbers and the MACs, calculated again by another library (RFC 5869, RFC 2104)."""
    private = X25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = base64.b64encode(private.public_key().public_bytes_raw()).decode().rstrip("=")
    start = other(flow()).start()[0][1]
    accepted = hear(flow(), "m.key.verification.start", start)
    step = hear(accepted.flow, "m.key.verification.key", {"key": public, "transaction_id": "txn"})
    own = step.sends[0].content["key"]
    secret = private.exchange(X25519PublicKey.from_public_bytes(base64.b64decode(own + "=")))

    def derived(info: str, length: int) -> bytes:
        return HKDF(hashes.SHA256(), length, None, info.encode()).derive(secret)

    info = f"MATRIX_KEY_VERIFICATION_SAS|@ada:home.org|PHONE|{public}|@hearth:home.org|HEARTH|{own}|txn"
    bits = int.from_bytes(derived(info, 6), "big")
    assert step.flow.emoji == tuple(bits >> shift & 63 for shift in range(42, 0, -6))
    bits = int.from_bytes(derived(info, 5), "big")
    assert step.flow.decimals == tuple((bits >> shift & 8191) + 1000 for shift in (27, 14, 1))

    def tag(what: str, text: str) -> str:
        mac = hmac.HMAC(
            derived(f"MATRIX_KEY_VERIFICATION_MAC@hearth:home.orgHEARTH@ada:home.orgPHONEtxn{what}", 32),
            hashes.SHA256(),
        )
        mac.update(text.encode())
        return base64.b64encode(mac.finalize()).decode().rstrip("=")

    (sent,) = sas.answer(step.flow, matches=True).sends
    device, master = "ed25519:HEARTH", f"ed25519:{'B' * 43}"
    assert sent.content == {
        "mac": {device: tag(device, "A" * 43), master: tag(master, "B" * 43)},
        "keys": tag("KEY_IDS", f"{master},{device}"),
        "transaction_id": "txn",
    }


def test_a_commitment_of_known_bytes() -> None:
    """SHA-256 over the key and the canonical JSON of the whole content, relations too."""
    start = {"method": "m.sas.v1", "b": "ü", "a": [1, {"y": None, "x": True}], "unsigned": {}}
    digest = hashes.Hash(hashes.SHA256())
    digest.update('KEY{"a":[1,{"x":true,"y":null}],"b":"ü","method":"m.sas.v1","unsigned":{}}'.encode())
    assert sas.commitment("KEY", start) == base64.b64encode(digest.finalize()).decode().rstrip("=")


def test_the_table_of_signs() -> None:
    """64 different signs; spot checks at the edges of the table, by their Unicode names."""
    assert len(SIGNS) == len({sign for sign, _ in SIGNS}) == len({name for _, name in SIGNS}) == 64
    names = {0: "DOG FACE", 12: "FISH", 21: "CLOUD", 31: "ROBOT FACE", 46: "LOCK", 63: "PUSHPIN"}
    for number, name in names.items():
        assert unicodedata.name(SIGNS[number][0][0]) == name
    assert signs([63, 0]) == (SIGNS[63], SIGNS[0])


# -- how it ends -----------------------------------------------------------------------------------


def sends_cancel(step: Step, code: CancelCode) -> bool:
    """Whether it ended it with this code, and said so once."""
    said = [one.content["code"] for one in step.sends if one.type == "m.key.verification.cancel"]
    return (said, step.flow.code, step.flow.by_us, step.flow.closed) == ([code], code, True, True)


START = other(flow()).start()[0][1]
ACCEPT = other(flow()).hear("m.key.verification.start", START)[0][1]
KEY = {"key": vodozemac.Sas().public_key.to_base64(), "transaction_id": "txn"}


def accepted() -> Flow:
    return hear(flow(), "m.key.verification.start", START).flow


def begun() -> Flow:
    return sas.begin(flow()).flow


@pytest.mark.parametrize(
    ("at", "kind", "content", "code"),
    [
        (flow, "start", START | {"method": "m.qr"}, CancelCode.UNKNOWN_METHOD),
        (flow, "start", START | {"hashes": ["sha1"]}, CancelCode.UNKNOWN_METHOD),
        (flow, "start", START | {"key_agreement_protocols": ["curve25519"]}, CancelCode.UNKNOWN_METHOD),
        (
            flow,
            "start",
            START | {"message_authentication_codes": ["hkdf-hmac-sha256"]},
            CancelCode.UNKNOWN_METHOD,
        ),
        (flow, "start", START | {"short_authentication_string": ["smell"]}, CancelCode.UNKNOWN_METHOD),
        (flow, "start", START | {"short_authentication_string": 3}, CancelCode.UNKNOWN_METHOD),
        (flow, "start", START | {"method": 3}, CancelCode.INVALID_MESSAGE),
        (flow, "start", START | {"more": "\ud800"}, CancelCode.INVALID_MESSAGE),
        (flow, "start", START | {"more": float("nan")}, CancelCode.INVALID_MESSAGE),
        (flow, "start", START | {"from_device": "LAPTOP"}, CancelCode.USER_MISMATCH),
        (begun, "start", START | {"method": "m.qr"}, CancelCode.UNEXPECTED_MESSAGE),
        (begun, "accept", ACCEPT | {"commitment": 3}, CancelCode.INVALID_MESSAGE),
        (begun, "accept", ACCEPT | {"hash": "sha1"}, CancelCode.UNKNOWN_METHOD),
        (begun, "accept", ACCEPT | {"short_authentication_string": []}, CancelCode.UNKNOWN_METHOD),
        (accepted, "key", KEY | {"key": "x"}, CancelCode.INVALID_MESSAGE),
        (accepted, "key", KEY | {"key": "A" * 43}, CancelCode.INVALID_MESSAGE),
        (accepted, "key", KEY | {"key": None}, CancelCode.INVALID_MESSAGE),
        (accepted, "mac", {}, CancelCode.UNEXPECTED_MESSAGE),
        (accepted, "start", START | {"more": 1}, CancelCode.UNEXPECTED_MESSAGE),
        (flow, "key", KEY, CancelCode.UNEXPECTED_MESSAGE),
        (flow, "accept", ACCEPT, CancelCode.UNEXPECTED_MESSAGE),
        (flow, "done", {}, CancelCode.UNEXPECTED_MESSAGE),
        (flow, "dance", {}, CancelCode.UNEXPECTED_MESSAGE),
    ],
)
def test_what_cannot_be_ends_it(
    at: Callable[[], Flow], kind: str, content: dict[str, Any], code: CancelCode
) -> None:
    """Each with the code that the spec has for it."""
    assert sends_cancel(hear(at(), f"m.key.verification.{kind}", content), code)


def test_another_key_than_was_promised_ends_it() -> None:
    """Whoever could choose a key after seeing ours could choose the signs."""
    step, _ = shown(we_start=True, lies_about="key")
    assert sends_cancel(step, CancelCode.MISMATCHED_COMMITMENT)
    assert step.flow.emoji == ()


@pytest.mark.parametrize("lie", ["mac", "keys"])
@pytest.mark.parametrize("we_confirm_first", [True, False])
def test_a_key_that_is_not_vouched_for_ends_it(lie: str, *, we_confirm_first: bool) -> None:
    """Whatever people said of the signs."""
    step, them = shown(lies_about=lie)
    at = sas.answer(step.flow, matches=True).flow if we_confirm_first else step.flow
    for kind, content in them.confirm():
        step = hear(at, kind, content)
    assert sends_cancel(step, CancelCode.KEY_MISMATCH)
    assert step.flow.proven is None


@pytest.mark.parametrize(
    "wrong", [{"mac": {}}, {"mac": []}, {"keys": 3}, {"mac": dict.fromkeys(map(str, range(101)), "x")}]
)
def test_a_mac_that_vouches_for_nothing_ends_it(wrong: dict[str, Any]) -> None:
    """No keys, no map, no list, or a thousand keys."""
    step, them = shown()
    (kind, content), *_ = them.confirm()
    step = hear(step.flow, kind, content | wrong)
    assert step.flow.code in (CancelCode.KEY_MISMATCH, CancelCode.INVALID_MESSAGE)
    assert step.flow.by_us


def test_another_master_key_is_not_proven() -> None:
    """A device may vouch for keys that we do not know; only those that we know are proven."""
    step, them = shown()
    them.keys = {"ed25519:PHONE": ADA.key, f"ed25519:{'E' * 43}": "E" * 43}
    step = talk(sas.answer(step.flow, matches=True), them, *them.confirm())
    assert step.flow.proven == frozenset({"ed25519:PHONE"})
    step, them = shown()
    them.keys = {f"ed25519:{ADA.master}": "D" * 43}
    step = talk(sas.answer(step.flow, matches=True), them, *them.confirm())
    assert step.flow.code == CancelCode.KEY_MISMATCH


def test_people_who_see_other_signs_end_it() -> None:
    """On either side; before there are signs, a no is a plain no."""
    step, them = shown(agrees=False)
    ended = talk(Step(step.flow), them, *them.confirm())
    assert (ended.flow.code, ended.flow.by_us, ended.news) == ("m.mismatched_sas", False, News.CANCELLED)
    step, them = shown()
    step = talk(sas.answer(step.flow, matches=False), them)
    assert them.cancelled == step.flow.code == CancelCode.MISMATCHED_SAS
    assert sends_cancel(sas.answer(flow(), matches=False), CancelCode.USER)


def test_time_ends_it() -> None:
    """Ten minutes after it began, at whatever stage; before, where nobody starts, we do."""
    assert sas.tick(flow(), 114.0) == Step(flow())
    (start,) = sas.tick(flow(), 115.0).sends
    assert start.type == "m.key.verification.start"
    for at in (flow(), begun(), accepted(), shown()[0].flow):
        assert not sas.tick(at, 699.0).flow.closed
        assert sends_cancel(sas.tick(at, 700.0), CancelCode.TIMEOUT)


@pytest.mark.parametrize("code", [*CancelCode, "org.example.tired", "", 3, None])
def test_their_cancel_ends_it_and_is_not_answered(code: object) -> None:
    """Whatever its code: an answer could be answered."""
    step = hear(accepted(), "m.key.verification.cancel", {"code": code, "transaction_id": "txn"})
    assert (step.sends, step.news, step.flow.closed, step.flow.by_us) == ((), News.CANCELLED, True, False)
    assert step.flow.code == (code if isinstance(code, str) else "")


def test_nothing_follows_the_end() -> None:
    """A closed verification hears, says and does nothing."""
    closed = sas.cancel(flow(), CancelCode.USER).flow
    quiet = Step(closed)
    assert hear(closed, "m.key.verification.start", START) == quiet
    assert sas.begin(closed) == sas.answer(closed, matches=True) == sas.tick(closed, 9e9) == quiet
    assert sas.cancel(closed, CancelCode.TIMEOUT) == quiet


def test_every_code_has_a_reason() -> None:
    """Clients show it where they do not know the code."""
    assert set(sas.REASONS) == set(CancelCode)
    assert all(sas.cancellation(flow(), code).content["reason"] for code in CancelCode)


# -- both at once, and twice -----------------------------------------------------------------------


@pytest.mark.parametrize("we_are_smaller", [True, False])
def test_when_both_start_the_smaller_address_counts(*, we_are_smaller: bool) -> None:
    """The other start is as if it had never been; of one person's two devices, the smaller device."""
    for ours, theirs in ((US, replace(ADA, user="@z:home.org")), (replace(US, user=ADA.user), ADA)):
        one, two = (ours, theirs) if we_are_smaller else (theirs, ours)
        begun_ = sas.begin(flow(one, two))
        them = other(begun_.flow)
        theirs_ = them.start()
        step = hear(begun_.flow, *theirs_[0])
        if we_are_smaller:
            assert step.sends == ()
            them._starter = False
            step = talk(replace(step, sends=begun_.sends), them)
        else:
            step = talk(step, them)
        assert (step.flow.emoji, step.flow.decimals) == them.shown
        assert step.flow.we_started is we_are_smaller


def test_what_comes_twice_counts_once() -> None:
    """A batch that could not be committed is fetched again."""
    step, them = shown()
    macs = them.confirm()
    at = step.flow
    for kind, content in (*[("m.key.verification.start", at.start)], *macs, *macs):
        again = hear(at, kind, dict(content))
        assert not again.flow.closed
        at = again.flow
    assert sas.answer(at, matches=True).news is News.PROVEN


def test_a_yes_before_there_are_signs_is_none() -> None:
    """Nobody can have compared anything."""
    for at in (flow(), begun(), accepted()):
        assert sas.answer(at, matches=True) == Step(at)
    step, _ = shown()
    once = sas.answer(step.flow, matches=True)
    assert sas.answer(once.flow, matches=True) == Step(once.flow)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(
    ["method", "from_device", "key", "mac", "keys", "commitment", "hashes", "code", "hash", "transaction_id"]
)
kinds = st.sampled_from(["start", "accept", "key", "mac", "done", "cancel", "ready", "request", "\ud800"])


@given(
    st.integers(0, 3), st.lists(st.tuples(kinds, st.dictionaries(names, anything, max_size=5)), max_size=6)
)
def test_garbage_never_raises_and_proves_nothing(
    stage: int, events: list[tuple[str, dict[str, Any]]]
) -> None:
    """At every stage, any events: at most one cancel, never the end that says verified."""
    at = (flow, begun, accepted, lambda: sas.answer(shown()[0].flow, matches=True).flow)[stage]()
    cancels = 0
    for kind, content in events:
        step = hear(at, f"m.key.verification.{kind}", content)
        assert step.news is not News.PROVEN
        cancels += sum(one.type == "m.key.verification.cancel" for one in step.sends)
        at = step.flow
    assert cancels <= 1
    assert at.proven is None
