"""Write a checkpoint as GGUF: `python -m models.bundled.export DIR [--to FILE] [--type q8_0|f16]`.

Needs torch and gguf (0.19). `python -m models.bundled.export --check DIR` needs llama-cpp-python and
neither of the two: it proves that llama.cpp splits text into the same ids as the tokenizer that the model
was trained with, and exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

from models.bundled import MODEL_PATH
from models.bundled.tokens import CHAT_TEMPLATE, END, SPECIAL, Tokenizer
from models.bundled.world import conversation

AWKWARD = (
    "",
    " ",
    "\n",
    "\n\n",
    "  two  spaces ",
    "Zoë's naïve café 🙂 0612-34 56",
    "<|end|><|assistant|>",
    "a\tb\r\n",
    "I'LL we'll it's",
    "x_y+z=1,5 %",
    "½ ² ٣ 三 中文 Привет",
    "..." * 9,
    "A" * 40,
    "\u200b\u202e",
    "\x00",
)
"""Text that no conversation holds; the tokenizers must agree on it too."""


def write(source: Path, target: Path, kind: str) -> None:
    """Write the GGUF: matrices in `kind` (q8_0 or f16), norms in f32, tokenizer and chat template inside."""
    import gguf  # noqa: PLC0415  # the check must run without it
    import torch  # noqa: PLC0415  # as above

    shape: dict[str, Any] = json.loads((source / "shape.json").read_text())
    tokenizer = Tokenizer.load(source / "tokens.json")
    weights = torch.load(source / "checkpoint.pt", map_location="cpu")["network"]
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name("hearth-small")
    writer.add_description("A toy chat model that answers from its context; see MODEL_CARD.md")
    writer.add_license("CC0-1.0")
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["width"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["inner"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["heads"])
    writer.add_layer_norm_rms_eps(shape["epsilon"])
    writer.add_rope_dimension_count(shape["width"] // shape["heads"])
    writer.add_rope_freq_base(shape["rope_base"])
    writer.add_vocab_size(len(tokenizer.ids))
    writer.add_file_type({"q8_0": gguf.LlamaFileType.MOSTLY_Q8_0, "f16": gguf.LlamaFileType.MOSTLY_F16}[kind])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL] * len(SPECIAL)
        + [gguf.TokenType.NORMAL] * (len(tokenizer.ids) - len(SPECIAL))
    )
    writer.add_token_merges([" ".join(pair) for pair in tokenizer.merges])
    writer.add_bos_token_id(END)
    writer.add_eos_token_id(END)
    writer.add_eot_token_id(END)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in tensors(weights, shape).items():
        values = tensor.float().contiguous().numpy()
        chosen = gguf.GGMLQuantizationType.F32
        if values.ndim == 2:
            chosen = {"q8_0": gguf.GGMLQuantizationType.Q8_0, "f16": gguf.GGMLQuantizationType.F16}[kind]
        writer.add_tensor(name, gguf.quantize(values, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(weights: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    """llama.cpp's names for the weights; the output matrix is the embedding and is left out."""
    named = {"token_embd.weight": weights["embedding.weight"], "output_norm.weight": weights["norm.weight"]}
    for index in range(shape["layers"]):
        q, k, v = weights[f"layers.{index}.qkv.weight"].chunk(3)
        gate, up = weights[f"layers.{index}.gate_up.weight"].chunk(2)
        parts = {
            "attn_norm": weights[f"layers.{index}.norm_attention.weight"],
            "attn_q": q,
            "attn_k": k,
            "attn_v": v,
            "attn_output": weights[f"layers.{index}.out.weight"],
            "ffn_norm": weights[f"layers.{index}.norm_inner.weight"],
            "ffn_gate": gate,
            "ffn_up": up,
            "ffn_down": weights[f"layers.{index}.down.weight"],
        }
        named |= {f"blk.{index}.{name}.weight": part for name, part in parts.items()}
    return named


def check(source: Path, model: Path, samples: int = 1000) -> int:
    """How many of `samples` conversations and the awkward texts llama.cpp splits otherwise than we do."""
    import llama_cpp  # noqa: PLC0415  # writing must run without it

    tokenizer = Tokenizer.load(source / "tokens.json")
    llama = llama_cpp.Llama(str(model), vocab_only=True, verbose=False)
    texts = list(AWKWARD)
    for number in range(samples):
        talk = conversation(random.Random(f"check {number}"), unseen=number % 2 == 1)
        texts += [talk.system] + [
            text for exchange in talk.exchanges for text in (exchange.user, exchange.answer)
        ]
    bad = [
        text
        for text in texts
        if llama.tokenize(text.encode(), add_bos=False, special=False) != tokenizer.encode(text)
    ]
    for text in bad[:5]:
        print(f"differs: {text!r}")
        print(f"  llama.cpp {llama.tokenize(text.encode(), add_bos=False, special=False)}")
        print(f"  ours      {tokenizer.encode(text)}")
    special = [llama.tokenize(text.encode(), add_bos=False, special=True) for text in SPECIAL]
    print(f"{len(texts)} texts, {len(bad)} split differently; special tokens parse to {special}")
    return len(bad) + (special != [[0], [1], [2], [3]])


def main() -> None:
    """Read the command line, then write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder that train.py wrote")
    parser.add_argument("--to", type=Path, default=MODEL_PATH)
    parser.add_argument("--type", choices=("q8_0", "f16"), default="q8_0")
    parser.add_argument("--check", action="store_true", help="compare the tokenizers instead of writing")
    chosen = parser.parse_args()
    if chosen.check:
        sys.exit(1 if check(chosen.source, chosen.to) else 0)
    write(chosen.source, chosen.to, chosen.type)
    print(f"{chosen.to}: {chosen.to.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
