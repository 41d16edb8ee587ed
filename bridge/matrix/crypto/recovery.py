"""The recovery key as people read and type it: 48 letters in groups of four. Pure.

    8B 01 | 32 bytes of key | parity: all bytes before it, XORed        -> base58, a space after every 4th

Source: Matrix spec, appendices, "Cryptographic key representation". What opens secret storage is shown
this way by every client, so a key made here opens in Element and the other way round.
"""

from __future__ import annotations

from functools import reduce
from operator import xor
from typing import Final

KEY_BYTES: Final = 32
_PREFIX: Final = b"\x8b\x01"
_LETTERS: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
"""Base58: no `0`, `O`, `I` and `l`, which look alike."""
_GROUP: Final = 4
_WHOLE: Final = len(_PREFIX) + KEY_BYTES + 1
LENGTH: Final = 48
"""Letters of a key, spaces aside: whatever its 35 bytes, as they begin with 8B."""


class NotAKeyError(ValueError):
    """Why a text is no recovery key, in words for whoever typed it; it never holds the text itself."""


def encode(key: bytes) -> str:
    """The key of 32 bytes as people read it."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
    bare = _PREFIX + key
    number = int.from_bytes(bare + bytes([reduce(xor, bare)]), "big")
    letters = ""
    while number:
        number, digit = divmod(number, len(_LETTERS))
        letters = _LETTERS[digit] + letters
    return " ".join(letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP))


def decode(text: str) -> bytes:
    """The 32 bytes of a key that somebody typed; whitespace does not matter. Raises `NotAKeyError`."""
    letters = "".join(text.split())
    wrong = next((place for place, letter in enumerate(letters, 1) if letter not in _LETTERS), None)
    if wrong is not None:
        raise NotAKeyError(f"letter {wrong} cannot stand in a recovery key; 0, O, I and l never do")
    if len(letters) != LENGTH:
        raise NotAKeyError(f"it has {len(letters)} letters; a recovery key has {LENGTH}")
    number = reduce(lambda sofar, letter: sofar * len(_LETTERS) + _LETTERS.index(letter), letters, 0)
    try:
        whole = number.to_bytes(_WHOLE, "big")
    except OverflowError:
        raise NotAKeyError("it is no recovery key of Matrix; those begin with E") from None
    if not whole.startswith(_PREFIX):
        raise NotAKeyError("it is no recovery key of Matrix; those begin with E")
    if reduce(xor, whole):
        raise NotAKeyError("a letter is wrong, or two are exchanged: its parity does not hold")
    return whole[len(_PREFIX) : -1]
