"""The tokenizer of the bundled model: byte-level BPE whose merges never make a name or a number one piece.

It is GPT-2's scheme (Radford et al. 2019), which llama.cpp runs as tokenizer model `gpt2`, pre `gpt-2`;
`export` checks that both give the same ids. What is special is what is *not* merged: digits and line ends
stay single, a space never joins a capital letter, so that a name has the same pieces at the start of a line
and within a sentence, and names are left out of the text from which merges are learned, so that known and
unknown names look alike.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from models.bundled.tables import UNKNOWN, WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from models.bundled.world import Conversation

SPECIAL = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
"""Ids 0 to 3. User text must be tokenized with special parsing off, so that it cannot produce them."""
END, SYSTEM, USER, ASSISTANT = range(4)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
PIECES = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
"""GPT-2's split; `[^\\W\\d_]` stands for \\p{L}, which `re` lacks."""


def byte_letters() -> list[str]:
    """GPT-2's printable letter for each of the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    rest = [byte for byte in range(256) if byte not in letters]
    letters |= {byte: chr(256 + index) for index, byte in enumerate(rest)}
    return [letters[byte] for byte in range(256)]


LETTERS = byte_letters()
SPACE = LETTERS[ord(" ")]


def spell(piece: str) -> tuple[str, ...]:
    """A piece of text as the letters of its UTF-8 bytes."""
    return tuple(LETTERS[byte] for byte in piece.encode())


def may_merge(left: str, right: str) -> bool:
    """Whether the rules of this tokenizer allow the merge."""
    both = left + right
    if any(letter.isdigit() for letter in both) or LETTERS[ord("\n")] in both:
        return False
    return not (both.startswith(SPACE) and both[1:2].isupper())


@dataclass(slots=True)
class Tokenizer:
    """Merges in rank order, and the ids that follow from them: special, 256 bytes, merges."""

    merges: list[tuple[str, str]]
    ids: dict[str, int] = field(init=False)
    _ranks: dict[tuple[str, str], int] = field(init=False)
    _cache: dict[str, list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Number the tokens."""
        self.ids = {
            token: index for index, token in enumerate([*SPECIAL, *LETTERS, *(a + b for a, b in self.merges)])
        }
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}

    @property
    def tokens(self) -> list[str]:
        """All tokens in the order of their ids, in byte letters."""
        return list(self.ids)

    def _piece(self, piece: str) -> list[int]:
        parts = list(spell(piece))
        while len(parts) > 1:
            rank, spot = min(
                (self._ranks.get((parts[i], parts[i + 1]), len(self.merges)), i)
                for i in range(len(parts) - 1)
            )
            if rank == len(self.merges):
                break
            parts[spot : spot + 2] = [parts[spot] + parts[spot + 1]]
        return [self.ids[part] for part in parts]

    def encode(self, text: str) -> list[int]:
        """Plain text to ids; never a special one."""
        out: list[int] = []
        for piece in PIECES.findall(text):
            known = self._cache.get(piece)
            if known is None:
                known = self._piece(piece)
                if len(self._cache) < 200_000:
                    self._cache[piece] = known
            out += known
        return out

    def dialogue(self, talk: Conversation) -> tuple[list[int], list[bool]]:
        """The ids of a whole conversation and which of them the model has to say (answers and their end)."""
        ids = [SYSTEM, *self.encode(talk.system), END]
        mine = [False] * len(ids)
        for exchange in talk.exchanges:
            asked = [USER, *self.encode(exchange.user), END, ASSISTANT]
            answer = [*self.encode(exchange.answer), END]
            ids += asked + answer
            mine += [False] * len(asked) + [True] * len(answer)
        return ids, mine

    def save(self, path: Path) -> None:
        """Write the merges as JSON."""
        path.write_text(json.dumps(self.merges))

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what `save` wrote."""
        return cls([(left, right) for left, right in json.loads(path.read_text())])


def learn(texts: Iterable[str], size: int) -> Tokenizer:
    """Learn merges from texts until there are `size` tokens, names left out."""
    names = {name.casefold() for name in (*WORDS["people"], *WORDS["surnames"], *WORDS["bot_names"])} | {
        "hearth"
    }
    counts = Counter(
        piece
        for text in (*texts, UNKNOWN)
        for piece in PIECES.findall(text)
        if piece.strip().casefold() not in names
    )
    pieces = [(list(spell(piece)), count) for piece, count in counts.items() if count > 1]
    merges: list[tuple[str, str]] = []
    while len(merges) + len(SPECIAL) + 256 < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for parts, count in pieces:
            for pair in pairwise(parts):
                pairs[pair] += count
        allowed = [(count, pair) for pair, count in pairs.items() if may_merge(*pair)]
        if not allowed:
            break
        best = max(allowed)[1]
        merges.append(best)
        for parts, _ in pieces:
            spot = 0
            while spot < len(parts) - 1:
                if (parts[spot], parts[spot + 1]) == best:
                    parts[spot : spot + 2] = [best[0] + best[1]]
                spot += 1
    return Tokenizer(merges)
