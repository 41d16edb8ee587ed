"""How the little world sounds: espeak-ng voices, rooms, noise, telephones, Opus.

It owns espeak-ng, of which a process has one (its C interface is not thread-safe). Audio is float32 mono at
16 kHz, full scale 1. Everything random comes from the generator that is passed in, except that espeak's
voices flutter: two utterances of one text differ a little. The voices of `UNSEEN_VARIANTS` never speak in
training.
"""

from __future__ import annotations

import ctypes
import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import av
import espeakng_loader
import numpy as np

if TYPE_CHECKING:
    import random

    from numpy.typing import NDArray

RATE = 16_000
ESPEAK_RATE = 22_050
SYNCHRONOUS, UTF8 = 2, 1
"""espeak's AUDIO_OUTPUT_SYNCHRONOUS and espeakCHARS_UTF8."""
SPEED, PITCH, RANGE = 1, 3, 4
"""espeak's numbers of the parameters: words per minute, 0 to 100, 0 to 100."""

ACCENTS = (
    "en-us", "en-us", "en-us", "en-gb", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan",
    "en-gb-x-gbcwmd", "en-us-nyc",
)  # fmt: skip
VARIANTS = (
    "", "Alex", "Alicia", "Andy", "Annie", "Denis", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee",
    "Marco", "Mario", "Michael", "Mike", "Mr serious", "Nguyen", "Reed", "RicishayMax", "Storm", "adam",
    "anika", "announcer", "antonio", "aunty", "belinda", "boris", "caleb", "david", "ed", "edward", "f1",
    "f2", "f3", "f5", "grandma", "grandpa", "gustave", "ian", "iven", "iven2", "iven3", "iven4", "john",
    "kaukovalta", "klatt", "klatt2", "klatt3", "klatt4", "klatt5", "m1", "m2", "m3", "m4", "m6", "m7", "m8",
    "marcelo", "max", "michel", "miguel", "norbert", "paul", "pedro", "quincy", "rob", "robert", "robosoft",
    "sandro", "shelby", "steph", "steph3", "travis", "victor",
)  # fmt: skip
UNSEEN_VARIANTS = ("f4", "m5", "Andrea", "steph2", "benjamin", "pablo", "linda", "zac", "Gene2", "edward2")


@dataclass(frozen=True, slots=True)
class Voice:
    """An espeak voice: accent, variant, words per minute, pitch and its range (0 to 100)."""

    accent: str
    variant: str
    speed: int
    pitch: int
    range: int


def voice(rng: random.Random, *, unseen: bool = False) -> Voice:
    """A voice of one side of the partition."""
    return Voice(
        rng.choice(ACCENTS),
        rng.choice(UNSEEN_VARIANTS if unseen else VARIANTS),
        rng.randint(125, 215),
        rng.randint(20, 80),
        rng.randint(25, 75),
    )


