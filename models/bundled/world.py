"""The little world that the bundled model knows: whole conversations with exactly one right answer each.

`conversation` is pure: every choice comes from the `random.Random` it is given, so a training set is a seed
and a range of numbers. It owns the shape of the prompt, which is what `bots/chat.py` sends: a persona as
the system message; user messages of optional `<notes>` and `<room>` blocks and a last line `NAME:
question`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from models.bundled.scene import Exchange, Scene
from models.bundled.speech import roughen
from models.bundled.tables import TALK, UNKNOWN, WORDS
from models.bundled.words import Words

WAYS = ("ask", "more", "other", "unknown", "check", "repeat", "about", "tell", "chat")
WAY_WEIGHTS = (44, 14, 12, 12, 5, 4, 4, 6, 9)
RICH_WAYS = ("ask", "more", "other", "unknown", "check", "repeat", "about", "tell", "chat", "pronoun")
RICH_WAY_WEIGHTS = (40, 12, 13, 14, 5, 5, 4, 6, 10, 8)
RICH_FROM = 34_048
"""The training conversation from which the world is rich."""
FOCUS_WAY_WEIGHTS = (46, 13, 12, 14, 3, 4, 1, 6, 11, 7)
FOCUS_FROM = 45_568
"""The training conversation from which contexts are short and what is hard rarer: the world as it ships."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A persona, the exchanges in order, and every divided name, phrase and number in them (lower case)."""

    system: str
    exchanges: tuple[Exchange, ...]
    words: frozenset[str]


def persona(rng: random.Random, words: Words) -> tuple[str, str, str]:
    """A system message, the bot's name and its role (empty when the persona names none)."""
    bot = (
        "Hearth"
        if rng.random() < 0.6
        else rng.choice(WORDS["bot_names"])
        if rng.random() < 0.6
        else words.person()
    )
    role = ""
    if rng.random() < 0.85:
        role = rng.choice(TALK["roles"])
        role = role.format(town=words.town() if "{town}" in role else "", club=rng.choice(TALK["clubs"]))
    sentences = [f"You are {bot}, {role}." if role else f"You are {bot}."]
    for source, share in (
        (TALK["privacy"], 0.6),
        (TALK["manners"], 0.7),
        (TALK["manners"], 0.2),
        (TALK["fences"], 0.3),
        (TALK["honesty"], 0.6),
    ):
        if rng.random() < share:
            sentence = rng.choice(source)
            if sentence not in sentences:
                sentences.append(sentence)
    if rng.random() < 0.1:
        sentences.append(f"Today is {rng.choice(WORDS['days'])}, {words.date()}.")
    return " ".join(sentences), bot, role


def conversation(
    rng: random.Random,
    *,
    unseen: bool = False,
    made_up: float = 0.6,
    level: float = 1.0,
    rich: bool = True,
    focus: bool = True,
) -> Conversation:
    """One conversation.

    `unseen` takes names and phrases from the part that training never sees, `made_up` is the share of
    nonsense names, `level` (0 to 1) how much stands in the context (1: one to nine facts, rarely up to 60),
    `rich` whether speech is loose and all kinds of fact occur.
    """
    words = Words(rng, unseen=unseen, made_up=made_up, rich=rich, focus=focus)
    system, bot, role = persona(rng, words)
    if focus and rng.random() < 0.6 and TALK["fences"][0] not in system:
        system += " " + TALK["fences"][0]
    scene = Scene(rng, words, bot, role, [words.person() for _ in range(rng.randint(2, 4))])
    most = 6 if focus else 2 + round(7 * level)
    total = rng.randint(1, most)
    if level >= 1 and rng.random() < (0.01 if focus else 0.02):
        total = rng.randint(12, 60 if rich else 45)
    in_notes = rng.choice((0, 0, 0, total, rng.randint(0, total)))
    blocks = scene.notes(in_notes) if in_notes else ""
    blocks += scene.room(total - in_notes) if total > in_notes else ""
    asker = rng.choice(scene.cast)
    exchanges: list[Exchange] = []
    ways = (RICH_WAYS, FOCUS_WAY_WEIGHTS if focus else RICH_WAY_WEIGHTS) if rich else (WAYS, WAY_WEIGHTS)
    for turn in range(rng.randint(*((3, 6) if focus and total < 12 else (2, 5) if total < 12 else (4, 8)))):
        if turn and rng.random() < 0.15:
            blocks = scene.room(rng.randint(1, 2))
        if rng.random() < 0.2:
            asker = rng.choice(scene.cast)
        way = rng.choices(*ways)[0]
        result = getattr(scene, way)(asker)
        if result is None:
            way = "ask" if scene.known else "chat"
            result = getattr(scene, way)(asker)
        question, answer, rivals = result
        if way == "tell":
            question = rng.choice(TALK["tell"]).format(bot=bot) + question
        else:
            question = roughen(rng, question, bot, scene.cast)
        category = "unknown" if answer == UNKNOWN else way
        exchanges.append(Exchange(f"{blocks}{asker}: {question}", answer, category, rivals))
        blocks = ""
    return Conversation(system, tuple(exchanges), words.given)


def training_conversation(seed: int, number: int) -> Conversation:
    """Conversation `number` of a training run: short and plain ones first, all from the training part."""
    for attempt in range(20):
        rng = random.Random(f"{seed} {number}" + attempt * "+")
        made_up, level = rng.choice((0.2, 0.6, 0.9)), min(1.0, number / 24_000)
        try:
            return conversation(
                rng, made_up=made_up, level=level, rich=number >= RICH_FROM, focus=number >= FOCUS_FROM
            )
        except LookupError:  # a long conversation ran out of facts that differ
            continue
    raise LookupError(f"no conversation {number} of seed {seed}")
