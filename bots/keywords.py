"""A public key as words that two people can compare aloud.

Eight words of the English list of BIP-39 (2,048 words, any two of which differ in their first four letters)
for the first 88 bits of SHA-256 of the key. Whoever wants another key with the same words has to make about
2^88 keys, because the key to be matched is given (a second preimage; a collision of two keys of one's own
would take 2^44 and gain nothing, since it is one community that fools itself). That is far beyond reach,
and eight words are still read out in one breath; six (66 bits) would be within it, twelve nobody compares to
the end.

The words are the same in every language, and not for translation: the two who compare may have set different
languages, and there are no lists of one meaning. They are names of numbers, not sentences.

Pure; the list is read once, at import, out of the package `mnemonic`.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Final

from mnemonic import Mnemonic

WORDS: Final[tuple[str, ...]] = tuple(Mnemonic("english").wordlist)
COUNT: Final = 8
_BITS: Final = 11
"""Bits that one of 2,048 words stands for."""
_KEY_BYTES: Final = 32


@lru_cache(maxsize=1_000)
def key_words(key: str) -> tuple[str, ...]:
    """The words of an Ed25519 public key in unpadded base64. Raises `ValueError` if it is none."""
    raw = base64.b64decode(key + "=" * (-len(key) % 4), validate=True)
    if len(raw) != _KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    first = int.from_bytes(hashlib.sha256(raw).digest(), "big") >> (256 - COUNT * _BITS)
    places = (first >> (_BITS * (COUNT - 1 - at)) & (2**_BITS - 1) for at in range(COUNT))
    return tuple(WORDS[place] for place in places)


def spoken(key: str) -> str:
    """The words as one code span, which no client turns into anything else. Raises as `key_words` does."""
    return f"`{' '.join(key_words(key))}`"
