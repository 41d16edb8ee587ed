"""What is said in the speech model's little world: sentences of family and city life, composed by a grammar.

The questions and facts are those of the text model (`models.bundled.facts`), so that the one answers what
the other hears; names and phrases are drawn from its word lists, without made-up words. `sentence` is pure.
It promises that training and evaluation never share a composed sentence, nor a kept-out name: both sides
obey `kept_out` and `kept_out_name`, hashes of the letters. Set phrases ("Good morning.") are too few to
divide; they belong to training.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from models.bundled.facts import RICH, Fact
from models.bundled.tables import TALK, WORDS
from models.bundled.words import Words, capital

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence

BOT = "Hearth"
SAME_SOUND = frozenset(
    ("Ana", "Hanna", "Carla", "Pieter", "Jun", "Noor", "Piet", "Hugo", "Isa", "Lien", "Cem", "Jorge", "Wim")
)
"""Names that sound like another one, or that espeak reads in no recognisable way."""
TOWNS = (
    "Amsterdam", "Berlin", "Bremen", "Brighton", "Bristol", "Cambridge", "Cologne", "Dresden", "Dublin",
    "Ghent", "Hamburg", "Leeds", "Leiden", "Lisbon", "London", "Madrid", "Munich", "Oslo", "Oxford",
    "Paris", "Prague", "Rome", "Rotterdam", "Utrecht", "Vienna", "Warsaw", "York", "Zurich",
)  # fmt: skip
STREETS = (
    "Garden", "Park", "Station", "Church", "Mill", "Market", "River", "School", "Castle", "Bridge", "Green",
    "Queen", "King", "Forest", "Hill", "Lake", "Orchard", "Rose", "Harbour", "Victoria",
)  # fmt: skip
ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth",
    "nineteenth", "twentieth",
)  # fmt: skip
MEETING = (
    "{person} will {task}.", "Can {person} {task}?", "Can you {task}, {person}?", "We should {task} {day}.",
    "Let us {task} {day}.", "Who can {task}?", "I will {task} {day}.", "{person} wants to {task}.",
    "I agree with {person}.", "{person}, what do you think about the {thing}?",
    "The next point is the {thing}.", "The next meeting is {day} {hour}.", "Let us meet {day} {hour}.",
    "I cannot come {day}.", "We decided to {task}.", "The {thing} costs {number} euros.",
    "We need {number} {food} for the {gathering}.", "Please {task} before {weekday}.",
    "{person} said that the {thing} is {place}.", "We will buy a new {thing}.",
    "Remind me to {task} {day}.", "Remind me {day} {hour}.", "Set a timer for {number} minutes.",
    "Add {food} and {food} to the shopping list.", "Put {food} on the list, please.",
    "What is on the shopping list?", "Send a message to {person}.", "Tell {person} that I am late.",
    "Call {person}, please.", "Is {person} at home?", "Has {person} fed the {pet}?", "I am {place}.",
    "The {thing} is {place}.", "Where did {person} put the {thing}?", "Turn on the light in the {spot}.",
    "Turn off the {thing}, please.", "When is the {gathering}?", "What is {day}?", "What happens {day}?",
    "Do we have {food}?", "The {visitor} comes {day} {hour}.", "The {visitor} will come {day}.",
    "When does the {visitor} come?", "Did the {visitor} call?",
    "Please ask the {visitor} about the {thing}.", "I live in {street}.", "The {opener} is in {street}.",
    "Meet me {place} {hour}.", "We leave for {town} {hour}.", "The {ride} to {town} leaves {hour}.",
    "The train to {town} is late.", "I was in {town} {day}.", "{person} comes from {town}.",
    "Good morning, {person}.", "Good evening, {person}.", "Thank you, {person}.",
    "Happy birthday, {person}.", "Hello {person}, how are you?", "See you {day}, {person}.",
    "My name is {person}.", "This is {person}.", "{person} and {person} are here.", "{person} is not here.",
    "It is {number} degrees outside.", "There are {number} people {place}.", "That is all for today.",
    "Does anybody have a question?", "We vote on the {thing} {day}.", "The {gathering} was good.",
)  # fmt: skip
LEADS = (
    "", "", "", "", f"{BOT}, ", f"{BOT}, ", f"Hey {BOT}, ", f"Hello {BOT}, ", "Please tell me, ",
    "By the way, ", "Sorry, ", "Ok, ",
)  # fmt: skip
TELLS = (
    "", "", "", "", "", f"{BOT}, remember, ", f"{BOT}, please note, ", "Please remember, ", f"{BOT}, ",
)  # fmt: skip


def kept_out(sentence: str) -> bool:
    """Whether this composed sentence is kept out of training, whatever its case."""
    return zlib.crc32(f"sentence {sentence.casefold()}".encode()) % 8 == 0


def kept_out_name(name: str) -> bool:
    """Whether this first name is kept out of training."""
    return zlib.crc32(f"name {name.casefold()}".encode()) % 12 == 1


NAMES = tuple(name for name in WORDS["people"] if name not in SAME_SOUND and not kept_out_name(name))
UNSEEN_NAMES = tuple(name for name in WORDS["people"] if name not in SAME_SOUND and kept_out_name(name))


class SpokenWords(Words):
    """The text model's words as far as they can be said and written again: none made up, times in words."""

    def __init__(self, rng: random.Random, names: Sequence[str] = NAMES) -> None:
        """Bind the source to its random numbers and its first names."""
        super().__init__(rng, made_up=0.0)
        self.names = names

    def nonsense(self) -> str:
        """A town stands for any made-up word."""
        return self.pick(TOWNS)

    def person(self) -> str:
        """A first name."""
        return self.pick(self.names)

    def surname(self) -> str:
        """A family name, sometimes with a title."""
        return self.pick(("", "", "Mister ", "Doctor ")) + self.pick(WORDS["surnames"])

    def town(self) -> str:
        """A real town."""
        return self.pick(TOWNS)

    def street(self) -> str:
        """A street or a square."""
        return f"{self.pick(STREETS)} {self.pick(('Street', 'Road', 'Lane', 'Square'))}"

    def noun(self, source: str) -> str:
        """A noun of the list, often with an adjective."""
        noun = self.pick(WORDS[source])
        return f"{self.pick(WORDS['adjectives'])} {noun}" if self.rng.random() < 0.4 else noun

    def thing(self, *, made_up: float = 0.0) -> str:  # noqa: ARG002  # no word is made up here
        """A thing without its article."""
        return self.noun("things")

    def spot(self) -> str:
        """A place without preposition or article."""
        return self.noun("spots")

    def place(self) -> str:
        """A place with its preposition."""
        form = self.rng.random()
        if form < 0.1:
            return f"at {self.person()}'s house" if form < 0.05 else f"in {self.town()}"
        return f"{self.pick(WORDS['prepositions'])} the {self.spot()}"

    def hour(self) -> str:
        """A time of day with its preposition, in words."""
        one, two = self.pick(WORDS["hours"]), self.pick(WORDS["hours"][:-1])
        return self.pick(
            (
                f"at {one}", f"at {one}", f"at half past {two}", f"at quarter past {two}",
                f"at quarter to {two}", f"at {two} o'clock", f"around {one}", f"before {one}", f"after {one}",
                f"at {two} thirty", f"at {two} fifteen", f"between {two} and {one}",
            )
        )  # fmt: skip

    def date(self) -> str:
        """A day of the year: `the twelfth of May`."""
        return f"the {self.pick(ORDINALS)} of {self.pick(WORDS['months'])}"

    def opening(self) -> str:
        """Opening hours."""
        one, two = self.pick(WORDS["hours"]), self.pick(WORDS["hours"])
        return (
            f"from {one} to {two} {self.pick(('on weekdays', 'every day', 'on ' + self.pick(WORDS['days'])))}"
        )

    def digits(self, low: int, high: int) -> str:
        """A number of low to high digits, at most six."""
        count = min(self.rng.randint(low, high), 2 if high <= 3 else 6)
        return self.pick("123456789") + "".join(self.pick("0123456789") for _ in range(count - 1))

    def secret(self) -> str:
        """A code of digits."""
        return self.digits(4, 6)

    def items(self, source: Sequence[str]) -> str:
        """A list of two or three different things."""
        chosen = self.rng.sample(source, self.rng.randint(2, 3))
        return f"{', '.join(chosen[:-1])} and {chosen[-1]}"

    def compose(self, pattern: str) -> str:
        """A pattern with `{slots}`, each one drawn anew."""
        makers: dict[str, Callable[[], str]] = {
            "person": self.person, "thing": self.thing, "spot": self.spot, "place": self.place,
            "town": self.town, "day": self.day, "hour": self.hour, "street": self.street,
            "number": lambda: self.digits(1, 2), "task": lambda: self.compose(self.pick(WORDS["tasks"])),
            "weekday": lambda: self.pick(WORDS["days"]), "food": lambda: self.pick(WORDS["foods"]),
            "gathering": lambda: self.pick(WORDS["gatherings"]), "pet": lambda: self.pick(WORDS["pets"]),
            "visitor": lambda: self.pick(WORDS["visitors"]), "opener": lambda: self.pick(WORDS["openers"]),
            "ride": lambda: self.pick(WORDS["rides"]),
        }  # fmt: skip
        return re.sub(r"\{(\w+)\}", lambda slot: makers[slot[1]](), pattern)


