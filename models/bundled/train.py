"""Train the bundled model: `python -m models.bundled.train --out DIR --minutes 65 --seed 1`.

Needs torch (2.13 was used), which is not among the project's locked dependencies; nothing but training
needs it. Conversation number n of a run is `training_conversation(seed, n)`, so the training set can be
made again without training. A run stopped by anything goes on from its last checkpoint when it is started
with the same `--out`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.bundled.tokens import Tokenizer, learn
from models.bundled.world import conversation, training_conversation

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTEXT_WEIGHT, LATE_CONTEXT_WEIGHT = 0.1, 0.02
"""Loss weights of what people write; answers weigh 1.

A little of it makes copying emerge sooner; once that is learned, it only takes capacity away."""
LATE_FROM = 42_000
"""The conversation from which the late weight holds."""
TOKENS_PER_STEP = 4096
POOL = 256
"""Conversations that are sorted by length together, so that a batch holds little padding."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes; `context` in tokens is what the export promises."""

    vocabulary: int = 1536
    width: int = 256
    layers: int = 6
    heads: int = 8
    inner: int = 640
    context: int = 2048
    rope_base: float = 10000.0
    epsilon: float = 1e-5


class Layer(nn.Module):
    """One transformer block; input and output (batch, time, width)."""

    def __init__(self, shape: Shape) -> None:
        """Make the matrices."""
        super().__init__()
        self.heads = shape.heads
        self.norm_attention = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.norm_inner = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.gate_up = nn.Linear(shape.width, 2 * shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend to what came before, then transform; `cos`, `sin` are (time, head width / 2)."""
        batch, time, width = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(batch, time, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(
            turn(q, cos, sin), turn(k, cos, sin), v, is_causal=True
        )
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))
        gate, up = self.gate_up(self.norm_inner(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) on adjacent pairs; x is (batch, heads, time, head width)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Network(nn.Module):
    """Token ids (batch, time) to logits (batch, time, vocabulary)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        """Make and initialise the weights."""
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        half = shape.width // shape.heads // 2
        angles = torch.outer(
            torch.arange(shape.context).float(), shape.rope_base ** (-torch.arange(half).float() / half)
        )
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for layer in self.layers:
            for name, weight in layer.named_parameters():
                if weight.dim() == 2:
                    scale = (2 * shape.layers) ** -0.5 if name.startswith(("out", "down")) else 1.0
                    nn.init.normal_(weight, std=scale * weight.shape[1] ** -0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits for the token after each."""
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return functional.linear(self.norm(x), self.embedding.weight)


@dataclass(slots=True)
class Progress:
    """Where a run stands: optimiser steps, conversations and tokens used, seconds of training."""

    steps: int = 0
    drawn: int = 0
    tokens: int = 0
    seconds: float = 0.0


def make_tokenizer(size: int) -> Tokenizer:
    """The tokenizer, learned from conversations that are not part of the training numbers."""
    texts: list[str] = []
    for number in range(6000):
        talk = conversation(random.Random(f"tokens {number}"), made_up=0.02)
        texts += [talk.system] if number % 5 == 0 else []
        texts += [text for exchange in talk.exchanges for text in (exchange.user, exchange.answer)]
    return learn(texts, size)


def batches(
    tokenizer: Tokenizer, seed: int, progress: Progress, context: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of ids and loss weights, both (batch, time), starting where `progress` stands."""
    while True:
        pool = []
        for number in range(progress.drawn, progress.drawn + POOL):
            ids, mine = tokenizer.dialogue(training_conversation(seed, number))
            pool.append((ids[:context], mine[:context]))
        pool.sort(key=lambda pair: len(pair[0]))
        groups: list[list[tuple[list[int], list[bool]]]] = [[]]
        for pair in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(pair[0]) > TOKENS_PER_STEP:
                groups.append([])
            groups[-1].append(pair)
        random.Random(progress.drawn).shuffle(groups)
        progress.drawn += POOL
        for group in groups:
            yield pad(group, CONTEXT_WEIGHT if progress.drawn < LATE_FROM else LATE_CONTEXT_WEIGHT)


def pad(group: list[tuple[list[int], list[bool]]], context_weight: float) -> tuple[Tensor, Tensor]:
    """Equal lengths: padding at the right with weight 0, out of sight of causal attention."""
    longest = max(len(ids) for ids, _ in group)
    ids = torch.zeros(len(group), longest, dtype=torch.long)
    weights = torch.zeros(len(group), longest)
    for row, (tokens, mine) in enumerate(group):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, : len(tokens)] = torch.tensor([1.0 if own else context_weight for own in mine])
    return ids, weights


def optimisers(network: Network) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices inside, AdamW for embedding and norms."""
    inner = [weight for weight in network.layers.parameters() if weight.dim() == 2]
    rest = [
        weight
        for name, weight in network.named_parameters()
        if not (name.startswith("layers") and weight.dim() == 2)
    ]
    return [
        torch.optim.Muon(inner, lr=4e-3, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate(steps: int, done: float) -> float:
    """The learning rate's factor: 100 steps of warm-up, flat until 40 % of the time, then a cosine to 0."""
    fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, (done - 0.4) / 0.6)))
    return min(1.0, (steps + 1) / 100) * max(0.002, fall)


