"""A conversation in the making: who is there, what has been said, and what can be asked next.

`Scene` keeps what stands in the context, so that each question that it makes has exactly one right answer,
and knows the answers of the same shape that would be wrong.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.bundled.facts import (
    CODE,
    EVENT,
    PLACE,
    PLAIN,
    PRICE,
    RICH,
    ROLE,
    Ask,
    Fact,
    Kind,
    answerable,
    fact_keys,
    pronoun_forms,
)
from models.bundled.speech import jot, loosen, uncapital
from models.bundled.tables import TALK, UNKNOWN, WORDS
from models.bundled.words import Words, capital

if TYPE_CHECKING:
    import random

Asked = tuple[str, str, tuple[str, ...]]
"""A question, its right answer, and the answers of the same shape for other facts."""

IDENTITY = {
    PLACE.name: ("thing",),
    CODE.name: ("label",),
    PRICE.name: ("thing",),
    EVENT.name: ("event", "verb", "ask", "asked", "bare"),
}
"""The slots that stay when a fact of this kind is corrected."""


SHORT_ANSWERS = {
    "place": "It is {place}.",
    "moved": "It is {place}.",
    "code": "It is {val}.",
    "event": "{when}.",
}
"""How somebody in the room answers a question of the room about a fact of this kind."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One user message, its right answer, what it exercises, and answers of that shape for other facts."""

    user: str
    answer: str
    category: str
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """A fact in the context and where it stands: `speaker` is empty for a note."""

    fact: Fact
    speaker: str
    text: str


