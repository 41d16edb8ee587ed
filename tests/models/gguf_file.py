"""Writes small GGUF models with random weights: real files for a real llama.cpp, and no words learned.

The format is ggml's docs/gguf.md, version 3. Every byte is a token, so that the answer of such a
model is noise that splits characters between tokens.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
START, END, _ = range(3)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALIGN = 32
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def letters() -> list[str]:
    """GPT-2's printable letter for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    table = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(rest)}
    return [table[byte] for byte in range(256)]


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _text(value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
        case [int(), *_]:
            return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
    raise TypeError(type(value))


def write_model(
    path: Path,
    *,
    width: int = 32,
    layers: int = 1,
    context: int = 1024,
    template: str | None = CHATML,
    thoughts: tuple[str, ...] = ("<think>",),
    seed: int = 1,
) -> Path:
    """Write a llama model of `width`; `thoughts` become "user defined" tokens."""
    tokens = [*SPECIAL, *letters(), *thoughts]
    kinds = [CONTROL] * len(SPECIAL) + [NORMAL] * 256 + [USER_DEFINED] * len(thoughts)
    heads, inner = max(1, width // 32), width * 2
    facts: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": path.stem,
        "llama.context_length": context,
        "llama.embedding_length": width,
        "llama.block_count": layers,
        "llama.feed_forward_length": inner,
        "llama.attention.head_count": heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": width // heads,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": ["h e"],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.add_bos_token": False,
    }
    if template is not None:
        facts["tokenizer.chat_template"] = template
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(tokens), width),
        "output_norm.weight": (width,),
        "output.weight": (len(tokens), width),
    }
    for layer in range(layers):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (width,),
            f"blk.{layer}.ffn_norm.weight": (width,),
            f"blk.{layer}.ffn_gate.weight": (inner, width),
            f"blk.{layer}.ffn_up.weight": (inner, width),
            f"blk.{layer}.ffn_down.weight": (width, inner),
        }
        shapes |= {f"blk.{layer}.attn_{n}.weight": (width, width) for n in ("q", "k", "v", "output")}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(facts))
    head += b"".join(_text(name) + _value(value) for name, value in facts.items())
    body = bytearray()
    for name, shape in shapes.items():
        weights = np.ones(shape) if len(shape) == 1 else random.normal(0, width**-0.5, shape)
        if name == "output.weight":
            weights[: len(SPECIAL)] = 0  # answers without an end, so that tests decide how long they are
            weights[len(SPECIAL) :] *= 6
        head += _text(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", 0, len(body))
        body += weights.astype("<f4").tobytes()
        body += bytes(-len(body) % ALIGN)
    head += bytes(-len(head) % ALIGN)
    path.write_bytes(head + bytes(body))
    return path
