"""Train the bundled speech model: `python -m models.bundled.voice.train --out DIR --minutes 75 --seed 1`.

Needs torch (2.13 was used), which is not among the project's locked dependencies; nothing but training and
export needs it. Window number n of a run is `window(seed, n)`, so what was said in training can be composed
again. A run stopped by anything goes on from its last checkpoint when it is started with the same `--out`.

The loss is that of the decoder and, with a weight that falls, a connectionist one on the encoder (Watanabe et
al. 2017, hybrid CTC/attention), without which so young a decoder takes far longer to find where to listen.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.bundled.voice import sentences
from models.bundled.voice.network import Network, Shape
from models.bundled.voice.tokens import Tokens, learn
from models.bundled.voice.windows import Window, window

if TYPE_CHECKING:
    from collections.abc import Iterator

from pathlib import Path

POOL = 288
"""New windows that are made together."""
USES = 3
"""How often each window is used, with a pool's worth of others between, before it goes."""
POSITIONS_PER_STEP = 3000
"""Encoder positions (0.02 s each) in a batch, padding included."""
LATEST_START = 1.0
"""Seconds: faster-whisper takes no later first time mark."""
MISREAD_FROM = 18144
"""The training window from which the decoder reads some of its own text wrongly."""
FULL = 3000
"""Frames to which faster-whisper pads every window."""


@dataclass(slots=True)
class Progress:
    """Where a run stands: optimiser steps, windows made, seconds of training."""

    steps: int = 0
    drawn: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Example:
    """Features (80, frames), decoder ids with their loss weights, what truly comes first, the text's ids.

    First comes the earliest time mark or, when nothing is said, `<|nospeech|>`, even before another token.
    """

    features: Tensor
    ids: list[int]
    weights: list[float]
    first: int
    text: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples side by side: (batch, 80, frames), two of (batch, ids), texts end to end, lengths of each."""

    features: Tensor
    ids: Tensor
    weights: Tensor
    texts: Tensor
    text_lengths: Tensor
    positions: Tensor


class Listener:
    """Sound to Whisper's features, number for number as faster-whisper computes them."""

    def __init__(self) -> None:
        """Make the filters."""
        from faster_whisper.feature_extractor import FeatureExtractor  # noqa: PLC0415  # pulls in much else

        self.filters = torch.from_numpy(FeatureExtractor.get_mel_filters(16000, 400, 80)).float()
        self.shape = torch.hann_window(400)

    def __call__(self, sound: Any) -> Tensor:
        """Log-mel features (80, frames) of float32 samples at 16 kHz, 100 frames a second."""
        waves = functional.pad(torch.from_numpy(sound), (0, 160))
        spectrum = torch.stft(waves, 400, 160, window=self.shape, return_complex=True)[:, :-1].abs() ** 2
        levels = (self.filters @ spectrum).clamp(min=1e-10).log10()
        return (levels.maximum(levels.max() - 8.0) + 4.0) / 4.0


def example(tokens: Tokens, listener: Listener, heard: Window) -> Example:
    """What the model hears and should write."""
    spoken = [said for said in heard.said if said.end is not None]
    texts = [tokens.encode(f" {said.text}") for said in spoken]
    ids = [tokens.before, *tokens.encode(f" {heard.before}")[-200:]] if heard.before else []
    weights = [0.0] * (len(ids) + 1)
    ids.append(tokens.start)
    weights += [1.0]
    body: list[int] = []
    for said, text in zip(spoken, texts, strict=True):
        body += [tokens.mark(said.start), *text, tokens.mark(said.end or 0.0)]
    if len(spoken) < len(heard.said):
        body.append(tokens.mark(heard.said[-1].start))
    if body:
        body[0] = min(body[0], tokens.mark(LATEST_START))
    first = body[0] if body else tokens.nothing
    if heard.timed:
        body = body or [tokens.mark(0.0)]
    else:
        body = [tokens.untimed, *(token for text in texts for token in text)]
    body.append(tokens.end)
    return Example(
        listener(heard.sound),
        ids + body,
        weights + [1.0] * (len(body) - 1),
        first,
        [token for text in texts for token in text],
    )


