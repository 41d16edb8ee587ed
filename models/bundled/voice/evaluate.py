"""Measure the bundled speech model: `python -m models.bundled.voice.evaluate --seed N [--samples 100]`.

Needs the `[voice]` extra and espeak-ng (`espeakng-loader`); what is heard comes from real faster-whisper.
Sentences come from the part of the world that training never composes, voices from the variants that never
speak there, in rooms of all sorts. Word errors are counted without case and punctuation, beside a baseline
that always says the sentence that was most frequent in training; `exact` is the share of recordings of which
every word is right, `verbatim` that with case and punctuation. That nothing of it was trained on is checked
by composing all training texts again and comparing. Exit status 1 if anything overlaps.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from faster_whisper import WhisperModel

from models.bundled import SPEECH_PATH, TRAINING_CLIPS, TRAINING_SEED
from models.bundled.voice import sentences, voices, windows
from models.bundled.voice.voices import RATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

NOTHING = "nothing is said"


@dataclass(frozen=True, slots=True)
class Recording:
    """A sound at 16 kHz with the sentences that are said in it."""

    kind: str
    sound: NDArray[np.float32]
    said: tuple[windows.Said, ...]

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join(said.text for said in self.said)


@dataclass(slots=True)
class Tally:
    """What became of the recordings of one kind."""

    recordings: int = 0
    words: int = 0
    wrong: int = 0
    baseline: int = 0
    exact: int = 0
    verbatim: int = 0
    late: list[float] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the counts of another one."""
        for name in ("recordings", "words", "wrong", "baseline", "exact", "verbatim"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.late += other.late


def words_of(text: str) -> list[str]:
    """The words of a text as they are counted: lower case, without punctuation."""
    return re.sub(r"[^\w' -]", " ", text.lower()).split()


def word_errors(right: Sequence[str], said: Sequence[str]) -> int:
    """The least number of words to replace, add and take away (Levenshtein)."""
    row = list(range(len(said) + 1))
    for number, word in enumerate(right, 1):
        above, row[0] = row[0], number
        for at, other in enumerate(said, 1):
            above, row[at] = row[at], min(above + (word != other), row[at] + 1, row[at - 1] + 1)
    return row[-1]


def records(seed: int, samples: int) -> Iterable[Recording]:
    """The recordings of a seed: `samples` single sentences and parts of that of every other kind."""
    plan = (
        ("one sentence", samples, 1, False, sentences.COMMON_NAMES),
        ("one sentence, loud noise", samples // 2, 1, True, sentences.COMMON_NAMES),
        ("kept-out first names", samples // 2, 1, False, sentences.UNSEEN_NAMES),
        ("five sentences", samples // 5, 5, False, sentences.COMMON_NAMES),
    )
    for kind, count, each, hard, names in plan:
        for number in range(count):
            rng = random.Random(f"evaluate {seed} {kind} {number}")
            texts = [composed(rng, names) for _ in range(each)]
            sound, said = windows.mix(rng, texts, unseen=True, longest=60)
            yield Recording(kind, voices.room(rng, sound, hard=hard), said)
    for number in range(samples // 2):
        yield Recording(NOTHING, windows.nothing(random.Random(f"evaluate {seed} nothing {number}")), ())


def composed(rng: random.Random, names: Sequence[str]) -> str:
    """A kept-out sentence; where the names are kept-out ones, with one of them."""
    while True:
        text = sentences.sentence(rng, names, unseen=True)
        if names is sentences.COMMON_NAMES or set(re.findall(r"[A-Z]\w+", text)) & set(names):
            return text


def hear(model: WhisperModel, recording: Recording, beams: int) -> tuple[str, list[float]]:
    """What the model writes; how far its sentences' starts are off, if it found as many as were said."""
    segments, _ = model.transcribe(
        recording.sound, language="en", beam_size=beams, temperature=0.0, condition_on_previous_text=False
    )
    found = list(segments)
    off = [abs(one.start - two.start) for one, two in zip(found, recording.said, strict=False)]
    return " ".join(one.text.strip() for one in found), off if len(found) == len(recording.said) else []


def measure(
    model: WhisperModel, recordings: Iterable[Recording], baseline: str, beams: int, show: int
) -> tuple[dict[str, Tally], set[str], float, float]:
    """Tallies by kind, the sentences that were said, seconds of sound and of work."""
    tallies: dict[str, Tally] = {}
    said, sound, work = set[str](), 0.0, 0.0
    for recording in recordings:
        start = time.perf_counter()
        text, off = hear(model, recording, beams)
        work += time.perf_counter() - start
        sound += len(recording.sound) / RATE
        said |= {one.text for one in recording.said}
        right, heard = words_of(recording.text), words_of(text)
        tally = Tally(
            1, len(right), word_errors(right, heard), word_errors(right, words_of(baseline)), right == heard,
            recording.text == text, off,
        )  # fmt: skip
        tallies.setdefault(recording.kind, Tally()).add(tally)
        if tally.wrong and show > 0:
            show -= 1
            print(f"{recording.kind}\n  said:  {recording.text}\n  heard: {text}")
    return tallies, said, sound, work


def training_texts(clips: int) -> Counter[str]:
    """Every sentence of the training set, composed again, with how often it was said."""
    return Counter(
        text for number in range(clips) for text in windows.training_texts(TRAINING_SEED, number)[1]
    )


def show(tallies: dict[str, Tally]) -> None:
    """Print the table."""
    silent = tallies.pop(NOTHING, Tally())
    noisy = silent.recordings - silent.exact
    total = Tally()
    print(f"{'kind':<26}{'recordings':>10}{'words':>7}{'WER':>8}{'baseline':>10}{'exact':>8}{'verbatim':>10}")
    for tally in list(tallies.values()):
        total.add(tally)
    for kind, tally in (*tallies.items(), ("total", total)):
        print(
            f"{kind:<26}{tally.recordings:>10}{tally.words:>7}{tally.wrong / tally.words:>8.3f}"
            f"{tally.baseline / tally.words:>10.3f}{tally.exact / tally.recordings:>8.3f}"
            f"{tally.verbatim / tally.recordings:>10.3f}"
        )
    print(f"{NOTHING}: {silent.wrong} words written in {noisy} of {silent.recordings}")
    if total.late:
        late = sorted(total.late)
        print(f"starts of {len(late)} sentences: off by {late[len(late) // 2]:.2f} s in the median, "
              f"{late[len(late) * 9 // 10]:.2f} s in nine of ten")  # fmt: skip


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--samples", type=int, default=100, help="single sentences; other kinds have fewer")
    parser.add_argument("--model", type=Path, default=SPEECH_PATH)
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show-wrong", type=int, default=0, metavar="N", help="print the first N wrong ones")
    chosen = parser.parse_args()
    trained = training_texts(TRAINING_CLIPS)
    baseline = trained.most_common(1)[0][0]
    model = WhisperModel(
        str(chosen.model),
        device="cpu",
        compute_type="int8",
        cpu_threads=chosen.threads,
        local_files_only=True,
    )
    recordings = records(chosen.seed, chosen.samples)
    tallies, said, sound, work = measure(model, recordings, baseline, chosen.beams, chosen.show_wrong)
    show(tallies)
    shared = len(said & trained.keys())
    names = sum(not sentences.kept_out_name(name) for name in sentences.UNSEEN_NAMES)
    mixed = len(set(voices.UNSEEN_VARIANTS) & set(voices.VARIANTS))
    print(f"baseline: {baseline!r}; {sound:.0f} s of sound in {work:.1f} s")
    print(
        f"overlap with {len(trained):,} sentences of {TRAINING_CLIPS:,} training windows: "
        f"{shared} of {len(said)} sentences, {names} kept-out names, {mixed} voices"
    )
    sys.exit(1 if shared or names or mixed else 0)


if __name__ == "__main__":
    main()
