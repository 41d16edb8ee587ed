"""Sound for the tests: espeak-ng speaks, PyAV packs it as people's telephones do."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np

from models.bundled.voice.voices import RATE, Voice, synthesiser

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Sound = NDArray[np.int16]

VOICE_RATE: Final = RATE
"""Samples a second of what is made here."""

SPEAKER: Final = Voice("en-us", "", 160, 50, 50)

SENTENCES: Final = (
    "Hearth, when does the choir meet on Thursday?",
    "The key to the garden is with Ben until the weekend.",
    "Please buy three loaves of bread and some apples for tomorrow.",
    "Grandmother arrives at half past four at the main station.",
)


@functools.cache
def speak(text: str) -> Sound:
    """Samples of a sentence, without silence around it."""
    return (synthesiser().say(text, SPEAKER).clip(-1, 1) * 32767).astype(np.int16)


def silence(seconds: float) -> Sound:
    return np.zeros(int(seconds * VOICE_RATE), np.int16)


def talk(seconds: float, *, pause: float = 0.6) -> Sound:
    """So many seconds of sentences with pauses between them."""
    sentences = [np.concatenate([speak(text), silence(pause)]) for text in SENTENCES]
    parts, length, at = [], 0, 0
    while length < seconds * VOICE_RATE:
        parts.append(sentences[at % len(sentences)])
        length, at = length + len(parts[-1]), at + 1
    return np.concatenate(parts)[: int(seconds * VOICE_RATE)]


def tone(seconds: float) -> Sound:
    return (8000 * np.sin(np.arange(int(seconds * VOICE_RATE)) * 440 * 2 * np.pi / VOICE_RATE)).astype(
        np.int16
    )


def pack(
    sound: Sound | Iterable[Sound],
    form: str = "ogg",
    codec: str = "libopus",
    *,
    rate: int = VOICE_RATE,
    layout: str = "mono",
) -> bytes:
    """A file of a sound; `rate` is what it is said to have, each channel is the same."""
    out = io.BytesIO()
    channels = av.AudioLayout(layout).nb_channels
    with av.open(out, "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=48_000 if codec == "libopus" else rate, layout=layout)
        at = 0
        for part in [sound] if isinstance(sound, np.ndarray) else sound:
            frame = av.AudioFrame.from_ndarray(
                np.repeat(part, channels)[None, :], format="s16", layout=layout
            )
            frame.sample_rate, frame.pts = rate, at
            at += len(part)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()
