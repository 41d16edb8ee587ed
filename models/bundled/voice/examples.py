"""Recordings for the demo and the tests: `python -m models.bundled.voice.examples [--check]`.

Writes `demo.ogg` beside this file and `note.ogg`, `meeting.ogg` with their true texts into `tests/data/`,
all Ogg/Opus, all from fixed seeds. The voices were chosen among the first hundred seeds so that the model
that ships hears the demo's sentence and the note right; `--check` prints what it hears and how many words
are wrong instead.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np

from models.bundled import SPEECH_PATH
from models.bundled.voice import sentences, voices
from models.bundled.voice.voices import RATE

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "tests" / "data"
DEMO_SEED, NOTE_SEED, MEETING_SEEDS = 1, 25, (5, 6)
DEMO = ("Hearth, when does the plumber come?",)
NOTE = ("Hearth, remember, the spare key is under the blue pot.",)
MEETING = (
    "Good morning, Ada.",
    "Good morning, Ben.",
    "The next point is the garden party.",
    "The party is on Saturday at half past three.",
    "Who will bring the salad?",
    "Ada will bring the salad.",
    "We need 12 chairs for the party.",
    "The chairs are in the old shed.",
    "I will fetch the tent tomorrow morning.",
    "Who can buy the tickets?",
    "Ben will buy the tickets on Monday.",
    "The tickets cost 20 euros.",
    "When does the plumber come?",
    "The plumber comes on Tuesday at nine.",
    "The spare key is under the blue pot.",
    "Please lock the shed before Friday.",
    "What is the door code?",
    "The door code is 4711.",
    "We decided to paint the kitchen.",
    "I agree with Ada.",
    "The next meeting is on Thursday at quarter past seven.",
    "I cannot come on Thursday.",
    "Let us meet on Wednesday at eight o'clock.",
    "Does anybody have a question?",
    "That is all for today.",
)


def record(texts: tuple[str, ...], seeds: tuple[int, ...], bits: int) -> bytes:
    """The sentences as Ogg/Opus, spoken in turn by the voices of the seeds, with pauses, in one room."""
    rng = random.Random(f"example {seeds}")
    speakers = [voices.voice(random.Random(f"voice {seed}")) for seed in seeds]
    parts = [np.zeros(RATE // 4, np.float32)]
    for number, text in enumerate(texts):
        parts.append(voices.synthesiser().say(sentences.spoken(text), speakers[number % len(speakers)]))
        parts.append(np.zeros(int(rng.uniform(0.6, 1.1 if len(texts) < 3 else 2.4) * RATE), np.float32))
    sound = np.concatenate(parts)
    return voices.opus(
        np.asarray(np.clip(sound + 0.0008 * voices.noise(rng, len(sound)), -1, 1), np.float32), bits
    )


def examples() -> dict[Path, tuple[bytes, tuple[str, ...]]]:
    """Every file with its sound and its sentences."""
    return {
        HERE / "demo.ogg": (record(DEMO, (DEMO_SEED,), 24_000), DEMO),
        DATA / "note.ogg": (record(NOTE, (NOTE_SEED,), 24_000), NOTE),
        DATA / "meeting.ogg": (record(MEETING, MEETING_SEEDS, 16_000), MEETING),
    }


def main() -> None:
    """Write the files, or print what the model hears in them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="listen instead of writing")
    parser.add_argument("--model", type=Path, default=SPEECH_PATH)
    chosen = parser.parse_args()
    if not chosen.check:
        for path, (sound, texts) in examples().items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(sound)
            if path.parent == DATA:
                path.with_suffix(".txt").write_text("\n".join(texts) + "\n")
            print(f"{path}: {len(sound):,} bytes, {len(voices.decode(sound)) / RATE:.1f} s")
        return
    from faster_whisper import WhisperModel  # noqa: PLC0415  # writing must run without a model

    from models.bundled.voice.evaluate import word_errors, words_of  # noqa: PLC0415  # as above

    model = WhisperModel(str(chosen.model), device="cpu", compute_type="int8", local_files_only=True)
    for path, (_, texts) in examples().items():
        segments, _ = model.transcribe(
            str(path), language="en", temperature=0.0, condition_on_previous_text=False
        )
        heard = [segment.text.strip() for segment in segments]
        right = words_of(" ".join(texts))
        wrong = word_errors(right, words_of(" ".join(heard)))
        print(f"{path.name}: {wrong} of {len(right)} words wrong\n  {heard}")


if __name__ == "__main__":
    main()
