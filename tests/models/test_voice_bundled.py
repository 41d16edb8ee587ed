"""The speech model that ships: tokens, world, folder, and what real faster-whisper hears with it."""

from __future__ import annotations

import hashlib
import json
import random
import re
import socket
import string
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import _LANGUAGE_CODES

from models.bundled import SPEECH_PATH, TRAINING_SEED
from models.bundled.voice import evaluate, examples, sentences, voices, windows
from models.bundled.voice.tokens import Tokens, learn
from models.ear import WhisperEar
from models.protocol import Ended, HearingWish
from models.sound import look

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens.load(SPEECH_PATH / "tokenizer.json")


@pytest.fixture(scope="module")
def model() -> WhisperModel:
    """The folder as it ships; loading it may reach for nobody."""

    def refuse(*_: object) -> None:
        raise AssertionError("the model reached for the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        return WhisperModel(str(SPEECH_PATH), device="cpu", compute_type="int8", cpu_threads=1)


def heard(model: WhisperModel, sound: object) -> str:
    segments, _ = model.transcribe(sound, language="en", temperature=0.0, condition_on_previous_text=False)
    return " ".join(segment.text.strip() for segment in segments)


def error_rate(model: WhisperModel, path: Path) -> float:
    right = evaluate.words_of(path.with_suffix(".txt").read_text())
    return evaluate.word_errors(right, evaluate.words_of(heard(model, str(path)))) / len(right)


class TestTokens:
    def test_special_tokens_lie_as_whisper_lays_them_out(self, tokens: Tokens) -> None:
        """End, start, languages, tasks, nospeech, notimestamps, 1,501 time marks: no gap, this order."""
        order = [
            "<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in _LANGUAGE_CODES),
            "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>",
            "<|notimestamps|>", *(f"<|{mark / 50:.2f}|>" for mark in range(1501)),
        ]  # fmt: skip
        found = [tokens.tokenizer.id_to_token(tokens.end + place) for place in range(len(order))]
        assert found == order
        assert tokens.size == tokens.end + len(order)

    def test_the_vocabulary_file_agrees_with_the_tokenizer(self, tokens: Tokens) -> None:
        """CTranslate2 and the tokenizer number the same tokens alike."""
        words = json.loads((SPEECH_PATH / "vocabulary.json").read_text())
        assert words == [tokens.tokenizer.id_to_token(number) for number in range(tokens.size)]

    def test_no_sentence_needs_the_bare_space(self, tokens: Tokens) -> None:
        """faster-whisper suppresses a lone space, so none may occur; every text comes back whole."""
        bare = tokens.tokenizer.token_to_id("Ġ")
        for number in range(300):
            text = " " + sentences.sentence(random.Random(number), unseen=number % 2 == 1)
            ids = tokens.encode(text)
            assert bare not in ids
            assert tokens.tokenizer.decode(ids) == text

    def test_a_learned_tokenizer_keeps_digits_single(self) -> None:
        """No token holds two digits, and each letter and digit has one with a space before it."""
        learned = learn(["The door code is 4711 4711 4711."] * 50, 330)
        texts = [token for token in learned.get_vocab() if not token.startswith("<|")]
        assert not [text for text in texts if re.search(r"\d\d", text)]
        assert {f"Ġ{char}" for char in string.ascii_letters + string.digits} <= set(texts)


class TestWorld:
    def test_a_seed_says_the_same_again(self) -> None:
        """The training set is a seed and numbers: words and prompts return; times but for a flutter."""
        for number in (0, 3, 20_000):
            one, two = (windows.window(7, number) for _ in range(2))
            assert [said.text for said in one.said] == [said.text for said in two.said]
            assert (one.timed, one.before) == (two.timed, two.before)
            first, second = ([said.start for said in window.said] for window in (one, two))
            assert np.allclose(first, second, atol=0.1)
            assert windows.training_texts(7, number)[1][: len(one.said)] == [said.text for said in one.said]

    def test_training_and_evaluation_share_no_sentence(self) -> None:
        """Training never composes what evaluation says, nor says a kept-out name."""
        trained = {
            text for number in range(3000) for text in windows.training_texts(TRAINING_SEED, number)[1]
        }
        phrases = {sentences.plain(phrase) for phrase in sentences.SET_PHRASES}
        assert not [text for text in trained - phrases if sentences.kept_out(text)]
        unseen = [sentences.sentence(random.Random(number), unseen=True) for number in range(500)]
        assert all(sentences.kept_out(text) for text in unseen)
        assert not trained & set(unseen)
        names = set(sentences.UNSEEN_NAMES)
        assert names
        assert not [text for text in trained - phrases if names & set(re.findall(r"[A-Z]\w+", text))]
        assert not set(voices.VARIANTS) & set(voices.UNSEEN_VARIANTS)

    def test_a_window_holds_what_it_says(self) -> None:
        """No longer than the window; sentences in order; only the last one may be cut, and by the end."""
        cut = 0
        for number in range(9000, 9040):
            window = windows.window(3, number)
            length = len(window.sound) / voices.RATE
            assert length <= windows.LONGEST
            ends = [said.end for said in window.said]
            assert None not in ends[:-1]
            cut += bool(ends) and ends[-1] is None
            times = [time for said in window.said for time in (said.start, said.end) if time is not None]
            assert times == sorted(times)
            assert all(time <= length + 0.01 for time in times)
        assert cut

    def test_what_is_written_can_be_written_by_whisper(self) -> None:
        """One line, no colon or exclamation mark, capital first, a stop last."""
        for number in range(500):
            assert re.fullmatch(r"[A-Z0-9][A-Za-zé0-9 ,.?'-]*[.?]", sentences.sentence(random.Random(number)))


class TestMeasure:
    @pytest.mark.parametrize(
        ("right", "said", "wrong"),
        [("a b c", "a b c", 0), ("a b c", "a x c", 1), ("a b", "a b c d", 2), ("a b c", "", 3), ("", "a", 1)],
    )
    def test_word_errors(self, right: str, said: str, wrong: int) -> None:
        """Replaced, added and missing words count one each."""
        assert evaluate.word_errors(right.split(), said.split()) == wrong

    def test_case_and_punctuation_do_not_count(self) -> None:
        """Words are compared as they sound."""
        assert evaluate.words_of("Hearth, when's  Tea-time?") == ["hearth", "when's", "tea-time"]

    def test_recordings_are_the_seeds_and_unseen(self) -> None:
        """A seed gives the same recordings, all of kept-out sentences."""
        one, two = (list(evaluate.records(5, 5)) for _ in range(2))
        assert [each.text for each in one] == [each.text for each in two]
        assert all(sentences.kept_out(said.text) for each in one for said in each.said)
        assert {each.kind for each in one} >= {"one sentence", "five sentences", evaluate.NOTHING}


class TestFolder:
    def test_it_is_whole_small_and_the_one_in_the_card(self) -> None:
        """Every file that faster-whisper reads is there, 12 MB at most, with the card's SHA-256."""
        files = {path.name for path in SPEECH_PATH.iterdir()}
        assert files == {
            "MODEL_CARD.md", "config.json", "model.bin", "preprocessor_config.json", "tokenizer.json",
            "vocabulary.json",
        }  # fmt: skip
        assert sum(path.stat().st_size for path in SPEECH_PATH.iterdir()) < 12_000_000
        digest = hashlib.sha256((SPEECH_PATH / "model.bin").read_bytes()).hexdigest()
        assert digest in (SPEECH_PATH / "MODEL_CARD.md").read_text()

    def test_its_window_is_the_one_it_was_trained_on(self, model: WhisperModel) -> None:
        """faster-whisper cuts sound into windows as long as the trained ones."""
        assert model.feature_extractor.n_samples == windows.LONGEST * voices.RATE

    def test_it_hears_the_demo_and_the_note(self, model: WhisperModel) -> None:
        """What the demo shows is heard word for word, and so is the note."""
        assert heard(model, str(examples.HERE / "demo.ogg")) == examples.DEMO[0]
        assert (DATA / "note.txt").read_text().splitlines() == list(examples.NOTE)
        assert error_rate(model, DATA / "note.ogg") == 0

    def test_it_hears_a_meeting(self, model: WhisperModel) -> None:
        """More than a minute of two voices, by our ear: at most one word in four is wrong."""
        truth = (DATA / "meeting.txt").read_text()
        assert truth.splitlines() == list(examples.MEETING)
        ear = WhisperEar(SPEECH_PATH, threads=1)
        with (DATA / "meeting.ogg").open("rb") as file:
            *_, end = ear.hear(look(file, 600.0), HearingWish(), lambda: True)
        assert isinstance(end, Ended)
        right = evaluate.words_of(truth)
        wrong = evaluate.word_errors(right, evaluate.words_of(end.transcript.text))
        assert wrong / len(right) <= 0.25

    def test_it_hears_new_sentences_of_new_voices(self, model: WhisperModel) -> None:
        """Unseen sentences by unseen voices in rooms: at most three words in ten are wrong."""
        wrong = words = 0
        for recording in evaluate.records(11, 10):
            if recording.kind == "one sentence":
                right = evaluate.words_of(recording.text)
                words += len(right)
                wrong += evaluate.word_errors(right, evaluate.words_of(heard(model, recording.sound)))
        assert words
        assert wrong / words <= 0.3

    def test_it_hears_nothing_in_silence(self, model: WhisperModel) -> None:
        """Silence and faint noise are no words."""
        noise = np.random.default_rng(1).standard_normal(4 * voices.RATE).astype(np.float32)
        for sound in (np.zeros(3 * voices.RATE, np.float32), 0.001 * noise):
            assert heard(model, sound) == ""
