"""The ear with models from nothing: real layers and real libraries, words that are known before."""

from __future__ import annotations

import io
import json
import shutil
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from faster_whisper import WhisperModel

from models import ear as ears
from models.ear import WhisperEar
from models.protocol import Ended, EngineError, HearingWish, Reached, Unloadable
from models.sound import RATE, look
from models.transcript import Segment, Transcript
from tests.models.voice import VOICE_RATE, pack, silence, speak, talk, tone
from tests.models.whisper_folder import write_whisper

if TYPE_CHECKING:
    from pathlib import Path

    from tests.models.voice import Sound

SAID = "the garden is green"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("ears") / "tiny-ear", chunk=10)


@pytest.fixture(scope="module")
def ear(folder: Path) -> WhisperEar:
    return WhisperEar(folder, threads=1, batch=4)


def hear(
    ear: WhisperEar, sound: Sound | bytes, *, alone: bool = True, **wish: Any
) -> tuple[Transcript, list[Reached], bool]:
    data = sound if isinstance(sound, bytes) else pack(sound, "flac", "flac")
    segments, reached = [], []
    for step in ear.hear(look(io.BytesIO(data), 7200.0), HearingWish(**wish), lambda: alone):
        match step:
            case Segment():
                segments.append(step)
            case Reached():
                reached.append(step)
            case Ended(transcript=transcript, truncated=truncated):
                assert transcript.segments == tuple(segments)
                return transcript, reached, truncated
    raise AssertionError("it did not end")


def spread(*texts: str, pause: float) -> Sound:
    """Sentences with silence before each."""
    return np.concatenate([part for text in texts for part in (silence(pause), speak(text))])


def test_a_note(ear: WhisperEar) -> None:
    """A short note is one piece, with its language, its duration and times from its beginning."""
    transcript, reached, truncated = hear(ear, spread("When does the choir meet?", pause=3.0))
    (segment,) = transcript.segments
    assert segment.text == SAID == transcript.text
    assert 2.4 < segment.start < 3.1
    assert segment.end == pytest.approx(min(segment.start + 2.0, transcript.duration), abs=0.02)
    assert (segment.language, transcript.language, segment.doubtful, truncated) == ("en", "en", False, False)
    assert reached[-1].done == reached[-1].total == transcript.duration


def test_the_same_as_the_library(folder: Path, ear: WhisperEar) -> None:
    """What is heard is what faster-whisper hears when it is called with the same sound."""
    sound = spread("Please buy some apples.", pause=0.5)
    (ours,) = hear(ear, sound, words=True, language="en")[0].segments
    library = WhisperModel(str(folder), device="cpu", local_files_only=True)
    data = io.BytesIO(pack(sound, "flac", "flac"))
    (theirs,) = library.transcribe(data, language="en", word_timestamps=True, vad_filter=True)[0]
    assert ours.text == theirs.text.strip()
    assert [word.text for word in ours.words] == [word.word.strip() for word in theirs.words]
    assert ours.end - ours.start == pytest.approx(theirs.end - theirs.start, abs=0.1)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, float]]:
    """All that is heard by any ear: how, and from which second to which of its window."""
    found: list[tuple[str, float, float]] = []

    def noting(name: str) -> Any:
        original = getattr(ears._Hearing, name)

        def note(self: Any, window: Any, spoken: Any) -> Any:
            found.extend((name, start / RATE, end / RATE) for start, end in spoken)
            return original(self, window, spoken)

        return note

    for name in ("alone", "together"):
        monkeypatch.setattr(ears._Hearing, name, noting(name))
    return found


@pytest.fixture
def of_talk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small ears of these tests count as such that learnt talk, as OpenAI's own have."""
    monkeypatch.setattr(ears, "WHISPER", 10)


def test_what_learnt_sentences_hears_them_one_by_one(
    ear: WhisperEar, noted: list[tuple[str, float, float]]
) -> None:
    """A model of less than 30 s is given what is between two pauses, and no more, with threads or without."""
    hear(ear, spread("When does the choir meet?", "It meets on Monday.", "Who has the key?", pause=0.6))
    assert [how for how, _, _ in noted] == ["alone"] * 3
    assert all(before[2] <= after[1] for before, after in pairwise(noted))


@pytest.mark.usefixtures("of_talk")
@pytest.mark.parametrize("alone", [True, False])
def test_long_recordings(
    ear: WhisperEar, monkeypatch: pytest.MonkeyPatch, noted: list[tuple[str, float, float]], *, alone: bool
) -> None:
    """A recording of several windows is heard whole, in order, in batches or alone, with its own times."""
    monkeypatch.setattr(ears, "WINDOW", 60 * RATE)
    monkeypatch.setattr("models.doubt.REPEATS", 1000)
    sentences = [f"This is the sentence with the number {number}." for number in range(14)]
    sound = spread(*sentences, pause=4.0)
    transcript, reached, _ = hear(ear, sound, alone=alone)
    assert [one.text for one in transcript.segments] == [SAID] * 14
    at, expected = 0.0, []
    for text in sentences:
        at += 4.0
        expected.append(at)
        at += len(speak(text)) / VOICE_RATE
    # Speech begins a little before it is heard, and the voice begins with some silence.
    assert [one.start for one in transcript.segments] == pytest.approx(expected, abs=0.6)
    assert len(noted) == 14
    assert ("together" in {how for how, _, _ in noted}) == alone
    done = [one.done for one in reached]
    assert done == sorted(done)
    assert done[-1] == transcript.duration == pytest.approx(len(sound) / VOICE_RATE, abs=0.01)


