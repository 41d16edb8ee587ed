"""Facts of the little world: kinds of fact (kinds.toml) with their slots filled (slots.py).

Patterns are `str.format` with the slots of the fact and, where a person owns it (slot `who`), the forms of
`person_forms`: one pattern gives "Ben likes jazz", "I like jazz" and "You like jazz". Each question has one
right answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.bundled import tables
from models.bundled.slots import MAKERS, Slots
from models.bundled.words import Words, capital

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that can be asked about a fact.

    `questions` stand alone, `more` follow an exchange about the same fact, `about` names the subject for
    "And {about}?" after an exchange about another fact of the kind, `check` is a yes-or-no question in which
    `value` is the slot that a wrong guess replaces, `needs` the slot without which nobody can know.
    """

    questions: tuple[str, ...]
    answer: str
    more: tuple[str, ...] = ()
    about: str = ""
    check: tuple[str, ...] = ()
    value: str = ""
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fact: how its slots are drawn, said, written down and asked for."""

    name: str
    weight: int
    rich: bool
    slots: Callable[[Words], Slots]
    says: tuple[str, ...]
    notes: tuple[str, ...]
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """A kind with its slots filled; `who`, where present, owns it."""

    kind: Kind
    slots: Slots

    @property
    def who(self) -> str:
        """The person whom the fact is about, or nobody."""
        return self.slots.get("who", "")

    def render(self, pattern: str, me: str = "", you: str = "") -> str:
        """The pattern as said by `me` or to `you`, first letter upper case."""
        forms = person_forms(self.who, me, you) if self.who else {}
        return capital(pattern.format(**self.slots, **forms))


def person_forms(who: str, me: str = "", you: str = "") -> Slots:
    """Pronoun, possessive and verb endings for a person, seen by the speaker `me` or told to `you`."""
    many = {"s": "", "es": "", "do": "do", "has": "have"}
    if who == me:
        return {"W": "I", "w": "I", "Ws": "my", "ws": "my", "be": "am"} | many
    if who == you:
        return {"W": "You", "w": "you", "Ws": "your", "ws": "your", "be": "are"} | many
    own = f"{who}'s"
    one = {"s": "s", "es": "es", "do": "does", "has": "has"}
    return {"W": who, "w": who, "Ws": own, "ws": own, "be": "is"} | one


def pronoun_forms(he: str) -> Slots:
    """The forms of `person_forms` for "he" or "she"."""
    own = {"he": "his", "she": "her"}[he]
    return person_forms(he) | {"Ws": own, "ws": own}


def answerable(fact: Fact, ask: Ask) -> bool:
    """Whether the fact holds what is asked."""
    return not ask.needs or ask.needs in fact.slots


def fact_keys(fact: Fact) -> set[str]:
    """What the fact can be asked by; two facts that share a key would make a question ambiguous."""
    keys = set()
    for ask in fact.kind.asks:
        unasked = f"{fact.kind.name} {ask.questions[0]} {fact.slots}"
        keys.add(fact.render(ask.questions[0]) if answerable(fact, ask) else unasked)
        if ask.about:
            keys.add(f"{fact.kind.name} {fact.render(ask.about)}")
    return keys


def load() -> dict[str, Kind]:
    """The kinds of kinds.toml by name, in their order."""
    kinds: dict[str, Kind] = {}
    for row in tables.KINDS:
        name, rich = row["name"], row.get("rich", False)
        asks = kinds[row["asks_of"]].asks if "asks_of" in row else tuple(Ask(**ask) for ask in row["ask"])
        kinds[name] = Kind(name, row["weight"], rich, MAKERS[name], row["says"], row["notes"], asks)
    return kinds


BY_NAME = load()
PLAIN = tuple(kind for kind in BY_NAME.values() if not kind.rich)
RICH = tuple(BY_NAME.values())
PLACE, EVENT, CODE, PRICE, ROLE = (BY_NAME[name] for name in ("place", "event", "code", "price", "role"))
