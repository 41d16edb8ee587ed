"""llama.cpp through its low-level API: small batches that can be stopped, prefixes that are kept.

Owns the model and its context; one thread uses them. Promises: a cancelled request stops within
about a quarter of a second, also while its prompt is read; what a person wrote never becomes a
special token (`models/prompt.py`); only whole characters come out; the KV cache of the last
conversations is kept and what a new prompt shares with one of them is not computed again
(`cached_tokens`). Refuses prompts that do not fit, and files that are not chat models, each with
a remedy. llama.cpp's own log is dropped except for its errors, which explain a failed load.
"""

from __future__ import annotations

import codecs
import ctypes
import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jinja2
import llama_cpp as llama

from models.prompt import ChatTemplate
from models.protocol import Done, EngineError, Piece, Progress, Prompt, Unloadable

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from models.protocol import Wish

BATCH = 512
"""Most tokens in one call of llama_decode; the size of llama.cpp's compute buffers follows."""
FIRST_BATCH = 32
LOOK_SECONDS = 0.25
"""How long a batch should take: so long does a cancellation wait."""
LARGEST_DEFAULT_CONTEXT = 8192
CACHE_BYTES = 1 << 30
"""KV cache for all kept conversations together, as long as one fits."""
SLOTS = 4
WORTH_COPYING = 32
"""Tokens that another conversation must share beyond our own before its cache is copied."""
DEFAULT_TEMPERATURE = 0.7
ERROR_LEVEL = 4
"""GGML_LOG_LEVEL_ERROR"""
CONTROL, UNKNOWN, USER_DEFINED = 1 << 3, 1 << 0, 1 << 4
"""llama_token_attr"""

_complaints: deque[str] = deque(maxlen=4)


@llama.llama_log_callback  # type: ignore[untyped-decorator]  # ctypes
def _listen(level: int, text: bytes, _data: object) -> None:
    """Keep the last errors. llama.cpp's log is one for the process, so this is too."""
    if level == ERROR_LEVEL:
        _complaints.append(text.decode("utf-8", "replace").strip())


@dataclass(slots=True)
class Slot:
    """One sequence of the KV cache: whose it is, which tokens it holds, when it was last used."""

    key: str = ""
    tokens: list[int] = field(default_factory=list)
    used: int = 0


def shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Count the tokens that two sequences have in common at their start."""
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return i
    return min(len(left), len(right))


def held_back(text: str, stops: Sequence[str]) -> int:
    """Count the letters at the end of `text` that may be the beginning of a stop string."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0