@pytest.mark.usefixtures("of_talk")
def test_one_after_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without batches what is spoken is heard as densely as the library does it, with its own times."""
    monkeypatch.setattr("models.doubt.REPEATS", 1000)
    steady = WhisperEar(folder, threads=1, batch=1)
    sound = spread(*[f"This is the sentence with the number {number}." for number in range(14)], pause=4.0)
    library = WhisperModel(str(folder), device="cpu", local_files_only=True)
    data = io.BytesIO(pack(sound, "flac", "flac"))
    theirs = [one.start for one in library.transcribe(data, vad_filter=True)[0]]
    assert [one.start for one in hear(steady, sound)[0].segments] == pytest.approx(theirs, abs=0.5)
    monkeypatch.setattr(ears, "WINDOW", 60 * RATE)
    starts = [one.start for one in hear(steady, sound)[0].segments]
    assert starts == sorted(starts)
    assert starts[-1] > len(sound) / VOICE_RATE - 20
    assert len(theirs) <= len(starts) <= len(theirs) + 2  # each window ends with what is left of it


@pytest.mark.parametrize("batch", [1, 4])
def test_nonstop_speech(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: list[tuple[str, float, float]], batch: int
) -> None:
    """Speech without any pause is cut where it must be, and nothing is heard twice or left out."""
    monkeypatch.setattr(ears, "WINDOW", 25 * RATE)
    windows: list[float] = []
    cut = ears._cut

    def note(spoken: Any, length: int) -> Any:
        found = cut(spoken, length)
        windows.append(found[1] / RATE)
        return found

    monkeypatch.setattr(ears, "_cut", note)
    folder = write_whisper(tmp_path / "ear", chunk=10, end=9.5)
    transcript, _, _ = hear(WhisperEar(folder, threads=1, batch=batch), talk(70.0, pause=0.0))
    assert transcript.segments
    assert len(windows) >= 3
    heard: list[tuple[float, float]] = []
    at = 0.0
    for _, start, end in noted:
        if heard and at + start < heard[-1][1] - 0.01:
            at += windows.pop(0)
        heard.append((at + start, at + end))
    assert heard[0][0] < 0.5
    assert heard[-1][1] > 69.0
    assert all(-0.01 <= after[0] - before[1] < 1.0 for before, after in pairwise(heard))


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(silence(20.0), id="silence"),
        pytest.param(tone(20.0), id="a tone"),
        pytest.param(
            (np.random.default_rng(1).standard_normal(20 * VOICE_RATE) * 3000).astype(np.int16), id="noise"
        ),
        pytest.param(np.array([9000, -9000] * 40, np.int16), id="a click"),
    ],
)
def test_nobody_speaks(ear: WhisperEar, sound: Sound) -> None:
    """Where nobody speaks the model is not even asked, though it would say something."""
    transcript, _, _ = hear(ear, sound)
    assert transcript.segments == ()
    assert transcript.duration == pytest.approx(len(sound) / VOICE_RATE, abs=0.01)


@pytest.mark.usefixtures("of_talk")
def test_what_a_batch_leaves_unheard(ear: WhisperEar, noted: list[tuple[str, float, float]]) -> None:
    """A piece of which a batch heard the beginning alone is heard again, alone and to its end."""
    sentence = "This is a rather long sentence, and nobody knows how it goes on, or where it will ever end."
    hear(ear, spread(sentence, sentence, pause=4.0))
    assert [how for how, _, _ in noted] == ["together", "together", "alone", "alone"]
    assert noted[0][1:] == noted[2][1:]


def test_a_model_that_does_not_believe_itself(tmp_path: Path) -> None:
    """Low probability sends a piece up the ladder, and what is no better there is doubtful or left out."""
    unsure = WhisperEar(write_whisper(tmp_path / "unsure", doubt=0.02, chunk=10), threads=1)
    transcript, _, _ = hear(unsure, talk(25.0))
    assert all(one.doubtful for one in transcript.segments)
    fixed, _, _ = hear(unsure, talk(25.0), temperature=0.0)
    assert fixed.segments
    assert all(one.doubtful for one in fixed.segments)


def test_loops_are_doubtful(tmp_path: Path) -> None:
    """A model that says one word for ever is not believed, alone and in a batch."""
    looping = WhisperEar(write_whisper(tmp_path / "loop", words=["thanks"] * 60, chunk=10), threads=1)
    for alone in (True, False):
        transcript, _, _ = hear(looping, spread(*["Good morning, Ada."] * 3, pause=3.0), alone=alone)
        assert transcript.segments
        assert all(one.doubtful for one in transcript.segments)


def test_repeats_collapse(ear: WhisperEar) -> None:
    """The same sentence again and again becomes one doubtful segment up to the end of the row."""
    transcript, _, _ = hear(ear, spread(*[f"Sentence {number}." for number in range(9)], pause=4.0))
    assert [one.doubtful for one in transcript.segments] == [False, False, True]
    assert transcript.segments[-1].end > transcript.duration - 3.0


def test_languages(ear: WhisperEar) -> None:
    """A language that was wished is taken as it is; one that does not exist is refused."""
    transcript, _, _ = hear(ear, talk(5.0), language="de", translate=True)
    assert (transcript.language, transcript.segments[0].language) == ("de", "")
    with pytest.raises(EngineError) as error:
        hear(ear, talk(5.0), language="xx")
    assert error.value.code == "invalid_request_error"


def test_languages_are_mixed(ear: WhisperEar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece has its own language; an unsure guess is that of the recording so far."""
    monkeypatch.setattr("models.doubt.REPEATS", 1000)
    guesses = iter([("en", 0.9), ("de", 0.8), ("fr", 0.2), ("en", 0.9), ("de", 0.9), ("en", 0.1)])

    class Telling:
        def __init__(self, model: Any) -> None:
            self._model = model

        def detect_language(self, encoded: Any) -> list[list[tuple[str, float]]]:
            found = [next(guesses) for _ in range(np.array(encoded).shape[0])]
            return [[(f"<|{language}|>", sure)] for language, sure in found]

        def __getattr__(self, name: str) -> Any:
            return getattr(self._model, name)

    monkeypatch.setattr(ear._model, "model", Telling(ear._model.model))
    transcript, _, _ = hear(ear, spread(*[f"Sentence {number}." for number in range(6)], pause=4.0))
    assert [one.language for one in transcript.segments] == ["en", "de", "de", "en", "de", "de"]
    assert transcript.language == "de"