SET_PHRASES = tuple(
    phrase.format(bot=BOT)
    for phrase in (
        *TALK["outside"],
        *(line for line in TALK["fillers"] if "{" not in line and any(map(str.isalpha, line))),
        *(question for chat in TALK["chat"] for question in chat["questions"]),
    )
    if "thx" not in phrase
)


def plain(text: str) -> str:
    """The text as the model writes it: one line, capital first, `.` or `?` last, none of `:`, `!`, emoji."""
    text = re.sub(r"[!…]|\.\.\.", ".", text).replace(":", ",").replace(" - ", ", ").replace("thx", "thanks")
    text = re.sub(r"[^A-Za-zé0-9 ,.?'-]", "", text)
    text = re.sub(r"[ ,]+,", ",", re.sub(r"\s+", " ", text)).strip(" ,")
    return capital(text if text.endswith((".", "?")) else text + ".")


def draw(rng: random.Random, names: Sequence[str] = NAMES) -> tuple[str, bool]:
    """Any sentence, and whether it is composed."""
    words, form = SpokenWords(rng, names), rng.random()
    if form < 0.08 and names is not UNSEEN_NAMES:
        return plain(rng.choice(SET_PHRASES)), False
    if form < 0.4:
        pattern = rng.choice(MEETING)
        lead, text = (
            rng.choice(LEADS if pattern.endswith("?") else ("", "", "", "Ok, ")),
            words.compose(pattern),
        )
        return plain(lead + lower(text) if lead else text), True
    kind = rng.choices(RICH, [kind.weight for kind in RICH])[0]
    fact = Fact(kind, kind.slots(words))
    if form < 0.72:
        lead, text = rng.choice(LEADS), fact.render(rng.choice(rng.choice(kind.asks).questions))
    else:
        me = fact.who if rng.random() < 0.4 else ""
        lead, text = rng.choice(TELLS), fact.render(rng.choice(kind.says), me=me)
    return plain(lead + lower(text) if lead else text), True