class Synthesiser:
    """espeak-ng in this process."""

    def __init__(self) -> None:
        """Load the library; OSError where there is none."""
        self._espeak = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        if self._espeak.espeak_Initialize(SYNCHRONOUS, 0, data, 0) != ESPEAK_RATE:
            raise OSError("espeak-ng does not speak at 22,050 Hz")
        self._parts: list[NDArray[np.int16]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

        def take(samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
            if count > 0:
                self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        self._take = kind(take)
        self._espeak.espeak_SetSynthCallback(self._take)

    def say(self, text: str, who: Voice) -> NDArray[np.float32]:
        """The text at 16 kHz, without silence before and after, at a level of 0.1 (root mean square)."""
        name = f"{who.accent}+{who.variant}" if who.variant else who.accent
        self._espeak.espeak_SetVoiceByName(name.encode())
        for number, value in ((SPEED, who.speed), (PITCH, who.pitch), (RANGE, who.range)):
            self._espeak.espeak_SetParameter(number, value, 0)
        self._parts.clear()
        raw = text.encode() + b"\0"
        self._espeak.espeak_Synth(raw, ctypes.c_size_t(len(raw)), 0, 1, 0, UTF8, None, None)
        sound = np.concatenate(self._parts).astype(np.float32)
        loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
        sound = resample(sound[loud[0] : loud[-1] + 1])
        return np.asarray(0.1 * sound / (np.sqrt(np.mean(sound**2)) + 1e-9), np.float32)


@cache
def synthesiser() -> Synthesiser:
    """The one of this process."""
    return Synthesiser()


def resample(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """From espeak's rate to 16 kHz, by cutting the spectrum."""
    blocks = -(-len(sound) // 4410)
    spectrum = np.fft.rfft(sound, 4410 * blocks)
    count = 3200 * blocks
    length = len(sound) * RATE // ESPEAK_RATE
    return np.asarray(
        np.fft.irfft(spectrum[: count // 2 + 1] * (count / (4410 * blocks)), count)[:length], np.float32
    )


@cache
def noises() -> tuple[NDArray[np.float32], ...]:
    """Half a minute each of white, pink, brown and low noise, hum, and babble of many voices backwards."""
    source, count = np.random.default_rng(7), 30 * RATE
    frequencies = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20.0)
    white = np.fft.rfft(source.standard_normal(count))
    kinds = [np.fft.irfft(white * frequencies**power, count) for power in (0.0, -0.5, -1.0)]
    kinds.append(np.fft.irfft(white / (1 + (frequencies / 300) ** 2), count))
    time = np.arange(count) / RATE
    kinds.append(sum((np.sin(2 * np.pi * 50 * n * time) / n for n in (1, 2, 3, 5)), np.zeros(count)))
    chat = np.zeros(count)
    text = "the quick brown fox jumps over a lazy dog while many people talk about nothing at all"
    for number in range(60):
        who = Voice("en-us", VARIANTS[number % len(VARIANTS)], 150 + number, 30 + number // 2, 50)
        clip = synthesiser().say(text, who)[::-1]
        at = int(source.integers(0, count - len(clip)))
        chat[at : at + len(clip)] += clip
    kinds.append(chat)
    return tuple(np.asarray(kind / (np.sqrt(np.mean(kind**2)) + 1e-9), np.float32) for kind in kinds)


def noise(rng: random.Random, count: int) -> NDArray[np.float32]:
    """So many samples of some noise at level 1."""
    kinds = noises()
    kind = kinds[rng.choices(range(len(kinds)), (3, 3, 2, 2, 1, 2))[0]]
    if count >= len(kind):
        return np.resize(kind, count)
    start = rng.randrange(len(kind) - count)
    return kind[start : start + count]


def tones(rng: random.Random, count: int) -> NDArray[np.float32]:
    """Music of a kind: a few notes one after the other, level about 1."""
    time, sound = np.arange(count) / RATE, np.zeros(count)
    for _ in range(rng.randint(1, 8)):
        pitch, start, length = (
            110 * 2 ** (rng.randint(0, 36) / 12),
            rng.random() * count / RATE,
            rng.uniform(0.1, 2),
        )
        shape = np.exp(-3 * np.clip(time - start, 0, None) / length) * (time >= start)
        sound += shape * sum(np.sin(2 * np.pi * pitch * n * time) / n for n in (1, 2, 3))
    return np.asarray(sound, np.float32)


def room(rng: random.Random, sound: NDArray[np.float32], *, hard: bool = False) -> NDArray[np.float32]:
    """The sound in a room through a microphone: echo, colour, noise, gain; `hard`: noise that is loud."""
    count = len(sound)
    size = -(-count // 3200) * 3200
    frequencies = np.fft.rfftfreq(size, 1 / RATE)
    spectrum = np.fft.rfft(sound, size)
    if rng.random() < 0.35:
        spectrum = spectrum * np.fft.rfft(echo(rng), size)
    if rng.random() < 0.6:
        bends = np.interp(
            np.log(frequencies + 50), np.linspace(3.9, 9, 6), [rng.gauss(0, 0.35) for _ in range(6)]
        )
        spectrum = spectrum * np.exp(bends)
    if rng.random() < 0.15:
        low, high = rng.uniform(80, 350), rng.uniform(3000, 6000)
        spectrum = spectrum / (1 + (low / (frequencies + 1)) ** 4) / (1 + (frequencies / high) ** 8)
    heard = np.fft.irfft(spectrum, size)[:count]
    if hard or rng.random() < 0.75:
        level = 10 ** (-(rng.uniform(5, 15) if hard else rng.uniform(8, 45)) / 20)
        heard = heard + 0.1 * level * noise(rng, count)
    heard = heard * 10 ** (rng.uniform(-22, 14) / 20)
    return np.asarray(np.clip(heard, -1, 1), np.float32)


def calm(rng: random.Random, sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sound with faint noise, louder or softer."""
    sound = sound + np.float32(10 ** -rng.uniform(2.8, 4)) * noise(rng, len(sound))
    return np.asarray(np.clip(sound * 10 ** (rng.uniform(-16, 8) / 20), -1, 1), np.float32)


def echo(rng: random.Random) -> NDArray[np.float32]:
    """A room's impulse response: the direct sound and a decaying tail."""
    count, source = int(rng.uniform(0.05, 0.4) * RATE), np.random.default_rng(rng.getrandbits(32))
    tail = source.standard_normal(count) * np.exp(-5 * np.arange(count) / count)
    tail *= rng.uniform(0.1, 0.7) / (np.sqrt(np.sum(tail**2)) + 1e-9)
    tail[0] = 1.0
    return np.asarray(tail, np.float32)


def opus(sound: NDArray[np.float32], bits: int = 24_000) -> bytes:
    """The sound as an Ogg/Opus file, as phones record it."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        stream.bit_rate = bits
        frame = av.AudioFrame.from_ndarray(
            (sound * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


def decode(file: bytes) -> NDArray[np.float32]:
    """An audio file's sound at 16 kHz."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    parts: list[NDArray[np.float32]] = []
    with av.open(io.BytesIO(file), "r") as container:
        for frame in (*container.decode(audio=0), None):
            parts += [piece.to_ndarray()[0].astype(np.float32) / 32768 for piece in resampler.resample(frame)]
    return np.concatenate(parts)
