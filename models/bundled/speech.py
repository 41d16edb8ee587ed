"""How people really type: slips of the finger, lines without full stops, jotted notes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from models.bundled.tables import TALK

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

SHORT = (
    ("I will ", "I'll "), ("I am ", "I'm "), ("It is ", "It's "), ("it is ", "it's "),
    ("We have ", "We've got "), ("do not ", "don't "), ("will bring ", "is going to bring "),
    ("cannot ", "can't "), ("Do not ", "Don't "),
)  # fmt: skip
ENDS = ("", "", "", "!", " :)", ", ok?", " 🙂", "...", ", I believe.", ", by the way.", " thanks!", ".")


def loosen(rng: random.Random, text: str) -> str:
    """A line of the room: contracted, perhaps without full stop or capital."""
    for long, short in SHORT:
        if long in text and rng.random() < 0.4:
            text = text.replace(long, short)
    if rng.random() < 0.35 and text.endswith("."):
        text = text[:-1] + rng.choice(ENDS)
    openings = ("The ", "Our ", "You ", "We ", "If ", "Please ", "My ")
    return uncapital(text) if rng.random() < 0.12 and text.startswith(openings) else text


def jot(rng: random.Random, text: str) -> str:
    """A line of the notes, small words of times left out: `Plumber: Jansen, 9 on Tuesday`."""
    if rng.random() < 0.4:
        text = re.sub(r"\bat (?=\d)", "", text)
    if rng.random() < 0.3:
        text = re.sub(r"\bon (?=[A-Z][a-z]+day\b)", "", text)
    return text


def uncapital(text: str) -> str:
    """The text with its first letter lower case."""
    return text[:1].lower() + text[1:]


def roughen(rng: random.Random, question: str, bot: str, people: Sequence[str]) -> str:
    """A question as people type it: to the bot by name, capitals or question mark lost, letters swapped."""
    if rng.random() < 0.3:
        lead = rng.choice(TALK["leads"]).format(bot=bot)
        keep = question.startswith(("I ", "I'", *people)) or not lead or lead.endswith(("! ", ". "))
        question = lead + (question if keep else uncapital(question))
    if rng.random() < 0.12:
        question = question.rstrip("?.!")
    if rng.random() < 0.08:
        question = question.lower()
    if rng.random() < 0.04:
        inner = range(1, len(question) - 1)
        spots = [at for at in inner if question[at - 1 : at + 2].isalpha() and question[at].islower()]
        if spots:
            at = rng.choice(spots)
            dropped = rng.random() < 0.5
            middle = "" if dropped else question[at + 1] + question[at]
            question = question[:at] + middle + question[at + (1 if dropped else 2) :]
    return question