HEADS = {
    "surnames": 8, "adjectives": 22, "things": 40, "spots": 30, "prepositions": 8, "visitors": 12,
    "gatherings": 14, "gathering_kinds": 10, "openers": 10, "rides": 4, "foods": 24, "dishes": 22,
    "hobbies": 12, "allergens": 8, "pets": 6, "categories": 6, "colours": 10, "tasks": 26, "reasons": 4,
    "attributes": 0,
    "errands": 6, "deeds": 8, "chores": 8, "codes": 6,
}  # fmt: skip
"""How many of each list are common words."""
COMMON_NAMES = NAMES[:40]
PATTERNS = tuple(
    text for kind in RICH for text in (*kind.says, *(one for ask in kind.asks for one in ask.questions))
)


def letters(texts: Iterable[str]) -> set[str]:
    """The words of some texts, lower case."""
    return {word for text in texts for word in re.findall(r"[a-zé'-]+", text.lower())}


HEAD_WORDS = tuple(text for name, count in HEADS.items() for text in WORDS[name][:count])
RARE = (
    letters(text for name, count in HEADS.items() for text in WORDS[name][count:])
    | letters((*TOWNS[8:], *STREETS[8:]))
) - letters((*HEAD_WORDS, *MEETING, *PATTERNS, *TOWNS[:8], *STREETS[:8]))
"""Words that only the full world has."""


def lower(text: str) -> str:
    """A sentence that may follow a lead: its first word loses its capital unless it is a name or "I"."""
    first = re.split(r"[ ,']", text, maxsplit=1)[0]
    keeps = first == "I" or first in WORDS["people"] or first in WORDS["days"] or first in TOWNS
    return (
        text
        if keeps or first in ("Mister", "Doctor", *WORDS["surnames"], *STREETS, BOT)
        else text[:1].lower() + text[1:]
    )


def sentence(
    rng: random.Random, names: Sequence[str] = COMMON_NAMES, *, unseen: bool = False, rare: bool = False
) -> str:
    """A sentence of one side of the partition, at most 80 letters long; `rare`: of the full world."""
    while True:
        try:
            text, composed = draw(rng, names)
        except (LookupError, KeyError):
            continue
        if not rare and (len(text) > 60 or letters((text,)) & RARE):
            continue
        if len(text) <= 80 and (kept_out(text) if composed else False) == unseen:
            return text


def spoken(text: str) -> str:
    """What a voice reads: three digits and more are read one by one."""
    return re.sub(r"\d{3,}", lambda run: " ".join(run[0]), text)
