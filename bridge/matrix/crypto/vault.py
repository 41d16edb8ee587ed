"""Secret storage: secrets that lie encrypted in the account data on the server. Pure.

Owns the algorithm `m.secret_storage.v1.aes-hmac-sha2`: from the storage key and the name of the secret HKDF
(SHA-256, a salt of 32 zeros) makes an AES-256 key and an HMAC-SHA-256 key; the secret is encrypted in counter
mode, its ciphertext authenticated. A key is recognised by what 32 zeros under the empty name become.

Source: client-server API, "Secret storage".
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Mapping

ALGORITHM: Final = "m.secret_storage.v1.aes-hmac-sha2"
IV_BYTES: Final = 16
_KEY: Final = 32
_ZEROS: Final = bytes(_KEY)


class WrongKey(ValueError):
    """The key does not open this, or it was changed."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret as it lies on the server: raw bytes of `iv`, `ciphertext` and `mac`."""

    iv: bytes
    ciphertext: bytes
    mac: bytes

    def plain(self) -> dict[str, str]:
        """As JSON, in unpadded base64."""
        return {name: _text(getattr(self, name)) for name in ("iv", "ciphertext", "mac")}


def seal(key: bytes, name: str, secret: bytes, random: bytes) -> Sealed:
    """`secret` under the storage key (32 bytes) and its name; `random` are 16 bytes, never used twice."""
    iv = bytearray(random[:IV_BYTES])
    iv[8] &= 0x7F  # bit 63 is 0, because counters of 64 bits overflow differently
    return _seal(key, name, secret, bytes(iv))


def _seal(key: bytes, name: str, secret: bytes, iv: bytes) -> Sealed:
    encrypting, authenticating = _keys(key, name)
    ciphertext = _counter(encrypting, iv, secret)
    mac = HMAC(authenticating, hashes.SHA256())
    mac.update(ciphertext)
    return Sealed(iv, ciphertext, mac.finalize())


def unseal(key: bytes, name: str, sealed: object) -> bytes:
    """The secret in what lies on the server. Raises `WrongKey`, whatever it is."""
    iv, ciphertext, mac = (_bytes(sealed, part) for part in ("iv", "ciphertext", "mac"))
    encrypting, authenticating = _keys(key, name)
    check = HMAC(authenticating, hashes.SHA256())
    check.update(ciphertext)
    try:
        check.verify(mac)
    except InvalidSignature:
        raise WrongKey("the key does not open it") from None
    if len(iv) != IV_BYTES:
        raise WrongKey("it is damaged")
    return _counter(encrypting, iv, ciphertext)


def description(key: bytes, random: bytes) -> dict[str, str]:
    """What tells of a storage key on the server, `m.secret_storage.key.<id>`, by which it is recognised."""
    proof = seal(key, "", _ZEROS, random).plain()
    return {"algorithm": ALGORITHM, "iv": proof["iv"], "mac": proof["mac"]}


def is_of(key: bytes, told: Mapping[str, Any]) -> bool:
    """Whether `told` describes this storage key. Where it has no proof in it, that cannot be known: no."""
    if told.get("algorithm") != ALGORITHM:
        return False
    try:
        iv, mac = _bytes(told, "iv"), _bytes(told, "mac")
    except WrongKey:
        return False
    return len(iv) == IV_BYTES and bytes_eq(_seal(key, "", _ZEROS, iv).mac, mac)


def _keys(key: bytes, name: str) -> tuple[bytes, bytes]:
    made = HKDF(hashes.SHA256(), 2 * _KEY, _ZEROS, name.encode()).derive(key)
    return made[:_KEY], made[_KEY:]


def _counter(key: bytes, iv: bytes, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


def _bytes(value: object, name: str) -> bytes:
    text = value.get(name) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise WrongKey(f"it has no {name}")
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise WrongKey("it is damaged") from None