@dataclass(slots=True)
class Scene:
    """A conversation in the making."""

    rng: random.Random
    words: Words
    bot: str
    role: str
    cast: list[str]
    known: list[Known] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    said: dict[str, list[str]] = field(default_factory=dict)
    last: tuple[Fact, Ask] | None = None

    @property
    def kinds(self) -> tuple[tuple[Kind, ...], tuple[int, ...]]:
        """The kinds of fact that occur here, and their weights."""
        kinds = RICH if self.words.rich else PLAIN
        return kinds, tuple(kind.weight for kind in kinds)

    def fact(self, kind: Kind | None = None) -> Fact:
        """A new fact that no question in this conversation could confuse with another one."""
        for _ in range(50):
            chosen = kind or self.rng.choices(*self.kinds)[0]
            if kind is None and self.known and self.rng.random() < 0.4:
                chosen = self.rng.choice(self.known).fact.kind
            slots = chosen.slots(self.words)
            if "who" in slots and self.rng.random() < 0.7:
                slots["who"] = self.rng.choice(self.cast)
            fact = Fact(chosen, slots)
            keys = fact_keys(fact)
            if not keys & self.keys:
                self.keys |= keys
                return fact
            kind = None
        message = "no fact left that is unlike the others"
        raise LookupError(message)

    def state(self, speaker: str, *, stay: bool = False) -> Known:
        """A new fact as `speaker` says it; in the notes when `speaker` is empty; its owner may take over."""
        fact = self.fact()
        if fact.who and speaker and not stay and self.rng.random() < 0.6:
            speaker = fact.who
        return self._write(fact, speaker)

    def _write(self, fact: Fact, speaker: str, lead: str = "") -> Known:
        pattern = self.rng.choice(fact.kind.says if speaker else fact.kind.notes)
        text = fact.render(pattern, me=speaker)
        if lead:
            text = lead + (text if text.startswith(("I ", fact.who or "I ")) else uncapital(text))
        if self.words.rich:
            text = loosen(self.rng, text) if speaker else jot(self.rng, text)
        known = Known(fact, speaker, text)
        self.known.append(known)
        if speaker and speaker not in self.cast:
            self.cast.append(speaker)
        return known

    def correct(self, old: Known, speaker: str) -> Known:
        """The same fact with another value, said later; the old one is forgotten."""
        fresh = old.fact.kind.slots(self.words)
        fresh.update({name: old.fact.slots[name] for name in IDENTITY[old.fact.kind.name]})
        if "tail" in fresh:
            fresh.pop("place", None)
            fresh["tail"] = fresh["when"]
        self.known.remove(old)
        return self._write(
            dataclasses.replace(old.fact, slots=fresh), speaker, self.rng.choice(TALK["corrections"])
        )

    def filler(self) -> str:
        """A line without any fact."""
        line: str = self.rng.choice(TALK["fillers"])
        return line.format(
            name=self.rng.choice(self.cast), thing=self.words.thing() if "{thing}" in line else ""
        )

    def room(self, count: int) -> str:
        """A `<room>` block of `count` facts with some chit-chat, newline included."""
        lines: list[tuple[str, str]] = []
        for _ in range(count):
            if self.rng.random() < 0.2:
                lines.append((self.rng.choice(self.cast), self.filler()))
            old = [known for known in self.known if known.speaker and known.fact.kind.name in IDENTITY]
            if old and self.rng.random() < (0.03 if self.words.focus else 0.06):
                known = self.correct(self.rng.choice(old), self.rng.choice(self.cast))
            else:
                known = self.state(self.rng.choice(self.cast))
            if self.words.rich and self.rng.random() < (0.1 if self.words.focus else 0.22):
                lines += self.embellish(known)
            else:
                lines.append((known.speaker, known.text))
        if not lines or self.rng.random() < 0.1:
            lines.append((self.rng.choice(self.cast), self.filler()))
        for speaker, text in lines:
            self.said.setdefault(speaker, []).append(text)
        return "<room>\n" + "".join(f"{speaker}: {text}\n" for speaker, text in lines) + "</room>\n"

    def embellish(self, known: Known) -> list[tuple[str, str]]:
        """The fact as the answer to a question in the room, or in one line with a second fact."""
        fact = known.fact
        short = SHORT_ANSWERS.get(fact.kind.name)
        if short and not (fact.kind is EVENT and "place" in fact.slots):
            asker = self.rng.choice([name for name in self.cast if name != known.speaker] or self.cast)
            text = loosen(self.rng, fact.render(short))
            self._reword(known, text)
            return [
                (asker, fact.render(self.rng.choice(fact.kind.asks[0].questions), me=asker)),
                (known.speaker, text),
            ]
        second = self.state(known.speaker, stay=True)
        if known.text.endswith(".") and second.text[:2] != "I " and self.rng.random() < 0.6:
            low = second.text if second.text.startswith(second.fact.who or "I'") else uncapital(second.text)
            text = known.text[:-1] + self.rng.choice((" and ", ", and ", ", ")) + low
        else:
            text = f"{known.text} {second.text}"
        self._reword(known, text)
        self._reword(second, text)
        return [(known.speaker, text)]

    def _reword(self, known: Known, text: str) -> None:
        place = next(index for index, other in enumerate(self.known) if other is known)
        self.known[place] = dataclasses.replace(known, text=text)

    def notes(self, count: int) -> str:
        """A `<notes>` block of `count` facts, newline included."""
        lines = [self.state("").text for _ in range(count)]
        if self.rng.random() < 0.35:
            title = self.rng.choice(TALK["titles"])
            lines.insert(0, title.format(thing=self.words.nonsense()) if "{thing}" in title else title)
        return "<notes>\n" + "".join(line + "\n" for line in lines) + "</notes>\n"

    # What can be asked next; each returns (question, answer, rivals) or nothing where it does not apply.

    def ask(self, who: str) -> Asked | None:
        """A question that stands alone about something known."""
        open_asks = [
            (known.fact, ask)
            for known in self.known[-12:]
            for ask in known.fact.kind.asks
            if answerable(known.fact, ask)
        ]
        if not open_asks:
            return None
        fact, ask = self.rng.choice(open_asks if self.rng.random() < 0.6 else open_asks[:6])
        self.last = (fact, ask)
        return (
            fact.render(self.rng.choice(ask.questions), me=who),
            fact.render(ask.answer, you=who),
            self.rivals(fact, ask, who),
        )

    def more(self, who: str) -> Asked | None:
        """An elliptical question about the fact of the exchange before: known or not."""
        if self.last is None:
            return None
        fact, before = self.last
        asks = [ask for ask in fact.kind.asks if ask.more and (ask is not before or self.rng.random() < 0.15)]
        if not asks:
            return None
        ask = self.rng.choice(asks)
        question = fact.render(self.rng.choice(ask.more), me=who)
        if not answerable(fact, ask):
            return question, UNKNOWN, self.rivals(fact, ask, who)
        self.last = (fact, ask)
        return question, fact.render(ask.answer, you=who), self.rivals(fact, ask, who)

    def other(self, who: str) -> Asked | None:
        """And Ben? The question of the exchange before about another subject of its kind."""
        if self.last is None or not self.last[1].about:
            return None
        before, ask = self.last
        facts = [
            known.fact for known in self.known if known.fact.kind is before.kind and known.fact is not before
        ]
        if self.rng.random() < 0.2:
            facts = [self.fact(before.kind)]
            if facts[0].kind is not before.kind:
                return None
        elif not facts:
            return None
        fact = self.rng.choice(facts)
        about = fact.render(ask.about, me=who)
        question = self.rng.choice(TALK["and"]).format(x=about if about == fact.who else uncapital(about))
        is_known = any(known.fact is fact for known in self.known)
        if not is_known or not answerable(fact, ask):
            return question, UNKNOWN, self.rivals(fact, ask, who)
        self.last = (fact, ask)
        return question, fact.render(ask.answer, you=who), self.rivals(fact, ask, who)

    def unknown(self, who: str) -> Asked:
        """A question whose answer does not stand in the context."""
        missing = [
            (known.fact, ask)
            for known in self.known
            for ask in known.fact.kind.asks
            if not answerable(known.fact, ask)
        ]
        if missing and self.rng.random() < 0.4:
            fact, ask = self.rng.choice(missing)
        else:
            same = self.rng.choice(self.known).fact.kind if self.known and self.rng.random() < 0.6 else None
            fact = self.fact(same)
            ask = self.rng.choice(fact.kind.asks)
            self.last = None
        return fact.render(self.rng.choice(ask.questions), me=who), UNKNOWN, self.rivals(fact, ask, who)

    def pronoun(self, who: str) -> Asked | None:
        """When does he come? A whole question that names the subject of the exchange before by a pronoun."""
        if self.last is None:
            return None
        fact, _ = self.last
        he = self.rng.choice(("he", "she"))
        if fact.kind in {EVENT, ROLE}:
            ask = self.rng.choice([ask for ask in fact.kind.asks if ask.needs])
            subject = fact.slots["event"] if fact.kind is EVENT else f"the {fact.slots['role']}"
            trade = subject.removeprefix("the ") in WORDS["visitors"]
            pronoun = he if fact.kind is ROLE or trade or subject[:1].isupper() else "it"
            question = fact.render(self.rng.choice(ask.questions)).replace(subject, pronoun)
        else:
            found = self._same_person(fact, who)
            asks = found.kind.asks if found else ()
            asks = tuple(ask for ask in asks if any("{w" in each for each in ask.questions))
            if found is None or not asks:
                return None
            fact = found
            ask = self.rng.choice(asks)
            question = capital(self.rng.choice(ask.questions).format(**fact.slots, **pronoun_forms(he)))
        if not answerable(fact, ask) or not any(known.fact is fact for known in self.known):
            return question, UNKNOWN, self.rivals(fact, ask, who)
        self.last = (fact, ask)
        return question, fact.render(ask.answer, you=who), self.rivals(fact, ask, who)

    def _same_person(self, fact: Fact, who: str) -> Fact | None:
        """Another fact about the same person, known or not; nothing about `who`, who would not say "he"."""
        if fact.who in {"", who}:
            return None
        facts = [known.fact for known in self.known if known.fact.who == fact.who and known.fact is not fact]
        if self.rng.random() < 0.25:
            other = self.fact()
            facts = [Fact(other.kind, other.slots | {"who": fact.who})] if other.who else []
            if not facts or fact_keys(facts[0]) & (self.keys - fact_keys(other)):
                return None
        return self.rng.choice(facts) if facts else None

    def check(self, who: str) -> Asked | None:
        """A yes-or-no question, right or with a value that is not so."""
        asks = [
            (known.fact, ask)
            for known in self.known
            for ask in known.fact.kind.asks
            if ask.check and answerable(known.fact, ask)
        ]
        if not asks:
            return None
        fact, ask = self.rng.choice(asks)
        guess, word = fact, "Yes"
        if self.rng.random() < 0.5:
            others = [
                known.fact
                for known in self.known
                if known.fact.kind is fact.kind and ask.value in known.fact.slots
            ]
            value = self.rng.choice(others or [fact]).slots[ask.value]
            if value == fact.slots[ask.value]:
                value = fact.kind.slots(self.words).get(ask.value, value)
            if value != fact.slots[ask.value]:
                guess, word = Fact(fact.kind, fact.slots | {ask.value: value}), "No"
        self.last = (fact, ask)
        answer = f"{word}. {fact.render(ask.answer, you=who)}"
        return guess.render(self.rng.choice(ask.check), me=who), answer, self.rivals(fact, ask, who)

    def repeat(self, who: str) -> Asked | None:
        """What did Ben say? All his lines in the rooms shown, or that we do not know."""
        others = [name for name in self.said if name != who and len(self.said[name]) <= 2]
        if not others:
            return None
        name = self.rng.choice(others)
        if self.rng.random() < 0.15:
            name = self.words.person()
        answer = f"{name} said: {' '.join(self.said[name])}" if name in self.said else UNKNOWN
        self.last = None
        return (
            self.rng.choice(TALK["said"]).format(name=name),
            answer,
            tuple(f"{other} said: {' '.join(self.said[other])}" for other in others if other != name),
        )

    def about(self, who: str) -> Asked | None:
        """What do you know about the plumber? The line itself and who wrote it."""
        lines = [
            (known, ask.about)
            for known in self.known
            for ask in known.fact.kind.asks[:1]
            if ask.about.startswith(("{thing}", "{event}", "{item}", "the {"))
        ]
        if not lines:
            return None
        known, pattern = self.rng.choice(lines)
        about = known.fact.render(pattern, me=who)
        self.last = (known.fact, known.fact.kind.asks[0])
        question = self.rng.choice(TALK["about"]).format(
            x=about if about == known.fact.who else uncapital(about)
        )
        if self.words.rich and known.speaker not in {"", who} and self.rng.random() < 0.3:
            question = f"What did {known.speaker} say about {uncapital(about)}?"
        return question, quote(known), tuple(quote(other) for other, _ in lines if other is not known)

    def tell(self, who: str) -> Asked:
        """The person states a fact to the bot."""
        fact = self.fact()
        if "who" in fact.slots and self.rng.random() < 0.5:
            mine = Fact(fact.kind, fact.slots | {"who": who})
            if not fact_keys(mine) & (self.keys - fact_keys(fact)):
                self.keys |= fact_keys(mine)
                fact = mine
        text = fact.render(self.rng.choice(fact.kind.says), me=who)
        self.known.append(Known(fact, who, text))
        self.last = None
        return text, TALK["noted"].format(who=who), ()

    def chat(self, who: str) -> Asked:
        """A greeting, a question about the bot, or a question from outside the little world."""
        self.last = None
        if self.rng.random() < 0.25:
            return self.rng.choice(TALK["outside"]), UNKNOWN, ()
        row = self.rng.choice(TALK["chat"])
        question = self.rng.choice(row["questions"]).format(bot=self.bot)
        return question, row["answer"].format(bot=self.bot, who=who, role=self.role and f", {self.role}"), ()

    def rivals(self, fact: Fact, ask: Ask, who: str) -> tuple[str, ...]:
        """The answers of this shape for the other facts of the kind: what a random copy would say."""
        return tuple(
            known.fact.render(ask.answer, you=who)
            for known in self.known
            if known.fact is not fact and known.fact.kind is fact.kind and answerable(known.fact, ask)
        )


def quote(known: Known) -> str:
    """A line of the context with its source."""
    return f"{known.speaker} said: {known.text}" if known.speaker else f"The notes say: {known.text}"