@torch.no_grad()
def score(network: nn.Module, tokenizer: Tokenizer, samples: int) -> str:
    """Exact answers per category on kept-out names; under teacher forcing that equals greedy decoding."""
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for number in range(samples):
        talk = conversation(random.Random(f"score {number}"), unseen=True)
        ids, mine = tokenizer.dialogue(talk)
        with torch.autocast("cpu", torch.bfloat16):
            guess = network(torch.tensor([ids[:-1]]))[0].argmax(-1).tolist()
        at = 0
        for exchange in talk.exchanges:
            start = mine.index(True, at)
            at = ids.index(0, start) + 1
            asked[exchange.category] += 1
            right[exchange.category] += guess[start - 1 : at - 1] == ids[start:at]
    parts = [f"{name} {right[name]}/{asked[name]}" for name in sorted(asked)]
    return f"{sum(right.values()) / sum(asked.values()):.3f} ({', '.join(parts)})"


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


def learn_batch(
    network: nn.Module, tools: list[torch.optim.Optimizer], ids: Tensor, weights: Tensor
) -> float:
    """One optimiser step; returns the mean loss of the answers' tokens."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(ids[:, :-1])
    losses = functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    weight = weights[:, 1:].flatten()
    loss = (losses * weight).sum() / weight.sum()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for tool in tools:
        tool.step()
        tool.zero_grad()
    return float(losses.detach()[weight == 1].mean())


def train(out: Path, minutes: float, seed: int, shape: Shape) -> None:
    """Train for so many minutes, all runs into `out` together.

    Leaves `checkpoint.pt`, `tokens.json` and `shape.json` there.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokens.json").exists():
        make_tokenizer(shape.vocabulary).save(out / "tokens.json")
    tokenizer = Tokenizer.load(out / "tokens.json")
    (out / "shape.json").write_text(json.dumps(asdict(shape)))
    torch.manual_seed(seed)
    network = Network(shape)
    tools = optimisers(network)
    bases = [tool.param_groups[0]["lr"] for tool in tools]
    progress = load(out / "checkpoint.pt", network, tools)
    fast = torch.compile(network, dynamic=True)
    before = saved_at = scored_at = progress.seconds
    losses: list[float] = []
    start = time.monotonic()
    for ids, weights in batches(tokenizer, seed, progress, shape.context):
        factor = rate(progress.steps, progress.seconds / (60 * minutes))
        for tool, base in zip(tools, bases, strict=True):
            tool.param_groups[0]["lr"] = base * factor
        losses.append(learn_batch(fast, tools, ids, weights))
        progress.steps += 1
        progress.tokens += int((weights > 0).sum())
        progress.seconds = before + time.monotonic() - start
        if len(losses) == 50:
            print(f"{progress} answers' loss {sum(losses) / 50:.4f} rate {factor:.3f}", flush=True)
            losses.clear()
        if progress.seconds - saved_at > 120:
            save(out / "checkpoint.pt", network, tools, progress)
            saved_at = progress.seconds
        if progress.seconds - scored_at > 240:
            print(f"exact {score(network, tokenizer, 60)}", flush=True)
            scored_at = progress.seconds
        if progress.seconds >= 60 * minutes:
            break
    save(out / "checkpoint.pt", network, tools, progress)
    print(f"{progress}, exact {score(network, tokenizer, 300)}", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, tokenizer and shape")
    parser.add_argument("--minutes", type=float, default=65)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--inner", type=int, default=512)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    train(chosen.out, chosen.minutes, chosen.seed, Shape(layers=chosen.layers, inner=chosen.inner))


if __name__ == "__main__":
    main()
