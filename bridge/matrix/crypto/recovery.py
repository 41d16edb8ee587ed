"""Recovery keys: 32 bytes as 48 letters and digits that a person can write down. Pure.

    EsTj 3yST y93F SLpB jJsz eAXc 2XzA ygD3 w69H fGaN TKBj jXEd

Source: client-server API, "Cryptographic key representation": the bytes 0x8B 0x01, the key, and a byte that
makes the XOR of all of them zero, in base58 (the alphabet of Bitcoin), in groups of four.
"""

from __future__ import annotations

from functools import reduce
from operator import xor
from typing import Final

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PREFIX: Final = bytes((0x8B, 0x01))
_KEY_BYTES: Final = 32
_WHOLE: Final = len(_PREFIX) + _KEY_BYTES + 1
_LONGEST: Final = 200


class NoRecoveryKey(ValueError):
    """What was given is no recovery key; the text says what is wrong, never what was given."""


def encode(key: bytes) -> str:
    """A key of 32 bytes as people write it down."""
    if len(key) != _KEY_BYTES:
        raise NoRecoveryKey(f"a key has {_KEY_BYTES} bytes")
    whole = _PREFIX + key
    number = int.from_bytes(whole + bytes((reduce(xor, whole),)), "big")
    letters = ""
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        letters = _ALPHABET[digit] + letters
    return " ".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def decode(text: str) -> bytes:
    """The 32 bytes of what somebody typed; white space does not count. Raises `NoRecoveryKey`."""
    letters = "".join(text[:_LONGEST].split())
    number = 0
    for letter in letters:
        digit = _ALPHABET.find(letter)
        if digit < 0:
            raise NoRecoveryKey("it has a letter that no recovery key has (0, O, I and l never occur)")
        number = number * len(_ALPHABET) + digit
    try:
        whole = number.to_bytes(_WHOLE, "big")
    except OverflowError:
        raise NoRecoveryKey("it is too long") from None
    if not whole.startswith(_PREFIX):
        raise NoRecoveryKey("it does not begin as a recovery key does, or a part is missing")
    if reduce(xor, whole):
        raise NoRecoveryKey("a letter is wrong somewhere: its check does not come out")
    return whole[len(_PREFIX) : -1]
