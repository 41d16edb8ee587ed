"""The speech model's tokens, in Whisper's layout, and their `tokenizer.json`.

Text tokens come first (a byte-level BPE of our own), then the special tokens exactly as Whisper orders them
(https://github.com/openai/whisper/blob/main/whisper/tokenizer.py), then 1,501 time marks of 0.02 s. Every
letter and digit has a token with a space before it, because faster-whisper suppresses the bare space; no
token holds two digits.
"""

from __future__ import annotations

import string
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from faster_whisper.tokenizer import _LANGUAGE_CODES as LANGUAGES
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SPECIAL = (
    "<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES), "<|translate|>",
    "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip
MARKS = tuple(f"<|{mark * 0.02:.2f}|>" for mark in range(1501))
SPACE = "Ġ"
"""How byte-level BPE writes a space."""


def learn(texts: Iterable[str], size: int) -> Tokenizer:
    """A tokenizer with `size` text tokens, fewer where the texts have no more pairs."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    counts = Counter(piece for text in texts for piece, _ in splitter.pre_tokenize_str(text))
    merges = [(SPACE, letter) for letter in string.ascii_letters + string.digits]
    words = {piece: spaced(piece) for piece in sorted(counts)}
    while len(alphabet) + len(merges) < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for piece, parts in words.items():
            for pair in pairwise(parts):
                if not any(char.isdigit() for char in "".join(pair)):
                    pairs[pair] += counts[piece]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = {piece: joined(parts, best) for piece, parts in words.items()}
    return assemble([*alphabet, *("".join(pair) for pair in merges)], merges)


def spaced(piece: str) -> list[str]:
    """The characters of a piece, a space together with the letter or digit after it."""
    after = piece[1:2]
    together = piece.startswith(SPACE) and after.isascii() and after.isalnum()
    return [piece[:2], *piece[2:]] if together else list(piece)


def joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """The parts with each such pair made one."""
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def assemble(words: Sequence[str], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """The tokenizer of these text tokens and merges, with Whisper's special tokens and time marks."""
    tokenizer = Tokenizer(
        models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=list(merges))
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in (*SPECIAL, *MARKS)]
    )
    return tokenizer


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenizer and the ids of its special tokens."""

    tokenizer: Tokenizer
    end: int
    start: int
    english: int
    transcribe: int
    before: int
    nothing: int
    untimed: int
    marks: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Tokens:
        """Look the ids up."""
        names = (
            "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|startofprev|>",
            "<|nospeech|>", "<|notimestamps|>", MARKS[0],
        )  # fmt: skip
        numbers = tokenizer.get_vocab()
        return cls(tokenizer, *(numbers[name] for name in names))

    @classmethod
    def load(cls, path: Path) -> Tokens:
        """Read a `tokenizer.json`."""
        return cls.of(Tokenizer.from_file(str(path)))

    @property
    def size(self) -> int:
        """All tokens."""
        return int(self.tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def mark(self, seconds: float) -> int:
        """The id of a time in a window."""
        return self.marks + min(1500, round(seconds / 0.02))
