"""A Whisper model from nothing: random weights in a real shape, that says the same words at any speech.

The weights of a trained model decide what is said; here the table of embeddings does: each token
points at the one that follows it, louder than all layers together. So the number of tokens is
fixed, the text is known, every layer is computed, and faster-whisper loads it like any other.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from ctranslate2.specs import WhisperSpec
from faster_whisper.tokenizer import _LANGUAGE_CODES
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MELS = 80
POSITIONS = 448
TIMES = 1501


def write_whisper(
    folder: Path,
    *,
    words: Sequence[str] = ("the", "garden", "is", "green"),
    end: float = 2.0,
    width: int = 64,
    heads: int = 2,
    layers: tuple[int, int] = (1, 1),
    vocabulary: int = 0,
    chunk: int = 30,
    doubt: float = 1.0,
) -> Path:
    """Write a model that says `words`, from 0 to `end` seconds, of whatever it hears.

    A word that comes twice in a row is a loop that the model does not leave. `layers` are those of
    the encoder and the decoder; `vocabulary` is filled up to so many tokens, `chunk` is seconds heard
    at once. A `doubt` near 0 makes it as unsure as can be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    tokens = _tokens(words, vocabulary)
    said = [_time(0.0), *(f"Ġ{word}" for word in words), _time(end), "<|endoftext|>"]
    # What is never said ends in nothing, or the search would find its end before that of the words.
    follows = {token: token for token in tokens} | dict(reversed(list(pairwise(said))))
    follows |= {"<|startoftranscript|>": "<|en|>", "<|transcribe|>": said[0], "<|translate|>": said[0]}
    spec = WhisperSpec(layers[0], heads, layers[1], heads)
    _attention_layers(spec.encoder.layer, width, rng, decoder=False)
    _attention_layers(spec.decoder.layer, width, rng, decoder=True)
    spec.encoder.conv1.weight, spec.encoder.conv1.bias = _random(rng, width, MELS, 3), _zeros(width)
    spec.encoder.conv2.weight, spec.encoder.conv2.bias = _random(rng, width, width, 3), _zeros(width)
    spec.encoder.position_encodings.encodings = _random(rng, 1500, width)
    pointers = rng.standard_normal((len(tokens), width)).astype(np.float32)
    pointers /= np.linalg.norm(pointers, axis=1, keepdims=True)
    spec.decoder.position_encodings.encodings = _random(rng, POSITIONS, width)
    number = {token: at for at, token in enumerate(tokens)}
    spec.decoder.embeddings.weight = 20 * pointers[[number[follows[token]] for token in tokens]]
    spec.decoder.projection.weight = 4 * doubt * pointers
    for norm in (spec.encoder.layer_norm, spec.decoder.layer_norm):
        norm.gamma, norm.beta = np.ones(width, np.float32), _zeros(width)
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.config.lang_ids = [tokens.index(f"<|{code}|>") for code in _LANGUAGE_CODES]
    spec.config.alignment_heads = [(layers[1] - 1, 0)]
    spec.register_vocabulary(tokens)
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))
    _tokenizer(tokens).save(str(folder / "tokenizer.json"))
    features = {"feature_size": MELS, "sampling_rate": 16000, "hop_length": 160, "n_fft": 400}
    (folder / "preprocessor_config.json").write_text(json.dumps(features | {"chunk_length": chunk}))
    return folder


def _time(seconds: float) -> str:
    return f"<|{seconds:.2f}|>"


def _tokens(words: Sequence[str], size: int) -> list[str]:
    """The ids lie as Whisper's: text, end, start, languages, tasks, the rest, times."""
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in _LANGUAGE_CODES)]
    special += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    special += ["<|notimestamps|>", *(_time(at * 0.02) for at in range(TIMES))]
    text = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *dict.fromkeys(f"Ġ{word}" for word in words)]
    text += [f"Ġfiller{number}" for number in range(size - len(text) - len(special) - 1)]
    # CTranslate2 takes a model for multilingual if it knows the empty token.
    return ["", *text, *special]


def _tokenizer(tokens: Sequence[str]) -> Tokenizer:
    text = tokens.index("<|endoftext|>")
    tokenizer = Tokenizer(models.BPE(vocab={token: at for at, token in enumerate(tokens[:text])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens[text:]])
    return tokenizer


def _attention_layers(layers: Sequence[Any], width: int, rng: np.random.Generator, *, decoder: bool) -> None:
    for layer in layers:
        _attention(layer.self_attention, (3 * width, width), rng)
        if decoder:
            _attention(layer.attention, (width, 2 * width, width), rng)
        norm = layer.ffn.layer_norm
        norm.gamma, norm.beta = np.ones(width, np.float32), _zeros(width)
        _linear(layer.ffn.linear_0, 4 * width, width, rng)
        _linear(layer.ffn.linear_1, width, 4 * width, rng)


def _attention(attention: Any, sizes: Sequence[int], rng: np.random.Generator) -> None:
    width = sizes[-1]
    for linear, size in zip(attention.linear, sizes, strict=True):
        _linear(linear, size, width, rng)
    norm = attention.layer_norm
    norm.gamma, norm.beta = np.ones(width, np.float32), _zeros(width)


def _linear(linear: Any, outputs: int, inputs: int, rng: np.random.Generator) -> None:
    linear.weight, linear.bias = _random(rng, outputs, inputs), _zeros(outputs)


def _random(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return (0.02 * rng.standard_normal(shape)).astype(np.float32)


def _zeros(size: int) -> NDArray[np.float32]:
    return np.zeros(size, np.float32)