class Writer:
    """Turns bytes of tokens into text that may be shown: whole characters, stop strings held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self.stopped = False

    def write(self, data: bytes) -> str:
        """Take the bytes of a token, give the text that is certain by now."""
        self._pending += self._decoder.decode(data)
        found = [(at + len(stop), at) for stop in self._stops if (at := self._pending.find(stop)) >= 0]
        if found:
            # The stop that is complete first, however the bytes were cut: the model would have said no more.
            self.stopped = True
            text, self._pending = self._pending[: min(found)[1]], ""
            return text
        keep = held_back(self._pending, self._stops)
        end = len(self._pending) - keep
        text, self._pending = self._pending[:end], self._pending[end:]
        return text

    def rest(self) -> str:
        """Give what was held back for a stop string that never came. Half a character is dropped."""
        text, self._pending = self._pending, ""
        return text


class LlamaEngine:
    """One GGUF model, loaded."""

    def __init__(
        self,
        path: Path,
        *,
        name: str | None = None,
        context: int = 0,
        threads: int = 0,
        repack: bool = True,
    ) -> None:
        """Load the model. `context` is tokens per conversation (0: 8192), at most what it was trained on.

        `repack` lets llama.cpp copy weights into a faster layout, in memory of its own; without, they
        stay mapped from their file.

        Raises `Unloadable`.
        """
        self.path = path
        self.name = name or path.stem
        _check_file(path)
        _complaints.clear()
        llama.llama_log_set(_listen, ctypes.c_void_p(0))
        llama.llama_backend_init()
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.use_extra_bufts = repack
        self._model: Any = llama.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise _unloadable(path, "llama.cpp cannot load it")
        self._vocab = llama.llama_model_get_vocab(self._model)
        trained = llama.llama_model_n_ctx_train(self._model)
        self.context = min(trained, context or LARGEST_DEFAULT_CONTEXT)
        self._slots = [Slot() for _ in range(self._affordable_slots())]
        self._context = self._open(threads or max(1, (os.cpu_count() or 2) - 1))
        self._batch: Any = llama.llama_batch_init(BATCH, 0, 1)
        self._template = self._read_template()
        self._seconds_per_token = LOOK_SECONDS / FIRST_BATCH
        self._clock = 0
        self._temperature = self._setting("general.sampling.temp", DEFAULT_TEMPERATURE)
        self._top_p = self._setting("general.sampling.top_p", 0.95)

    def prepare(self, messages: Sequence[Mapping[str, str]]) -> Prompt:
        """Apply the template and tokenize. Uses only the vocabulary, so any thread may."""
        tokens: list[int] = []
        for part in self._template.parts(messages):
            tokens += self._tokens(part.text, special=part.special)
        bos = llama.llama_vocab_bos(self._vocab)
        if llama.llama_vocab_get_add_bos(self._vocab) and bos >= 0 and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return Prompt(tuple(messages), len(tokens), tuple(tokens))

    def count(self, text: str) -> int:
        """Tokens of a text alone."""
        return len(self._tokens(text, special=False))

    def generate(
        self, prompt: Prompt, wish: Wish, cancelled: threading.Event
    ) -> Iterator[Piece | Progress | Done]:
        """Answer: read what is new of the prompt, then make one token after the other."""
        if not 0 < prompt.size < self.context:
            raise EngineError("context_length_exceeded", f"the context holds {self.context} tokens")
        slot, cached = self._take_slot(prompt.tokens, wish.key)
        started = time.perf_counter()
        for progress in self._read(slot, prompt.tokens):
            yield progress
            if cancelled.is_set():
                return
        read = time.perf_counter()
        room = self.context - prompt.size
        limit = room if wish.max_tokens is None else min(room, wish.max_tokens)
        writer = Writer(wish.stop)
        made, finish = 0, "length"
        for data in self._tokens_made(slot, wish, limit):
            if cancelled.is_set():
                return
            made += 1
            if data and (text := writer.write(data)):
                yield Piece(text)
            if data is None or writer.stopped:
                finish = "stop"
                break
        if text := writer.rest():
            yield Piece(text)
        yield Done(
            finish=finish,
            prompt_tokens=prompt.size,
            completion_tokens=made,
            cached_tokens=cached,
            prefill_seconds=read - started,
            decode_seconds=time.perf_counter() - read,
        )

    def _read(self, slot: Slot, tokens: Sequence[int]) -> Iterator[Progress]:
        """Read the rest of a prompt into its slot, in batches of about `LOOK_SECONDS`."""
        while (at := len(slot.tokens)) < len(tokens):
            size = min(BATCH, max(8, int(LOOK_SECONDS / self._seconds_per_token)), len(tokens) - at)
            began = time.perf_counter()
            self._decode(slot, tokens[at : at + size], last=at + size == len(tokens))
            self._seconds_per_token = max(1e-6, (time.perf_counter() - began) / size)
            yield Progress(at + size, len(tokens))

    def _tokens_made(self, slot: Slot, wish: Wish, limit: int) -> Iterator[bytes | None]:
        """Make at most `limit` tokens; give the bytes of each, and None for the end of the answer."""
        sampler = self._sampler(wish)
        try:
            for made in range(limit):
                token = llama.llama_sampler_sample(sampler, self._context, -1)
                if llama.llama_vocab_is_eog(self._vocab, token):
                    yield None
                    return
                yield self._bytes(token)
                if made < limit - 1:
                    self._decode(slot, (token,), last=True)
        finally:
            llama.llama_sampler_free(sampler)

    def forget(self, key: str) -> None:
        """Drop the KV cache of one conversation."""
        for number, slot in enumerate(self._slots):
            if slot.key == key:
                llama.llama_memory_seq_rm(llama.llama_get_memory(self._context), number, -1, -1)
                self._slots[number] = Slot()

    def close(self) -> None:
        """Free context and model."""
        if self._context:
            llama.llama_batch_free(self._batch)
            llama.llama_free(self._context)
            llama.llama_model_free(self._model)
            self._context = self._model = None

    # -- the KV cache ------------------------------------------------------------------------------

    def _take_slot(self, tokens: Sequence[int], key: str) -> tuple[Slot, int]:
        """Choose a slot and keep in it what it shares with `tokens`; give how many tokens that is."""
        mine = next((slot for slot in self._slots if slot.key == key and slot.tokens), None)
        slot = mine or min(self._slots, key=lambda slot: slot.used)
        best = max(self._slots, key=lambda slot: shared(slot.tokens, tokens))
        memory = llama.llama_get_memory(self._context)
        own = shared(slot.tokens, tokens) if mine else 0
        number = self._slots.index(slot)
        if best is not slot and shared(best.tokens, tokens) >= own + WORTH_COPYING:
            llama.llama_memory_seq_rm(memory, number, -1, -1)
            llama.llama_memory_seq_cp(memory, self._slots.index(best), number, -1, -1)
            slot.tokens = list(best.tokens)
        # At least one token is read again: its logits are what the answer starts from.
        keep = min(shared(slot.tokens, tokens), len(tokens) - 1)
        if not llama.llama_memory_seq_rm(memory, number, keep, -1):
            llama.llama_memory_seq_rm(memory, number, -1, -1)  # recurrent models cannot go back
            keep = 0
        del slot.tokens[keep:]
        self._clock += 1
        slot.key, slot.used = key, self._clock
        return slot, keep

    def _decode(self, slot: Slot, tokens: Sequence[int], *, last: bool) -> None:
        """Run the model over `tokens` at the end of `slot`; `last`: logits of the last one are wanted."""
        batch, number, start = self._batch, self._slots.index(slot), len(slot.tokens)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = start + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = number
            batch.logits[i] = last and i == len(tokens) - 1
        status = llama.llama_decode(self._context, batch)
        if status != 0:
            llama.llama_memory_seq_rm(llama.llama_get_memory(self._context), number, -1, -1)
            slot.tokens.clear()
            raise EngineError("engine_failed", f"llama_decode failed with status {status}")
        slot.tokens.extend(tokens)

    def _affordable_slots(self) -> int:
        heads = max(1, llama.llama_model_n_head(self._model))
        width = llama.llama_model_n_embd(self._model) // heads * llama.llama_model_n_head_kv(self._model)
        each = 2 * 2 * self.context * width * llama.llama_model_n_layer(self._model)  # K and V, 16 bits
        return max(1, min(SLOTS, CACHE_BYTES // max(1, int(each))))

    def _open(self, threads: int) -> Any:
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = self.context * len(self._slots)
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_seq_max = len(self._slots)
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = False  # each conversation pays for its own length, not for the others'
        parameters.swa_full = True  # a sliding window would forget the prefix that we keep
        parameters.no_perf = True
        opened = llama.llama_init_from_model(self._model, parameters)
        if not opened:
            raise _unloadable(
                self.path,
                f"no memory for a context of {self.context} tokens",
                "set a smaller context, choose a smaller model, or raise the memory limit",
            )
        return opened

    # -- words and tokens --------------------------------------------------------------------------

    def _read_template(self) -> ChatTemplate:
        source = llama.llama_model_chat_template(self._model, None)
        if not source:
            raise Unloadable(
                str(self.path),
                "it has no chat template, so it is not made for conversations",
                "choose the 'instruct' or 'chat' variant of the model",
            )
        special = []
        for token in range(llama.llama_vocab_n_tokens(self._vocab)):
            attributes = llama.llama_vocab_get_attr(self._vocab, token)
            if attributes & (CONTROL | UNKNOWN | USER_DEFINED):
                text = llama.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace")
                # User-defined tokens are also runs of spaces and the like, which do no harm.
                if attributes & (CONTROL | UNKNOWN) or text[:1] in {"<", "["}:
                    special.append(text)
        try:
            return ChatTemplate(
                source.decode(),
                bos=self._text_of(llama.llama_vocab_bos(self._vocab)),
                eos=self._text_of(llama.llama_vocab_eos(self._vocab)),
                special=special,
            )
        except (jinja2.TemplateError, UnicodeDecodeError) as error:
            raise Unloadable(
                str(self.path), f"its chat template is broken ({type(error).__name__})", "get the file again"
            ) from None

    def _text_of(self, token: int) -> str:
        if token < 0:
            return ""
        text: bytes = llama.llama_vocab_get_text(self._vocab, token)
        return text.decode("utf-8", "replace")

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 8  # a token is at least a byte, but for a space that some models put before
        tokens = (llama.llama_token * room)()
        count = llama.llama_tokenize(self._vocab, data, len(data), tokens, room, False, special)
        if count < 0:
            raise EngineError("engine_failed", "the tokenizer failed")
        return list(tokens[:count])

    def _bytes(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        size = llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[:size]

    def _sampler(self, wish: Wish) -> Any:
        temperature = self._temperature if wish.temperature is None else wish.temperature
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        if temperature <= 0:
            llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_greedy())
            return chain
        top_p = self._top_p if wish.top_p is None else wish.top_p
        seed = int.from_bytes(os.urandom(4)) if wish.seed is None else wish.seed
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_top_p(top_p, 1))
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_temp(temperature))
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_dist(seed))
        return chain

    def _setting(self, name: str, otherwise: float) -> float:
        """Read a number that the model file recommends, such as `general.sampling.temp`."""
        buffer = ctypes.create_string_buffer(64)
        if llama.llama_model_meta_val_str(self._model, name.encode(), buffer, len(buffer)) < 0:
            return otherwise
        try:
            return float(buffer.value)
        except ValueError:
            return otherwise


# -- what can be wrong with a file -----------------------------------------------------------------


def _check_file(path: Path) -> None:
    """Say what is wrong with a file before llama.cpp sees it. Raises `Unloadable`."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise Unloadable(
            str(path), f"cannot be read ({error.strerror})", "give the path of a GGUF file that we may read"
        ) from None
    if magic != b"GGUF":
        raise Unloadable(
            str(path), "is not a GGUF model", "give the path of a GGUF file (it begins with GGUF)"
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise Unloadable(
            str(path),
            f"needs {size / 2**30:.1f} GiB and this machine has {memory / 2**30:.1f} GiB",
            "choose a smaller model or a smaller quantization of it",
        )


def _unloadable(
    path: Path, what: str, remedy: str = "get the file again; it may be incomplete"
) -> Unloadable:
    why = f" ({_complaints[0]})" if _complaints else ""
    return Unloadable(str(path), what + why, remedy)
