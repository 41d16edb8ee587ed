"""Measure the bundled model: `python -m models.bundled.evaluate --seed N [--samples 200] [--model PATH]`.

Needs only the `[local]` extra: the answers come from real llama.cpp at temperature 0, in whole
conversations in which the model reads its own earlier answers. Each question has one right answer; the
score is exact match, per category and in total, beside a baseline that is told the shape of the answer and
copies a random fact of that shape from the context. Names, phrases and numbers come from the part of the
world that training never draws from (`words.kept_out`); that nothing of it was trained on is checked by
making the whole training set again and comparing. Exit status 1 if anything overlaps.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import llama_cpp

from models.bundled import MODEL_PATH, TRAINING_CONVERSATIONS, TRAINING_SEED
from models.bundled.tables import UNKNOWN
from models.bundled.tokens import ASSISTANT, END, SYSTEM, USER
from models.bundled.words import kept_out
from models.bundled.world import Conversation, conversation, training_conversation

LONGEST = 120
"""Tokens after which an answer is cut off; the longest right ones have about 80."""


@dataclass(slots=True)
class Speaker:
    """A model behind llama.cpp: prompts are assembled from ids, so that no text can forge a special token."""

    llama: llama_cpp.Llama
    tokens: int = 0
    seconds: float = 0.0

    def encode(self, text: str) -> list[int]:
        """Plain text to ids."""
        return list(self.llama.tokenize(text.encode(), add_bos=False, special=False))

    def answer(self, ids: list[int]) -> list[int]:
        """The most likely answer to the ids, up to its end token, which is left out."""
        start, out = time.perf_counter(), list[int]()
        for token in self.llama.generate(ids, temp=0.0, repeat_penalty=1.0):
            if token == END or len(out) == LONGEST:
                break
            out.append(token)
        self.tokens += len(ids) + len(out)
        self.seconds += time.perf_counter() - start
        return out

    def converse(self, talk: Conversation) -> list[str]:
        """The answers to each user message in turn, each with what came before in view."""
        ids, answers = [SYSTEM, *self.encode(talk.system), END], []
        for exchange in talk.exchanges:
            ids += [USER, *self.encode(exchange.user), END, ASSISTANT]
            out = self.answer(ids)
            ids += [*out, END]
            answers.append(self.llama.detokenize(out).decode(errors="replace"))
        return answers


@dataclass(slots=True)
class Tally:
    """Exact answers of the model and the baseline, by category."""

    asked: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    copied: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, category: str, *, right: bool, copied: bool) -> None:
        """Count one question."""
        self.asked[category] += 1
        self.right[category] += right
        self.copied[category] += copied

    def show(self, title: str) -> None:
        """Print the table."""
        print(f"\n{title}\n{'category':<24}{'questions':>10}{'model':>8}{'baseline':>10}")
        for name in [*sorted(set(self.asked) - {"total", "with rivals"}), "with rivals", "total"]:
            if self.asked[name]:
                model, baseline = self.right[name] / self.asked[name], self.copied[name] / self.asked[name]
                print(f"{name:<24}{self.asked[name]:>10}{model:>8.3f}{baseline:>10.3f}")


def measure(speaker: Speaker, talks: list[Conversation], rng: random.Random) -> Tally:
    """Let the model and the baseline answer every question."""
    tally = Tally()
    for talk in talks:
        for exchange, said in zip(talk.exchanges, speaker.converse(talk), strict=True):
            facts = (
                exchange.rivals
                if exchange.category in {"unknown", "chat", "tell"}
                else (exchange.answer, *exchange.rivals)
            )
            right, copied = (
                said == exchange.answer,
                rng.choice(facts or (UNKNOWN,)) == exchange.answer and bool(facts),
            )
            for category in (exchange.category, "total", *(("with rivals",) if exchange.rivals else ())):
                tally.add(category, right=right, copied=copied)
            if not right:
                tally.wrong.append((exchange.user, exchange.answer, said))
    return tally


def draw(seed: int, samples: int, made_up: float) -> list[Conversation]:
    """Kept-out conversations with at least so many questions together."""
    talks: list[Conversation] = []
    number = 0
    while sum(len(talk.exchanges) for talk in talks) < samples:
        number += 1
        try:
            talks.append(
                conversation(
                    random.Random(f"evaluate {seed} {made_up} {number}"), unseen=True, made_up=made_up
                )
            )
        except LookupError:  # the kept-out part of a name list is short; take the next conversation
            continue
    return talks


def overlap(talks: list[Conversation], replay: int) -> int:
    """Compare with the first `replay` training conversations, made again; print and return what is shared."""
    words = {word for talk in talks for word in talk.words}
    questions = {exchange.user.rsplit("\n", 1)[-1] for talk in talks for exchange in talk.exchanges}
    contexts = {
        exchange.user.rsplit("\n", 1)[0]
        for talk in talks
        for exchange in talk.exchanges
        if "\n" in exchange.user
    }
    shared: Counter[str] = Counter()
    for number in range(replay):
        talk = training_conversation(TRAINING_SEED, number)
        shared["names"] += len(words & talk.words)
        for exchange in talk.exchanges:
            context, _, question = exchange.user.rpartition("\n")
            shared["questions"] += question in questions
            shared["contexts"] += bool(context) and context in contexts
    misplaced = sum(not kept_out(word) for word in words)
    print(f"\noverlap with {replay:,} of {TRAINING_CONVERSATIONS:,} training conversations:")
    print(f"  names, phrases and numbers: {shared['names']} of {len(words)}")
    print(f"  of these on training's side of the hash partition: {misplaced}")
    print(f"  questions: {shared['questions']} of {len(questions)}")
    print(f"  contexts: {shared['contexts']} of {len(contexts)}")
    return shared.total() + misplaced


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--samples", type=int, default=200, help="questions per kind of name")
    parser.add_argument("--model", type=Path, default=MODEL_PATH)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--replay", type=int, default=TRAINING_CONVERSATIONS, help="training conversations to compare with"
    )
    parser.add_argument(
        "--show-wrong", type=int, default=0, metavar="N", help="print the first N wrong answers"
    )
    chosen = parser.parse_args()
    llama = llama_cpp.Llama(
        str(chosen.model), n_ctx=2048, n_threads=chosen.threads, n_threads_batch=chosen.threads, verbose=False
    )
    speaker, every = Speaker(llama), list[Conversation]()
    for title, made_up in (
        ("names from the list, kept out of training", 0.0),
        ("made-up names (nonsense syllables)", 1.0),
    ):
        talks = draw(chosen.seed, chosen.samples, made_up)
        tally = measure(speaker, talks, random.Random(chosen.seed))
        tally.show(f"{title}, seed {chosen.seed}")
        for user, answer, said in tally.wrong[: chosen.show_wrong]:
            print(f"---\n{user}\n  right: {answer}\n  said:  {said}")
        every += talks
    print(f"\n{speaker.tokens:,} tokens in {speaker.seconds:.1f} s with {chosen.threads} threads")
    sys.exit(1 if overlap(every, chosen.replay) else 0)


if __name__ == "__main__":
    main()
