"""Write a checkpoint as the folder that faster-whisper loads: `python -m models.bundled.voice.export DIR`.

Needs torch and ctranslate2 (4.8). `DIR` is what `train` wrote. The weights go straight through
`ctranslate2.specs.WhisperSpec`, 8-bit integers. The folder is whole or untouched: it is written beside its
place and moved there.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import torch
from ctranslate2.specs import WhisperSpec

from models.bundled import SPEECH_PATH
from models.bundled.voice.network import Network, Shape
from models.bundled.voice.tokens import MARKS, SPECIAL, Tokens
from models.bundled.voice.windows import LONGEST

FILES = ("config.json", "model.bin", "preprocessor_config.json", "tokenizer.json", "vocabulary.json")


def specification(network: Network, shape: Shape) -> Any:
    """CTranslate2's names for the weights; the output matrix is the embedding."""
    spec = WhisperSpec(shape.encoder_layers, shape.heads, shape.decoder_layers, shape.heads)
    for name in ("conv1", "conv2"):
        getattr(spec.encoder, name).weight = numbers(getattr(network, name).weight)
        getattr(spec.encoder, name).bias = numbers(getattr(network, name).bias)
    spec.encoder.position_encodings.encodings = numbers(network.positions)
    spec.decoder.position_encodings.encodings = numbers(network.places)
    spec.decoder.embeddings.weight = spec.decoder.projection.weight = numbers(network.embedding.weight)
    norm(spec.encoder.layer_norm, network.encoder_norm)
    norm(spec.decoder.layer_norm, network.decoder_norm)
    for target, layer in (*zip(spec.encoder.layer, network.encoder, strict=True),
                          *zip(spec.decoder.layer, network.decoder, strict=True)):  # fmt: skip
        own: Any = layer
        attention = own.attention
        norm(target.self_attention.layer_norm, own.norm_attention)
        fused = torch.cat((attention.query.weight, attention.key_value.weight))
        target.self_attention.linear[0].weight = numbers(fused)
        target.self_attention.linear[1].weight = numbers(attention.out.weight)
        if own.listening is not None:
            norm(target.attention.layer_norm, own.norm_listening)
            target.attention.linear[0].weight = numbers(own.listening.query.weight)
            target.attention.linear[1].weight = numbers(own.listening.key_value.weight)
            target.attention.linear[2].weight = numbers(own.listening.out.weight)
        norm(target.ffn.layer_norm, own.norm_inner)
        target.ffn.linear_0.weight = numbers(own.up.weight)
        target.ffn.linear_1.weight = numbers(own.down.weight)
    return spec


def numbers(weights: torch.Tensor) -> Any:
    """The weights as float32 numbers of numpy."""
    return weights.detach().float().contiguous().numpy()


def norm(target: Any, source: torch.nn.LayerNorm) -> None:
    """A layer norm's two vectors."""
    target.gamma, target.beta = numbers(source.weight), numbers(source.bias)


def write(network: Network, shape: Shape, tokens: Tokens, target: Path, quantization: str = "int8") -> None:
    """Write the folder."""
    spec = specification(network, shape)
    words = [tokens.tokenizer.id_to_token(number) for number in range(tokens.size)]
    spec.register_vocabulary(words)
    languages = range(tokens.start + 1, tokens.start + 1 + SPECIAL.index("<|translate|>") - 2)
    spec.config.lang_ids = list(languages)
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [tokens.tokenizer.token_to_id("Ġ")]
    last = shape.decoder_layers - 1
    spec.config.alignment_heads = [[last, head] for head in range(shape.heads)]
    spec.validate()
    spec.optimize(quantization=quantization)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    spec.save(str(part))
    tokens.tokenizer.save(str(part / "tokenizer.json"))
    (part / "vocabulary.json").write_text(json.dumps(words, ensure_ascii=False))
    features = {
        "feature_size": 80,
        "sampling_rate": 16000,
        "hop_length": 160,
        "chunk_length": LONGEST,
        "n_fft": 400,
    }
    (part / "preprocessor_config.json").write_text(json.dumps(features, indent=2) + "\n")
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (part / name).replace(target / name)
    shutil.rmtree(part)


def restore(source: Path) -> tuple[Network, Shape, Tokens]:
    """The network as the last checkpoint has it."""
    shape = Shape(**json.loads((source / "shape.json").read_text()))
    tokens = Tokens.load(source / "tokenizer.json")
    network = Network(shape, tokens.size, tokens.end)
    if (source / "checkpoint.pt").exists():
        network.load_state_dict(torch.load(source / "checkpoint.pt", map_location="cpu")["network"])
    return network, shape, tokens


def main() -> None:
    """Read the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder that train.py wrote")
    parser.add_argument("--to", type=Path, default=SPEECH_PATH)
    parser.add_argument("--type", choices=("int8", "float16", "float32"), default="int8")
    chosen = parser.parse_args()
    network, shape, tokens = restore(chosen.source)
    write(network, shape, tokens, chosen.to, chosen.type)
    size = sum((chosen.to / name).stat().st_size for name in FILES)
    print(f"{chosen.to}: {size:,} bytes, {len(MARKS)} time marks, ctranslate2 {ctranslate2.__version__}, "
          f"{sum(np.prod(weight.shape) for weight in network.parameters()):,.0f} parameters")  # fmt: skip


if __name__ == "__main__":
    main()
