"""Recovery keys, secret storage and backed-up keys: as other clients make and read them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import vodozemac
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from nio.crypto import InboundGroupSession, OutboundGroupSession

from bridge.matrix.crypto import recovery, room_keys, vault
from bridge.matrix.crypto.backup import Voucher, public_of, voucher
from bridge.matrix.crypto.ledger import Ledger, waiting
from bridge.matrix.crypto.room_keys import UnusableError
from bridge.matrix.crypto.vault import SealedError
from bridge.matrix.identity import public, sign, unpadded
from tests.matrix import crypto_vectors as known

KEYS = st.binary(min_size=32, max_size=32)
IVS = st.binary(min_size=16, max_size=16)
_LETTERS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


# -- the recovery key ------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "raw"), known.RECOVERY_KEYS.items())
def test_recovery_keys_are_those_of_other_clients(text: str, raw: str) -> None:
    """The vectors of matrix-rust-sdk and matrix-js-sdk, both ways, with whitespace of any kind."""
    assert recovery.encode(bytes.fromhex(raw)) == text
    assert recovery.decode(text).hex() == raw
    assert recovery.decode("\n" + text.replace(" ", " \t\r\n")).hex() == raw
    assert recovery.decode(text.replace(" ", "")).hex() == raw


@given(KEYS)
def test_every_key_can_be_written_and_read(key: bytes) -> None:
    """What is shown is read back, has its length and its groups, and begins as clients expect."""
    text = recovery.encode(key)
    assert recovery.decode(text) == key
    assert len(text.replace(" ", "")) == recovery.LENGTH
    assert {len(group) for group in text.split(" ")} == {4}
    assert text.startswith("Es")


@given(KEYS, st.data())
def test_a_slip_of_the_pen_is_found(key: bytes, data: st.DataObject) -> None:
    """One letter that is another one, or two neighbours exchanged, is never read as some key."""
    letters = recovery.encode(key).replace(" ", "")
    at = data.draw(st.integers(0, len(letters) - 2))
    wrong = data.draw(st.sampled_from(_LETTERS))
    changed = letters[:at] + wrong + letters[at + 1 :]
    exchanged = letters[:at] + letters[at + 1] + letters[at] + letters[at + 2 :]
    for other in (changed, exchanged):
        if other == letters:
            continue
        try:
            # The parity is one byte: of 256 wrong keys one passes, and is then not the account's.
            assert recovery.decode(other) != key
        except recovery.NotAKeyError as error:
            assert letters not in str(error)  # noqa: PT017 - either outcome is right, and this holds for one


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has 0 letters"),
        ("EsTc LW2K PGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE4", "has 47 letters"),
        ("EsTc LW2K PGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE4d d", "has 49 letters"),
        ("EsTc LW2K PGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE4e", "parity"),
        ("EsTc LW2K PGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE0d", "letter 47 cannot"),
        ("correct horse battery staple", "letter 24 cannot"),
        ("correct horse battery stab", "has 23 letters"),
        ("ü" * 48, "letter 1 cannot"),
        ("z" * 48, "no recovery key of Matrix"),
        ("1" * 48, "no recovery key of Matrix"),
        ("Az" * 24, "no recovery key of Matrix"),
    ],
)
def test_what_is_no_recovery_key_is_said(text: str, why: str) -> None:
    """Length, letters, kind and parity are told apart, and the text itself is not repeated."""
    with pytest.raises(recovery.NotAKeyError, match=why) as caught:
        recovery.decode(text)
    assert not text or text not in str(caught.value)


# -- secret storage --------------------------------------------------------------------------------


def test_secret_storage_opens_what_other_clients_sealed() -> None:
    """The vector of matrix-rust-sdk: its key fits, its secret opens and is the seed of that identity."""
    key = recovery.decode(known.STORAGE_KEY)
    assert vault.fits(key, known.STORAGE_DESCRIPTION)
    assert not vault.fits(bytes(32), known.STORAGE_DESCRIPTION)
    seed = vault.unseal(key, "m.cross_signing.master", known.STORED_MASTER)
    assert seed == known.MASTER_SEED
    assert public(Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed))) == known.MASTER_PUBLIC


def test_secret_storage_seals_as_other_clients_do() -> None:
    """From the IVs of the vector come its MAC and its ciphertext; base64 is written without padding."""
    key = recovery.decode(known.STORAGE_KEY)
    described = vault.describe(key, base64.b64decode(known.STORAGE_DESCRIPTION["iv"]), "Hearth")
    assert described == {
        **{name: value.rstrip("=") for name, value in known.STORAGE_DESCRIPTION.items()},
        "name": "Hearth",
    }
    iv = base64.b64decode(known.STORED_MASTER["iv"])
    sealed = vault.seal(key, "m.cross_signing.master", known.MASTER_SEED, iv)
    assert sealed == {name: value.rstrip("=") for name, value in known.STORED_MASTER.items()}


@given(KEYS, IVS, st.text(), st.text(min_size=1))
def test_secrets_come_back_under_their_name_and_key_only(
    key: bytes, iv: bytes, secret: str, name: str
) -> None:
    """Sealed and opened gives the same; another name, another key or a changed field gives nothing."""
    sealed = vault.seal(key, name, secret, iv)
    assert vault.unseal(key, name, sealed) == secret
    assert base64.b64decode(sealed["iv"] + "==")[8] < 128, "bit 63 of the counter is set"
    padded = {part: text + "=" * (-len(text) % 4) for part, text in sealed.items()}
    assert vault.unseal(key, name, padded) == secret
    for other_key, other_name in ((bytes([key[0] ^ 1]) + key[1:], name), (key, name + "x")):
        with pytest.raises(SealedError, match="another key"):
            vault.unseal(other_key, other_name, sealed)
    with pytest.raises(SealedError):
        vault.unseal(key, name, {**sealed, "ciphertext": sealed["ciphertext"] + "AAAA"})


@pytest.mark.parametrize(
    "sealed",
    [
        {},
        {"iv": 1, "ciphertext": None, "mac": []},
        {"iv": "AAAA", "ciphertext": "", "mac": ""},
        {"iv": "A" * 22, "ciphertext": "%", "mac": ""},
        {"iv": "A" * 22, "ciphertext": "", "mac": "A"},
        {"iv": "ü" * 22, "ciphertext": "", "mac": ""},
    ],
)
def test_garbage_in_account_data_is_refused(sealed: dict[str, Any]) -> None:
    """Whatever lies in account data, it opens or is refused; nothing else is raised."""
    with pytest.raises(SealedError):
        vault.unseal(bytes(32), "x", sealed)


def test_a_key_that_nobody_can_try_is_told_apart() -> None:
    """Without IV and MAC a key is taken to fit, as the spec asks; an unknown algorithm is said."""
    assert vault.fits(bytes(32), {"algorithm": vault.ALGORITHM})
    for description in ({}, {"algorithm": "m.secret_storage.v2"}):
        with pytest.raises(SealedError, match="does not know"):
            vault.fits(bytes(32), description)
    with pytest.raises(SealedError):
        vault.fits(bytes(32), {**known.STORAGE_DESCRIPTION, "iv": 7})


# -- the backup ------------------------------------------------------------------------------------


def private(key: str) -> vodozemac.PkDecryption:
    return vodozemac.PkDecryption.from_key(vodozemac.Curve25519SecretKey.from_bytes(base64.b64decode(key)))


def test_a_key_that_another_client_backed_up_opens_its_message() -> None:
    """The vector of matrix-js-sdk: decrypted, imported, and it opens the message that it belongs to."""
    key = private(known.BACKUP_PRIVATE)
    session = room_keys.opened(known.BACKED_UP, key, known.BACKUP_ROOM, known.BACKUP_SESSION)
    assert (session.sender_key, session.ed25519) == (known.BACKUP_SENDER, known.BACKUP_SIGNING)
    clear, index = session.decrypt(known.MEGOLM_CIPHERTEXT)
    assert (json.loads(clear)["content"]["body"], index) == (known.MEGOLM_BODY, 0)
    again = room_keys.sealed(session, key.public_key, ours=False)
    assert room_keys.opened(again, key, known.BACKUP_ROOM, known.BACKUP_SESSION).pickle() == session.pickle()


def made(room: str = "!r:x", chain: tuple[str, ...] = ()) -> tuple[OutboundGroupSession, InboundGroupSession]:
    outbound = OutboundGroupSession()
    outbound.mark_as_shared()
    return outbound, InboundGroupSession(outbound.session_key, "signing", "sender", room, list(chain))


def test_what_is_backed_up_is_what_comes_back() -> None:
    """Sender, claimed key, chain and ratchet; the index and the count of forwards stand beside in clear."""
    key = vodozemac.PkDecryption()
    outbound, _ = made()
    outbound.encrypt("first")
    late = InboundGroupSession(outbound.session_key, "signing", "sender", "!r:x", ["one", "two"])
    data = room_keys.sealed(late, key.public_key, ours=True)
    assert {name: data[name] for name in ("first_message_index", "forwarded_count", "is_verified")} == {
        "first_message_index": 1,
        "forwarded_count": 2,
        "is_verified": True,
    }
    assert not any("=" in part for part in data["session_data"].values())
    back = room_keys.opened(data, key, "!r:x", late.id)
    assert (back.sender_key, back.ed25519, back.forwarding_chain) == ("sender", "signing", ["one", "two"])
    assert back.decrypt(outbound.encrypt("second")) == ("second", 1)


def test_a_backed_up_key_under_a_wrong_name_or_changed_is_refused() -> None:
    """Another session's id, another room, another key, another content, no content at all: no key."""
    key = vodozemac.PkDecryption()
    session = made()[1]
    data = room_keys.sealed(session, key.public_key, ours=False)
    boxed = data["session_data"]
    other = made()[1]

    def encrypted(told: object) -> dict[str, Any]:
        box = vodozemac.PkEncryption.from_key(key.public_key).encrypt(json.dumps(told).encode())
        parts = {"ciphertext": box.ciphertext, "mac": box.mac, "ephemeral": box.ephemeral_key}
        return {"session_data": {name: unpadded(part) for name, part in parts.items()}}

    packed = room_keys.packed(session)
    wrong: list[object] = [
        None,
        {},
        {"session_data": []},
        {"session_data": {**boxed, "mac": "AAAAAAAAAAA"}},
        {"session_data": {**boxed, "mac": 1}},
        {"session_data": {**boxed, "ephemeral": "A"}},
        {"session_data": {**boxed, "ciphertext": boxed["ciphertext"][:-24]}},
        encrypted([]),
        encrypted({**packed, "algorithm": "m.megolm.v2"}),
        encrypted({**packed, "sender_key": None}),
        encrypted({**packed, "sender_claimed_keys": ["ed25519"]}),
        encrypted({**packed, "session_key": "AQ"}),
        encrypted({**packed, "session_key": packed["session_key"][:-8]}),
        encrypted({**packed, "room_id": "!other:x"}),
    ]
    for one in wrong:
        with pytest.raises(UnusableError):
            room_keys.opened(one, key, "!r:x", session.id)
    with pytest.raises(UnusableError, match="another session"):
        room_keys.opened(data, key, "!r:x", other.id)
    with pytest.raises(UnusableError):
        room_keys.opened(data, vodozemac.PkDecryption(), "!r:x", session.id)
    assert room_keys.opened(encrypted(packed), key, "!r:x", session.id).id == session.id