def test_hotwords_are_cut(ear: WhisperEar) -> None:
    """Hotwords reach the prompt, and no more of them than the model bears."""
    heard = ears._Hearing(ear._model, HearingWish(hotwords="Ada " * 500))
    options = heard._options(heard._tokenizer())
    assert 20 < len(options.hotwords) <= ears.HOTWORDS
    assert options.hotwords.startswith("Ada Ada")
    plain = ears._Hearing(ear._model, HearingWish())
    assert plain._options(plain._tokenizer()).hotwords is None
    hear(ear, talk(5.0), hotwords="Ada " * 500)


def test_a_truncated_recording(ear: WhisperEar) -> None:
    """What is there of a broken recording is heard, and it is said."""
    data = pack(talk(10.0))
    transcript, _, truncated = hear(ear, data[: len(data) // 2])
    assert truncated
    assert 3 < transcript.duration < 7


def test_going_on(ear: WhisperEar, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was heard before is passed over, and times stay those of the whole recording."""
    monkeypatch.setattr("models.doubt.REPEATS", 1000)
    sound = spread(*["This is the first of them."] * 4, pause=6.0)
    whole, _, _ = hear(ear, sound)
    start = whole.segments[1].end
    rest, reached, _ = hear(ear, sound, start=start)
    assert [one.start for one in rest.segments] == pytest.approx(
        [one.start for one in whole.segments[2:]], abs=0.2
    )
    assert reached[0].done == pytest.approx(start, abs=0.01)
    assert rest.duration == whole.duration
    nothing, _, truncated = hear(ear, sound, start=1000.0)
    assert (nothing.segments, nothing.duration, truncated) == ((), whole.duration, False)


def test_folders_that_are_no_model(folder: Path, tmp_path: Path) -> None:
    """Each missing file is named before anything is loaded, so that the hub is never asked for it."""
    with pytest.raises(Unloadable, match="not a folder"):
        WhisperEar(tmp_path / "nowhere")
    for name in ("tokenizer.json", "preprocessor_config.json", "config.json", "model.bin", "vocabulary.json"):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        (copy / name).unlink()
        with pytest.raises(Unloadable, match=f"lacks {name}") as error:
            WhisperEar(copy)
        assert error.value.remedy
    for name in ("tokenizer.json", "preprocessor_config.json", "model.bin"):
        (tmp_path / "config.json" / name).write_text("Dear diary")
    shutil.copy(folder / "config.json", tmp_path / "config.json")
    with pytest.raises(Unloadable, match="not a speech model"):
        WhisperEar(tmp_path / "config.json")


def test_the_models_own_window(folder: Path, ear: WhisperEar) -> None:
    """How much is heard at once is what the model's folder says."""
    assert json.loads((folder / "preprocessor_config.json").read_text())["chunk_length"] == ear.longest == 10
