"""Secret storage (SSSS), `m.secret_storage.v1.aes-hmac-sha2`: one key, and secrets that it seals. Pure.

    key, name of the secret --HKDF-SHA-256, salt of 32 zeros--> AES key | MAC key
    secret --AES-256-CTR--> ciphertext --HMAC-SHA-256--> mac

Promises: a secret comes out as it went in or not at all; a secret that was moved to another name does
not open. Randomness comes in. Reads base64 with padding and without, as the spec asks, and writes it without.
Source: client-server API 1.19, "Secrets", "Storage".
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bridge.matrix.crypto.recovery import KEY_BYTES
from bridge.matrix.identity import unpadded

if TYPE_CHECKING:
    from collections.abc import Mapping

ALGORITHM: Final = "m.secret_storage.v1.aes-hmac-sha2"
IV_BYTES: Final = 16
_ZEROS: Final = bytes(32)


class SealedError(ValueError):
    """A secret, or the description of a key, that this key does not open, or that is none; says why."""


def describe(key: bytes, iv: bytes, name: str) -> dict[str, Any]:
    """The content of `m.secret_storage.key.<id>`: what lets anybody try whether they have this key.

    `iv` are 16 random bytes; `name` is what clients show.
    """
    iv, ciphertext, mac = _sealed(key, "", _ZEROS, iv)
    del ciphertext  # the spec keeps the MAC of the zeros only
    return {"algorithm": ALGORITHM, "name": name, "iv": unpadded(iv), "mac": unpadded(mac)}


def fits(key: bytes, description: Mapping[str, Any]) -> bool:
    """Whether `key` is the one that was described; raises `SealedError` where that cannot be told.

    A description may leave out what the key could be tried on; it counts as fitting, as the spec asks, and
    what the key then opens proves itself by its MAC.
    """
    if description.get("algorithm") != ALGORITHM:
        raise SealedError("secret storage uses an algorithm that Hearth does not know")
    iv, mac = description.get("iv"), description.get("mac")
    if iv is None or mac is None:
        return True
    return hmac.compare_digest(_sealed(key, "", _ZEROS, unbase64(iv, IV_BYTES))[2], unbase64(mac))


def seal(key: bytes, name: str, secret: str, iv: bytes) -> dict[str, str]:
    """The secret as it lies in account data under the id of its key. `iv` are 16 random bytes."""
    parts = _sealed(key, name, secret.encode(), iv)
    return dict(zip(("iv", "ciphertext", "mac"), map(unpadded, parts), strict=True))


def unseal(key: bytes, name: str, sealed: Mapping[str, Any]) -> str:
    """The secret; raises `SealedError` where key, name or content are not those that it was sealed with."""
    iv, ciphertext = unbase64(sealed.get("iv"), IV_BYTES), unbase64(sealed.get("ciphertext"))
    aes, mac = _derived(key, name)
    if not hmac.compare_digest(hmac.digest(mac, ciphertext, "sha256"), unbase64(sealed.get("mac"))):
        raise SealedError(f"{name} was sealed with another key, or changed since")
    try:
        return _ctr(aes, iv, ciphertext).decode()
    except UnicodeDecodeError:
        raise SealedError(f"{name} is not a text") from None


def unbase64(text: object, size: int | None = None) -> bytes:
    """The bytes of base64, padded or not; raises `SealedError` for anything else, or another `size`."""
    if not isinstance(text, str):
        raise SealedError("a field is missing")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise SealedError("a field is not base64") from None
    if size is not None and len(raw) != size:
        raise SealedError(f"a field has {len(raw)} bytes instead of {size}")
    return raw


def _sealed(key: bytes, name: str, clear: bytes, iv: bytes) -> tuple[bytes, bytes, bytes]:
    if len(iv) != IV_BYTES:
        raise ValueError("an initialization vector has 16 bytes")
    # Bit 63 of the counter is 0: some implementations of AES-CTR count in 64 bits only.
    iv = iv[:8] + bytes([iv[8] & 0x7F]) + iv[9:]
    aes, mac = _derived(key, name)
    ciphertext = _ctr(aes, iv, clear)
    return iv, ciphertext, hmac.digest(mac, ciphertext, "sha256")


def _derived(key: bytes, name: str) -> tuple[bytes, bytes]:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes")
    both = HKDF(SHA256(), 2 * KEY_BYTES, salt=bytes(32), info=name.encode()).derive(key)
    return both[:KEY_BYTES], both[KEY_BYTES:]


def _ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    """AES-256-CTR, which is the same in both directions."""
    both = Cipher(algorithms.AES256(key), modes.CTR(iv)).encryptor()
    return both.update(data) + both.finalize()
