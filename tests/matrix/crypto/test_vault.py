"""Recovery keys and secret storage, by vectors of other implementations and for any key and secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.matrix.crypto.recovery import NoRecoveryKey, decode, encode
from bridge.matrix.crypto.vault import ALGORITHM, WrongKey, description, is_of, seal, unseal

KEYS = st.binary(min_size=32, max_size=32)
RANDOM = st.binary(min_size=16, max_size=16)

# Facts of matrix-rust-sdk's tests (crates/matrix-sdk-crypto/src/secret_storage.rs).
WRITTEN = "EsT           pRvZTnjck8    YrhRAtw XLS84Nr2r9S9LGAWDaExVAPBvLRK   "
BYTES = bytes((
    159, 189, 70, 187, 52, 81, 113, 198, 246, 2, 44, 154, 37, 213, 104, 27, 165, 78, 236, 106, 108, 73, 83,
    243, 173, 192, 185, 110, 157, 145, 173, 163,
))  # fmt: skip
OTHER = "EsTj 3yST y93F SLpB jJsz eAXc 2XzA ygD3 w69H fGaN TKBj jXEd"
OF_OTHER = {
    "algorithm": ALGORITHM,
    "iv": "xv5b6/p3ExEw++wTyfSHEg==",
    "mac": "ujBBbXahnTAMkmPUX2/0+VTfUh63pGyVRuBcDMgmJC8=",
}


def test_what_others_write_is_read() -> None:
    """White space does not count; ours is in groups of four, and the same letters."""
    assert decode(WRITTEN) == BYTES
    assert encode(BYTES).replace(" ", "") == "".join(WRITTEN.split())
    assert encode(decode(OTHER)) == OTHER


def test_a_key_of_others_is_recognised() -> None:
    """By its proof, with and without padding; another key is not."""
    assert is_of(decode(OTHER), OF_OTHER)
    assert is_of(decode(OTHER), {name: text.rstrip("=") for name, text in OF_OTHER.items()})
    assert not is_of(BYTES, OF_OTHER)
    assert not is_of(decode(OTHER), {"algorithm": ALGORITHM})
    assert not is_of(decode(OTHER), OF_OTHER | {"algorithm": "m.secret_storage.v1.curve25519-aes-sha2"})


@given(KEYS)
def test_any_key_comes_back(key: bytes) -> None:
    assert decode(encode(key)) == key


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "part is missing"),
        ("EsTp RvZT", "part is missing"),
        ("EsTpRvZTnjck8YrhRAtwXLS84Nr2r9S9LGAWDaExVAPBvLRk", "letter is wrong"),
        (OTHER[:-1] + "0", "no recovery key has"),
        (OTHER + OTHER, "too long"),
        ("My password 1", "part is missing"),
        ("1" * 48, "does not begin"),
    ],
)
def test_what_is_no_recovery_key_says_why(text: str, why: str) -> None:
    """And never repeats what was given."""
    with pytest.raises(NoRecoveryKey, match=why) as error:
        decode(text)
    assert not text or text not in str(error.value)


@given(KEYS, st.text(max_size=40), st.binary(max_size=200), RANDOM)
def test_a_secret_is_opened_by_its_key_and_name_only(key: bytes, name: str, secret: bytes, iv: bytes) -> None:
    """Letter by letter; not with another key, not as another secret, not if a bit was changed."""
    sealed = seal(key, name, secret, iv).plain()
    assert unseal(key, name, sealed) == secret
    assert sealed["iv"] != sealed["mac"]
    for other_key, other_name in ((bytes(byte ^ 1 for byte in key), name), (key, name + "x")):
        with pytest.raises(WrongKey):
            unseal(other_key, other_name, sealed)
    changed = ("B" if sealed["mac"][0] == "A" else "A") + sealed["mac"][1:]
    with pytest.raises(WrongKey):
        unseal(key, name, sealed | {"mac": changed})


@pytest.mark.parametrize(
    "sealed",
    [None, [], {}, {"iv": 7}, {"iv": "AA", "ciphertext": "AA", "mac": "AA"}, {"iv": "%", "ciphertext": ""}],
)
def test_what_is_damaged_opens_with_nothing(sealed: object) -> None:
    with pytest.raises(WrongKey):
        unseal(BYTES, "m.cross_signing.master", sealed)


@given(KEYS, KEYS, RANDOM)
def test_a_description_is_of_one_key(key: bytes, other: bytes, random: bytes) -> None:
    told = description(key, random)
    assert is_of(key, told)
    assert is_of(other, told) is (key == other)