def batches(tokens: Tokens, seed: int, progress: Progress) -> Iterator[Batch]:
    """Endless batches, starting where `progress` stands."""
    listener = Listener()
    kept: list[list[Example]] = []
    while True:
        fresh = [
            example(tokens, listener, window(seed, number))
            for number in range(progress.drawn, progress.drawn + POOL)
        ]
        kept = [*kept[-(USES - 1) :], fresh]
        rng = random.Random(progress.drawn)
        progress.drawn += POOL
        pool = [each for group in kept for each in group]
        pool.sort(key=lambda each: each.features.shape[1] + rng.uniform(0, 60))
        groups: list[list[Example]] = [[]]
        for each in pool:
            frames = max([each.features.shape[1], *(other.features.shape[1] for other in groups[-1])])
            if groups[-1] and (len(groups[-1]) + 1) * frames / 2 > POSITIONS_PER_STEP:
                groups.append([])
            groups[-1].append(each)
        rng.shuffle(groups)
        for group in groups:
            yield collate(rng, tokens, group, 0.0 if progress.drawn < MISREAD_FROM else 0.15)


def collate(rng: random.Random, tokens: Tokens, group: list[Example], wrong: float) -> Batch:
    """Side by side: silence of zeros after the sound as faster-whisper pads, sometimes as long as there.

    `wrong` is the share of text tokens that the decoder reads wrongly, so that it must listen to go on.
    """
    longest = max(each.features.shape[1] for each in group)
    if rng.random() < 0.05:
        group, longest = rng.sample(group, min(len(group), 2 * POSITIONS_PER_STEP // FULL + 1)), FULL
    else:
        longest += int(rng.choice((0, 0, 30, 100)) * rng.random())
    longest = min(FULL, -(-longest // 32) * 32)
    features = torch.zeros(len(group), 80, longest)
    width = -(-max(len(each.ids) for each in group) // 8) * 8 + 1
    ids = torch.full((len(group), width), tokens.end)
    weights = torch.zeros(len(group), width)
    for row, each in enumerate(group):
        features[row, :, : each.features.shape[1]] = masked(rng, each.features)
        ids[row, : len(each.ids)] = torch.tensor(each.ids)
        weights[row, : len(each.ids)] = torch.tensor(each.weights)
    targets = ids.clone()
    for row, each in enumerate(group):
        for place in range(each.ids.index(tokens.start) + 1, len(each.ids)):
            if each.ids[place] < tokens.end and rng.random() < wrong:
                ids[row, place] = rng.randrange(tokens.end)
    for row, each in enumerate(group):
        targets[row, each.ids.index(tokens.start) + 1] = each.first
    return Batch(
        features,
        torch.stack((ids, targets)),
        weights,
        torch.tensor([token for each in group for token in each.text], dtype=torch.long),
        torch.tensor([len(each.text) for each in group]),
        torch.tensor([(each.features.shape[1] + 1) // 2 for each in group]),
    )


def masked(rng: random.Random, features: Tensor) -> Tensor:
    """Some bands and moments taken away, half of the time (Park et al. 2019)."""
    if rng.random() < 0.5:
        return features
    features = features.clone()
    low = features.mean()
    for _ in range(rng.randint(0, 2)):
        band, width = rng.randrange(80), rng.randint(1, 14)
        features[band : band + width] = low
    for _ in range(rng.randint(0, 2)):
        moment, length = rng.randrange(features.shape[1]), rng.randint(1, 14)
        features[:, moment : moment + length] = low
    return features


def optimisers(network: Network) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices inside, AdamW for everything else."""
    layers = [*network.encoder.parameters(), *network.decoder.parameters()]
    inner = [weight for weight in layers if weight.dim() == 2]
    known = {id(weight) for weight in inner}
    rest = [weight for weight in network.parameters() if id(weight) not in known]
    return [
        torch.optim.Muon(inner, lr=3e-3, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate(steps: int, done: float, again: float | None) -> float:
    """The learning rate's factor: 150 steps of warm-up, flat until 40 % of the time, then a cosine to 0.

    A run that is taken up `again` after that share of the time begins at 0.4 and falls to 0.
    """
    if again is not None:
        return max(0.002, 0.2 + 0.2 * math.cos(math.pi * min(1.0, (done - again) / (1 - again))))
    fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, (done - 0.4) / 0.6)))
    return min(1.0, (steps + 1) / 150) * max(0.002, fall)


def learn_batch(
    network: Any, tools: list[torch.optim.Optimizer], batch: Batch, blank: int, share: float
) -> tuple[float, float, float]:
    """One optimiser step; returns the decoder's loss, its share of right tokens, and the encoder's loss."""
    with torch.autocast("cpu", torch.bfloat16):
        logits, guesses = network(batch.features, batch.ids[0, :, :-1])
    weight = batch.weights[:, 1:].flatten()
    targets = batch.ids[1, :, 1:].flatten()
    rows = weight.nonzero().squeeze(1)
    picked = logits.flatten(0, 1)[rows].float()
    losses = functional.cross_entropy(picked, targets[rows], label_smoothing=0.02)
    aligned = functional.ctc_loss(
        guesses.float().log_softmax(-1).transpose(0, 1),
        batch.texts,
        batch.positions,
        batch.text_lengths,
        blank=blank,
        reduction="sum",
        zero_infinity=True,
    ) / max(1, len(batch.texts))
    total = (1 - share) * losses + share * aligned
    total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for tool in tools:
        tool.step()
        tool.zero_grad()
    right = (picked.detach().argmax(-1) == targets[rows]).float().mean()
    return float(losses.detach()), float(right), float(aligned.detach())


def save(path: Path, network: Network, tools: list[torch.optim.Optimizer], progress: Progress) -> None:
    """Write a checkpoint, whole or not at all."""
    state: dict[str, Any] = {
        "network": network.state_dict(),
        "tools": [tool.state_dict() for tool in tools],
        "progress": asdict(progress),
    }
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def load(path: Path, network: Network, tools: list[torch.optim.Optimizer]) -> Progress:
    """Go on from a checkpoint, if there is one."""
    if not path.exists():
        return Progress()
    state = torch.load(path)
    network.load_state_dict(state["network"])
    for tool, saved in zip(tools, state["tools"], strict=True):
        tool.load_state_dict(saved)
    return Progress(**state["progress"])


def train(
    out: Path, minutes: float, seed: int, shape: Shape, *, compiled: bool = False, afresh: bool = False
) -> None:
    """Train for so many minutes, all runs into `out` together; `afresh` raises the learning rate again.

    Leaves `checkpoint.pt`, `tokenizer.json` and `shape.json` there.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer.json").exists():
        texts = [
            f" {sentences.sentence(random.Random(f'tokens {number}'), sentences.NAMES, rare=True)}"
            for number in range(30_000)
        ]
        learn(texts, 800).save(str(out / "tokenizer.json"))
    tokens = Tokens.load(out / "tokenizer.json")
    (out / "shape.json").write_text(json.dumps(asdict(shape)))
    torch.manual_seed(seed)
    network = Network(shape, tokens.size, tokens.end)
    tools = optimisers(network)
    bases = [tool.param_groups[0]["lr"] for tool in tools]
    progress = load(out / "checkpoint.pt", network, tools)
    fast = torch.compile(network, dynamic=True) if compiled else network
    before = saved_at = progress.seconds
    again = before / (60 * minutes) if afresh else None
    seen: list[tuple[float, float, float]] = []
    start = time.monotonic()
    for batch in batches(tokens, seed, progress):
        done = progress.seconds / (60 * minutes)
        for tool, base in zip(tools, bases, strict=True):
            tool.param_groups[0]["lr"] = base * rate(progress.steps, done, again)
        seen.append(learn_batch(fast, tools, batch, tokens.end, 0.5))
        progress.steps += 1
        progress.seconds = before + time.monotonic() - start
        if len(seen) == 50:
            loss, right, aligned = (sum(column) / 50 for column in zip(*seen, strict=True))
            print(f"{progress} loss {loss:.4f} right {right:.4f} aligned {aligned:.4f}", flush=True)
            seen.clear()
        if progress.seconds - saved_at > 120:
            save(out / "checkpoint.pt", network, tools, progress)
            saved_at = progress.seconds
        if progress.seconds >= 60 * minutes:
            break
    save(out / "checkpoint.pt", network, tools, progress)
    print(f"{progress}", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, tokenizer and shape")
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument(
        "--compile", action="store_true", help="with torch.compile, which takes minutes to begin"
    )
    parser.add_argument("--afresh", action="store_true", help="raise the learning rate again")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    shape = Shape(width=chosen.width, encoder_layers=chosen.layers, heads=chosen.width // 64)
    train(chosen.out, chosen.minutes, chosen.seed, shape, compiled=chosen.compile, afresh=chosen.afresh)


if __name__ == "__main__":
    main()
