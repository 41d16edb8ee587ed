"""The words of the little world: people, things, places, times and numbers.

`Words` draws them from a `random.Random`. It promises that training and evaluation never meet: a name,
phrase or number belongs to the kept-out part when `kept_out` says so (a hash of its letters, so the rule
needs no list); training draws only from one part and evaluation only from the other. Closed lists
(weekdays, colours, hours, foods, trades) are too small to divide and are shared.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from models.bundled.tables import WORDS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

KEPT_OUT_SHARE = 4
"""One in so many names and phrases is kept out of training."""


def kept_out(text: str) -> bool:
    """Whether this name or phrase is kept out of training, whatever its case."""
    return zlib.crc32(text.casefold().encode()) % KEPT_OUT_SHARE == 0


def capital(text: str) -> str:
    """The text with its first letter upper case, the rest as it was."""
    return text[:1].upper() + text[1:]


class Words:
    """A source of names and phrases, from one side of the partition.

    `unseen` chooses the side that training never draws from; `made_up` is the share (0 to 1) of names that
    are nonsense syllables instead of names from the lists. No two names of one source are equal.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        unseen: bool = False,
        made_up: float = 0.6,
        rich: bool = True,
        focus: bool = True,
    ) -> None:
        """Bind the source to its random numbers."""
        self.rng = rng
        self.unseen = unseen
        self.made_up = made_up
        self.rich = rich
        self.focus = focus
        self._given: set[str] = set()

    @property
    def given(self) -> frozenset[str]:
        """Every divided name, phrase and number that was drawn, lower case."""
        return frozenset(self._given)

    def pick(self, items: Sequence[str]) -> str:
        """One of a closed list."""
        return items[int(self.rng.random() * len(items))]

    def _fresh(self, make: Callable[[], str]) -> str:
        for _ in range(400):
            text = make()
            if kept_out(text) == self.unseen and text.casefold() not in self._given:
                self._given.add(text.casefold())
                return text
        message = "the lists are exhausted: ask for fewer words or more made-up ones"
        raise LookupError(message)

    def syllables(self) -> str:
        """A lower-case nonsense word of one to three syllables; not yet checked against the partition."""
        count = self.rng.choices((1, 2, 3), (3, 6, 1) if self.focus else (2, 6, 2))[0]
        if self.rng.random() < (0.85 if self.focus else 0.5):
            return "".join(
                self.pick("bdfgklmnprstvwz") + self.pick("aeiou") for _ in range(count)
            ) + self.pick(WORDS["codas"])
        return "".join(
            self.pick(WORDS["onsets"]) + self.pick(WORDS["vowels"]) + self.pick(WORDS["codas"])
            for _ in range(count)
        )

    def _letters(self) -> str:
        return "".join(self.pick("abcdefghijklmnopqrstuvwxyz") for _ in range(self.rng.randint(2, 7)))

    def nonsense(self) -> str:
        """A lower-case made-up word: mostly syllables, one in ten plain random letters."""
        return self._fresh(lambda: self._letters() if self.rng.random() < 0.1 else self.syllables())

    def _made_up(self) -> bool:
        return self.rng.random() < self.made_up

    def either_case(self, make: Callable[[], str]) -> str:
        """A word with or without a capital."""
        big = self.pick(("big", "small")) == "big"
        word = make()
        return capital(word) if big else word

    def person(self) -> str:
        """A first name."""
        return (
            capital(self.nonsense()) if self._made_up() else self._fresh(lambda: self.pick(WORDS["people"]))
        )

    def surname(self) -> str:
        """A family name, sometimes with a title."""
        name = (
            capital(self.nonsense()) if self._made_up() else self._fresh(lambda: self.pick(WORDS["surnames"]))
        )
        return self.pick(("Mr ", "Mrs ", "Dr ")) + name if self.rng.random() < 0.3 else name

    def town(self) -> str:
        """A made-up town; real towns would invite knowledge from outside."""
        return capital(self.nonsense()) + (self.pick(("", "", "ville", "burg", "stad", "ford", "ton")))

    def thing(self, *, made_up: float = 0.15) -> str:
        """A thing without its article: `spare key`, `green wimble`."""

        def make() -> str:
            noun = self.syllables() if self.rng.random() < made_up else self.pick(WORDS["things"])
            return f"{self.pick(WORDS['adjectives'])} {noun}" if self.rng.random() < 0.55 else noun

        return self._fresh(make)

    def spot(self) -> str:
        """A place without preposition or article: `old shed`."""

        def make() -> str:
            noun = self.syllables() if self.rng.random() < 0.1 else self.pick(WORDS["spots"])
            return f"{self.pick(WORDS['adjectives'])} {noun}" if self.rng.random() < 0.4 else noun

        return self._fresh(make)

    def place(self) -> str:
        """A place with its preposition: `under the blue pot`."""
        if self.rng.random() < 0.1:
            return f"at {self.person()}'s" if self.rng.random() < 0.5 else f"in {self.town()}"

        def make() -> str:
            noun = self.syllables() if self.rng.random() < 0.08 else self.pick(WORDS["spots"])
            noun = f"{self.pick(WORDS['adjectives'])} {noun}" if self.rng.random() < 0.4 else noun
            text = f"{self.pick(WORDS['prepositions'])} the {noun}"
            if self.rng.random() < 0.12:
                text += f" {self.pick(('in', 'behind', 'near', 'next to'))} the {self.pick(WORDS['spots'])}"
            return text

        return self._fresh(make)

    def hour(self) -> str:
        """A time of day with its preposition: `at nine`, `at 14:30`, `at half past six`."""
        if self.rich and self.rng.random() < 0.2:
            return self._rich_hour()
        rng, form = self.rng, self.rng.random()
        if form < 0.35:
            return f"at {self.pick(WORDS['hours'])}"
        if form < 0.6:
            return f"at {rng.randint(1, 24)}"
        if form < 0.85:
            return f"at {rng.randint(0, 23)}:{rng.choice((0, 5, 10, 15, 20, 30, 40, 45, 50)):02d}"
        return f"at {self.pick(('half past', 'quarter past', 'quarter to'))} {self.pick(WORDS['hours'][:-1])}"

    def date(self) -> str:
        """A day of the year without preposition: `12 May`."""
        return f"{self.rng.randint(1, 30)} {self.pick(WORDS['months'])}"

    def day(self) -> str:
        """A day with its preposition: `on Tuesday`, `on 12 May`, `tomorrow`."""
        if self.rich and self.rng.random() < 0.3:
            day = self.pick(WORDS["days"])
            part = self.pick(("morning", "afternoon", "evening", "night"))
            return self.pick(
                (f"on {day} {part}", f"on {day} {part}", f"every {day}", f"this {day}", f"on {day}s")
            )
        form = self.rng.random()
        if form < 0.6:
            return f"on {self.pick(WORDS['days'])}"
        if form < 0.8:
            return f"on {self.date()}"
        return self.pick(WORDS["loose_days"]) if form < 0.9 else f"next {self.pick(WORDS['days'])}"

    def _rich_hour(self) -> str:
        one, two = self.pick(WORDS["hours"][:-1]), self.pick(WORDS["hours"][:-1])
        low, high = self.rng.randint(1, 12), self.rng.randint(1, 12)
        return self.pick(
            (
                f"at {one} o'clock",
                f"at {low} pm",
                f"at {low} am",
                f"from {low} to {high}",
                f"between {one} and {two}",
                f"from {one} to {two}",
                f"at {low}.{self.pick(('15', '30', '45'))}",
                f"around {one}",
                f"before {one}",
                f"after {one}",
            )
        )

    def opening(self) -> str:
        """Opening hours: `from 9 to 5 on weekdays`, `on Monday`."""
        days = self.pick(
            (
                "on weekdays",
                f"on {self.pick(WORDS['days'])}",
                f"on {self.pick(WORDS['days'])}s",
                f"from {self.pick(WORDS['days'])} to {self.pick(WORDS['days'])}",
                "at weekends",
                "every day",
                f"on {self.pick(WORDS['days'])} and {self.pick(WORDS['days'])}",
                f"in {self.pick(WORDS['months'])}",
            )
        )
        form = self.rng.random()
        if form < 0.4:
            return days
        hours = (
            self._rich_hour()
            if form < 0.6
            else f"from {self.rng.randint(7, 12)} to {self.rng.randint(1, 20)}"
        )
        return f"{hours} {days}" if form < 0.85 else hours

    def digits(self, low: int, high: int) -> str:
        """A string of low to high digits, sometimes in groups."""

        def make() -> str:
            count = self.rng.randint(low, high)
            text = "".join(self.pick("0123456789") for _ in range(count))
            return f"{text[:4]} {text[4:]}" if count > 6 and self.rng.random() < 0.4 else text

        return self._fresh(make)

    def secret(self) -> str:
        """A code or password: digits, or a made-up word with or without digits."""
        form = self.rng.random()
        if form < 0.65:
            return self.digits(3, 10)
        word = self.nonsense()
        return (
            word + self.digits(2, 4)
            if form < 0.85
            else capital(word) + self.pick(("-", "!", "_")) + self.nonsense()
        )

    def items(self, source: Sequence[str]) -> str:
        """A list of two to five different things in words or with commas only."""
        chosen = self.rng.sample(source, self.rng.randint(2, 5))
        if self.rng.random() < 0.15:
            chosen[-1] = self.nonsense()
        if self.rng.random() < 0.7:
            return f"{', '.join(chosen[:-1])} and {chosen[-1]}"
        return ", ".join(chosen)

    def fill(self, pattern: str) -> str:
        """A pattern of the lists above with its `{slots}` filled."""
        makers: dict[str, Callable[[], str]] = {
            "thing": self.thing,
            "spot": self.spot,
            "person": self.person,
            "town": self.town,
            "visitor": lambda: self.pick(WORDS["visitors"]),
            "opener": lambda: self.pick(WORDS["openers"]),
            "pet": lambda: self.pick(WORDS["pets"]),
            "food": lambda: self.pick(WORDS["foods"]),
        }
        for slot, make in makers.items():
            if "{" + slot + "}" in pattern:
                pattern = pattern.replace("{" + slot + "}", make())
        return pattern