def test_only_the_same_ratchet_from_earlier_on_takes_the_place_of_a_key() -> None:
    """A key from a backup widens what we have; one that was made up under the same id does not."""
    outbound, early = made()
    outbound.encrypt("first")
    late = InboundGroupSession(outbound.session_key, "signing", "sender", "!r:x")
    assert room_keys.continues(late, early)
    assert not room_keys.continues(early, late), "it would lose the first message"
    assert not room_keys.continues(late, late)
    elsewhere = InboundGroupSession.import_session(early.export_session(0), "signing", "sender", "!other:x")
    assert not room_keys.continues(late, elsewhere)
    # The exported form is not signed: whoever knows the id can put another ratchet under it.
    exported = bytearray(base64.b64decode(early.export_session(0) + "=="))
    exported[10] ^= 1
    forged = InboundGroupSession.import_session(unpadded(bytes(exported)), "signing", "sender", "!r:x")
    assert forged.id == late.id
    assert not room_keys.continues(late, forged)


def test_a_backup_is_vouched_for_by_our_identity_our_device_or_its_key() -> None:
    """The vector of matrix-js-sdk is signed by its device; without that or its key nobody vouches."""
    ours = {
        "user_id": known.BACKUP_USER,
        "device_id": known.BACKUP_DEVICE,
        "master": known.MASTER_PUBLIC,
        "fingerprint": known.BACKUP_DEVICE_KEY,
        "keys": [],
    }
    bare = {"public_key": known.BACKUP_AUTH_DATA["public_key"]}
    key = base64.b64decode(known.BACKUP_PRIVATE)
    assert public_of(key) == bare["public_key"]

    def vouched(auth_data: dict[str, Any], **more: Any) -> Voucher | None:
        return voucher(auth_data, **{**ours, **more})

    assert vouched(known.BACKUP_AUTH_DATA) is Voucher.DEVICE
    assert vouched(known.BACKUP_AUTH_DATA, device_id="other") is None
    assert vouched(known.BACKUP_AUTH_DATA, user_id="@mallory:localhost") is None
    assert vouched(known.BACKUP_AUTH_DATA, fingerprint=known.MASTER_PUBLIC) is None
    assert vouched({**known.BACKUP_AUTH_DATA, "public_key": known.BACKUP_SENDER}) is None
    assert vouched(bare) is None
    assert vouched(bare, keys=[bytes(32), key]) is Voucher.KEY
    assert vouched(bare, keys=[bytes(32)]) is None
    seed = Ed25519PrivateKey.from_private_bytes(base64.b64decode(known.MASTER_SEED))
    signed: dict[str, Any] = dict(bare)
    sign(signed, known.BACKUP_USER, public(seed), seed)
    assert vouched(signed) is Voucher.MASTER
    assert vouched({**signed, "public_key": known.BACKUP_SENDER}) is None
    for garbage in (
        {},
        {"public_key": 1},
        {**bare, "signatures": []},
        {**bare, "signatures": {ours["user_id"]: 1}},
    ):
        assert vouched(garbage) is None


def test_the_ledger_remembers_one_backup_and_is_private(tmp_path: Any) -> None:
    """What is in the newest backup, what came from one, and a restore that is not finished survive."""
    ledger = Ledger(tmp_path)
    ledger.record("1", {"a": 0, "b": 3})
    ledger.record("1", {"c": 1}, imported=True)
    ledger.begin_restore("1")
    again = Ledger(tmp_path)
    assert again.uploaded("1") == {"a": 0, "b": 3, "c": 1}
    assert (again.imported(), again.restoring("1"), again.restoring("2")) == (frozenset("c"), True, False)
    again.record("2", {"a": 0})
    again.end_restore()
    again.received(["c", "z"])
    assert (ledger.uploaded("1"), ledger.uploaded("2")) == ({}, {"a": 0})
    assert (ledger.imported(), ledger.restoring("1")) == (frozenset(), False)
    assert waiting("abc", ledger.uploaded("2")) == 2
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
    assert Ledger(tmp_path, read_only=True).uploaded("2") == {"a": 0}
