"""What vouches for a device: every link of the chain is a signature, and every one that is missing shows."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bridge.matrix.crypto.sas import Party
from bridge.matrix.crypto.trust import device_of, master_object, party_of, trust
from bridge.matrix.identity import Identity, public, sign
from policies.room import Trust
from tests.matrix.crypto.test_sas import anything

US, ADA = "@hearth:home.org", "@ada:home.org"


def key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


OURS = Identity(key(1), key(2), key(3))
HERS = Identity(key(4), key(5), key(6))
PHONE = key(7)
SIGNING = public(OURS.user_signing)


def answered(*, signed: bool = True, verified: bool = True, device: str = "PHONE") -> dict[str, Any]:
    """An answer of `/keys/query` about Ada, with one device."""
    told = HERS.published(ADA)
    if verified:
        sign(told["master_key"], US, SIGNING, OURS.user_signing)
    keys = {f"ed25519:{device}": public(PHONE), f"curve25519:{device}": "curve"}
    phone = {"user_id": ADA, "device_id": device, "algorithms": [], "keys": keys}
    sign(phone, ADA, device, PHONE)
    if signed:
        sign(phone, ADA, public(HERS.self_signing), HERS.self_signing)
    phone["unsigned"] = {"device_display_name": "a phone"}
    return {
        "device_keys": {ADA: {device: phone}},
        "master_keys": {ADA: told["master_key"]},
        "self_signing_keys": {ADA: told["self_signing_key"]},
    }


def judge(keys: dict[str, Any], device: str = "PHONE", user_signing: str = SIGNING) -> Trust:
    return trust(keys, ADA, device, us=US, user_signing=user_signing)


def test_the_three_degrees() -> None:
    """Verified by us, signed by its owner, or neither; without a key of ours nobody is verified."""
    assert judge(answered()) is Trust.VERIFIED
    assert judge(answered(verified=False)) is Trust.SIGNED
    assert judge(answered(signed=False)) is Trust.UNSIGNED
    assert judge(answered(), user_signing="") is Trust.SIGNED
    assert judge(answered(), user_signing=public(key(9))) is Trust.SIGNED
    assert judge(answered(), "LAPTOP") is Trust.UNSIGNED
    assert judge({}) is Trust.UNSIGNED


@pytest.mark.parametrize(
    "path",
    [
        ("master_keys", ADA, "keys"),
        ("master_keys", ADA, "usage"),
        ("master_keys", ADA, "user_id"),
        ("self_signing_keys", ADA, "keys"),
        ("self_signing_keys", ADA, "usage"),
        ("self_signing_keys", ADA, "signatures"),
        ("device_keys", ADA, "PHONE", "signatures"),
        ("device_keys", ADA, "PHONE", "keys"),
        ("device_keys", ADA, "PHONE", "user_id"),
        ("device_keys", ADA, "PHONE", "device_id"),
    ],
)
def test_every_link_counts(path: tuple[str, ...]) -> None:
    """Whatever of the chain is changed, nothing vouches for the device."""
    values: list[Any] = [None, {}, [], "x", {"ed25519:x": "x"}]
    for value in values:
        keys = copy.deepcopy(answered())
        at = keys
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value
        assert judge(keys) is Trust.UNSIGNED


def test_a_new_identity_is_not_verified() -> None:
    """Whoever has reset an identity has to be compared with again: our signature is on the old key."""
    keys, new = answered(), Identity(key(10), key(11), key(12)).published(ADA)
    new["master_key"]["signatures"] = keys["master_keys"][ADA]["signatures"]
    keys |= {"master_keys": {ADA: new["master_key"]}, "self_signing_keys": {ADA: new["self_signing_key"]}}
    phone = keys["device_keys"][ADA]["PHONE"]
    assert judge(keys) is Trust.UNSIGNED
    sign(phone, ADA, public(key(11)), key(11))
    assert judge(keys) is Trust.SIGNED


def test_a_device_named_like_an_identity_vouches_for_nobody() -> None:
    """A server could make one key pass for the other (spec, "Key and signature security")."""
    for one in (HERS.master, HERS.self_signing):
        device = public(one)
        keys = answered(device=device)
        assert judge(keys, device) is Trust.UNSIGNED
        assert party_of(keys, ADA, device) is None


def test_a_side_is_what_signed_itself() -> None:
    """A device has the key that it signed its keys with; with an identity, its master key too."""
    master = public(HERS.master)
    assert party_of(answered(), ADA, "PHONE") == Party(ADA, "PHONE", public(PHONE), master)
    alone = {"device_keys": answered()["device_keys"]}
    assert party_of(alone, ADA, "PHONE") == Party(ADA, "PHONE", public(PHONE), None)
    del alone["device_keys"][ADA]["PHONE"]["signatures"][ADA]["ed25519:PHONE"]
    assert party_of(alone, ADA, "PHONE") is None
    assert party_of({}, ADA, "PHONE") is None
    assert party_of(answered(device="PH\nNE"), ADA, "PH\nNE") is None


def test_a_device_is_found_by_both_its_keys() -> None:
    """The room's session names two keys; one of somebody else's is not enough."""
    assert device_of(answered(), ADA, curve25519="curve", ed25519=public(PHONE)) == "PHONE"
    assert device_of(answered(), ADA, curve25519="curve", ed25519="other") is None
    assert device_of(answered(), ADA, curve25519="other", ed25519=public(PHONE)) is None
    assert device_of(answered(), US, curve25519="curve", ed25519=public(PHONE)) is None


def test_what_is_to_be_signed_carries_no_signature() -> None:
    """Ours is added to the key as it was published."""
    assert master_object(answered(), ADA) == {
        "user_id": ADA,
        "usage": ["master"],
        "keys": {f"ed25519:{public(HERS.master)}": public(HERS.master)},
    }


@given(
    st.dictionaries(
        st.sampled_from(["device_keys", "master_keys", "self_signing_keys"]),
        anything
        | st.dictionaries(
            st.just(ADA),
            anything
            | st.dictionaries(
                st.sampled_from(["PHONE", "keys", "usage", "signatures", "user_id"]), anything, max_size=4
            ),
        ),
    )
)
def test_garbage_vouches_for_nobody(keys: dict[str, Any]) -> None:
    """Whatever a server answers, it never raises."""
    assert judge(keys) is Trust.UNSIGNED
    assert party_of(keys, ADA, "PHONE") is None
    assert device_of(keys, ADA, curve25519="a", ed25519="b") is None
    assert master_object(keys, ADA) is not None
