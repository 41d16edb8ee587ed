"""Whisper's network (Radford et al. 2022), small: an encoder of log-mel features, a decoder of tokens.

It differs only in what the exported form cannot tell: linear maps have no bias, and the decoder's positions
start as sinusoids. The head for the connectionist loss is training's alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes; `positions` and `context` are Whisper's, on which faster-whisper relies."""

    width: int = 192
    heads: int = 3
    encoder_layers: int = 4
    decoder_layers: int = 2
    bands: int = 80
    positions: int = 1500
    context: int = 448


def sinusoids(length: int, width: int) -> Tensor:
    """Whisper's table of positions, (length, width)."""
    scales = torch.exp(-torch.arange(width // 2) * (torch.log(torch.tensor(10000.0)) / (width // 2 - 1)))
    angles = torch.arange(length)[:, None] * scales[None]
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class Attention(nn.Module):
    """Attention of `x` (batch, time, width) to itself or to `other`."""

    def __init__(self, width: int, heads: int) -> None:
        """Make the matrices."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, other: Tensor, *, causal: bool = False) -> Tensor:
        """Mix the values of `other` into `x`."""
        batch, time, width = x.shape
        query = self.query(x).view(batch, time, self.heads, -1).transpose(1, 2)
        both = self.key_value(other).view(batch, other.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, both[0], both[1], is_causal=causal)
        return self.out(mixed.transpose(1, 2).reshape(batch, time, width))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """One block; a decoder's listens too."""

    def __init__(self, width: int, heads: int, *, listens: bool) -> None:
        """Make the parts."""
        super().__init__()
        self.causal = listens
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_listening = nn.LayerNorm(width) if listens else None
        self.listening = Attention(width, heads) if listens else None
        self.norm_inner = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor, heard: Tensor | None = None) -> Tensor:
        """Input and output (batch, time, width)."""
        normed = self.norm_attention(x)
        x = x + self.attention(normed, normed, causal=self.causal)
        if self.listening is not None and self.norm_listening is not None and heard is not None:
            x = x + self.listening(self.norm_listening(x), heard)
        return x + self.down(functional.gelu(self.up(self.norm_inner(x))))  # type: ignore[no-any-return]


class Network(nn.Module):
    """Features (batch, 80, frames) and ids (batch, time) to logits of the next ids and of the text heard."""

    positions: Tensor

    def __init__(self, shape: Shape, vocabulary: int, text_tokens: int) -> None:
        """Make and initialise the weights."""
        super().__init__()
        width = shape.width
        self.conv1 = nn.Conv1d(shape.bands, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.encoder = nn.ModuleList(
            Layer(width, shape.heads, listens=False) for _ in range(shape.encoder_layers)
        )
        self.encoder_norm = nn.LayerNorm(width)
        self.embedding = nn.Embedding(vocabulary, width)
        self.decoder = nn.ModuleList(
            Layer(width, shape.heads, listens=True) for _ in range(shape.decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.text = nn.Linear(width, text_tokens + 1)
        self.register_buffer("positions", sinusoids(shape.positions, width))
        self.places = nn.Parameter(0.05 * sinusoids(shape.context, width))
        nn.init.normal_(self.embedding.weight, std=0.05)
        layers = (*self.encoder, *self.decoder)
        for layer in layers:
            for name, weight in layer.named_parameters():
                if weight.dim() == 2:
                    scale = (2 * len(layers)) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1.0
                    nn.init.normal_(weight, std=scale * weight.shape[1] ** -0.5)

    def listen(self, features: Tensor) -> Tensor:
        """The encoder: (batch, frames / 2, width)."""
        x = functional.gelu(self.conv1(features))
        x = functional.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self.positions[: x.shape[1]]
        for layer in self.encoder:
            x = layer(x)
        return self.encoder_norm(x)  # type: ignore[no-any-return]

    def write(self, ids: Tensor, heard: Tensor) -> Tensor:
        """The decoder: (batch, time, vocabulary)."""
        x = self.embedding(ids) + self.places[: ids.shape[1]]
        for layer in self.decoder:
            x = layer(x, heard)
        return functional.linear(self.decoder_norm(x), self.embedding.weight)

    def forward(self, features: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the next token after each, and of the text at each encoder position."""
        heard = self.listen(features)
        return self.write(ids, heard), self.text(heard)
