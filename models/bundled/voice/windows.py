"""Windows of speech with what the model should write about them: what one training example is.

A training set is a seed and a range of numbers; its texts (`training_texts`) are pure, its sound is that of
espeak, whose voices flutter. A window lasts at most `LONGEST` seconds, the `chunk_length` that the model
ships with; a sentence that its end cuts off is not written, only its start is.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.bundled.voice import sentences, voices
from models.bundled.voice.voices import RATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LONGEST = 10
"""Seconds."""
FIRST_LONG, CALM_FROM, LONG_FROM = 9_000, 11_808, 20_500
"""Training windows: short ones in every room, long ones too, short ones mostly in calm rooms, everything."""

COMMON_FROM = 24192
"""The training window from which sentences have common words only: the world as it ships."""


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence with start and end in seconds; `end` is None where the window ends before it does."""

    text: str
    start: float
    end: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """Sound, what is said in it, whether to mark times, and text that stands before (empty: none)."""

    sound: NDArray[np.float32]
    said: tuple[Said, ...]
    timed: bool
    before: str


def mix(
    rng: random.Random, texts: Sequence[str], *, unseen: bool = False, longest: float = LONGEST
) -> tuple[NDArray[np.float32], tuple[Said, ...]]:
    """The sentences one after the other with pauses, by one voice or several, cut at `longest` seconds."""
    parts: list[NDArray[np.float32]] = []
    who, several = voices.voice(rng, unseen=unseen), rng.random() < 0.5
    said, at = list[Said](), 0
    if rng.random() < 0.1:
        parts.append(voices.synthesiser().say("and so on", who)[-rng.randint(300, 2400) :])
        at += len(parts[0])
    for number, text in enumerate(texts):
        pause = rng.uniform(0.0, 0.8) if number == 0 else rng.uniform(0.12, 0.9)
        if number == 0 and len(texts) == 1 and rng.random() < 0.06:
            pause = rng.uniform(0.8, 4.0)
        parts.append(np.zeros(int(pause * RATE), np.float32))
        at += len(parts[-1])
        who = voices.voice(rng, unseen=unseen) if several else who
        clip = voices.synthesiser().say(sentences.spoken(text), who)
        if several:
            clip = clip * np.float32(10 ** (rng.uniform(-6, 3) / 20))
        start, end = at / RATE, (at + len(clip)) / RATE
        if start > longest - 0.2:
            break
        parts.append(clip)
        at += len(clip)
        said.append(Said(text, start, end if end <= longest else None))
        if end > longest:
            break
    else:
        parts.append(np.zeros(int(rng.uniform(0.0, 1.2) * RATE), np.float32))
    return np.concatenate(parts)[: int(longest * RATE)], tuple(said)


def nothing(rng: random.Random) -> NDArray[np.float32]:
    """Silence, noise, music of a kind, or babble."""
    count, form = int(rng.uniform(0.5, LONGEST) * RATE), rng.random()
    if form < 0.15:
        return np.zeros(count, np.float32)
    sound = voices.noise(rng, count) if form < 0.75 else voices.tones(rng, count)
    if rng.random() < 0.3:
        sound = sound + rng.uniform(0, 1) * voices.noise(rng, count)
    return np.asarray(np.clip(sound * 10 ** (rng.uniform(-70, -10) / 20), -1, 1), np.float32)


def training_texts(seed: int, number: int) -> tuple[random.Random, list[str]]:
    """The sentences of training window `number`, in order, and the random numbers for the rest of it.

    Short windows come first; there are no sentences in a window without speech.
    """
    rng = random.Random(f"window {seed} {number}")
    form = rng.random()
    short = number < FIRST_LONG or CALM_FROM <= number < LONG_FROM
    alone = 0.9 if short else 0.62
    count = 0 if form < 0.04 else 1 if form < alone else rng.randint(2, 3 if short else 6)
    return rng, [compose(rng, number) for _ in range(count)]


def compose(rng: random.Random, number: int) -> str:
    """A sentence for training window `number`: of the full world first, of the common one later."""
    rare = number < COMMON_FROM
    return sentences.sentence(rng, sentences.NAMES if rare else sentences.COMMON_NAMES, rare=rare)


def window(seed: int, number: int) -> Window:
    """Training window `number`."""
    rng, texts = training_texts(seed, number)
    if not texts:
        return Window(nothing(rng), (), rng.random() < 0.5, "")
    sound, said = mix(rng, texts)
    calm = (CALM_FROM <= number < LONG_FROM or number >= COMMON_FROM) and rng.random() < 0.6
    sound = voices.calm(rng, sound) if calm else voices.room(rng, sound)
    if rng.random() < 0.03:
        sound = voices.decode(voices.opus(sound, rng.choice((12_000, 16_000, 24_000, 32_000))))[
            : LONGEST * RATE
        ]
    cut = bool(said) and said[-1].end is None
    before = ""
    if rng.random() < 0.12:
        names = rng.sample(sentences.NAMES, rng.randint(1, 5))
        prior = " ".join(compose(rng, number) for _ in range(rng.choice((1, 1, 2, 4, 12))))
        before = ", ".join(names) if rng.random() < 0.4 else prior
    return Window(sound, said, cut or rng.random() < 0.65, before)
