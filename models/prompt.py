"""From messages to the exact text of a prompt, in parts that say who wrote them.

Owns the chat template of a model file (Jinja, run in a sandbox: the file is not ours). Promises
that the text is what the template makes of the messages, and that no words of a message can
become special tokens: `<|im_end|>` typed by a person stays nine letters and signs.

How: the template is rendered with placeholders in place of the contents. Where a content would
touch a special token's text, it becomes a part of its own that is tokenized with special parsing
off; everywhere else neighbours are joined, so that the tokens are those of the whole text.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models.protocol import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jinja2.nodes import Node
    from jinja2.parser import Parser


@dataclass(frozen=True, slots=True)
class Part:
    """Text to be tokenized on its own; `special` says whether special tokens may be read in it."""

    text: str
    special: bool


class _GenerationTag(jinja2.ext.Extension):
    """Pass through the `{% generation %}` tag that training templates carry."""

    tags = {"generation"}  # noqa: RUF012 - an attribute of jinja2's own protocol

    def parse(self, parser: Parser) -> Node | list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> None:
    raise jinja2.TemplateRuntimeError(message)


class ChatTemplate:
    """The template of one model. Safe to use from several threads."""

    def __init__(self, source: str, *, bos: str, eos: str, special: Sequence[str]) -> None:
        """`special` are the texts of the tokens that a template may use and people may not.

        Raises `jinja2.TemplateError` where the source is not a template.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols]
        )
        self._template = environment.from_string(source)
        self._names: dict[str, Any] = {
            "bos_token": bos,
            "eos_token": eos,
            "add_generation_prompt": True,
            "raise_exception": _refuse,
            "strftime_now": lambda form: datetime.now().astimezone().strftime(form),
            "tools": None,
        }
        self._special = tuple(sorted({text for text in special if text}, key=len, reverse=True))
        firsts = "".join(sorted({re.escape(text[0]) for text in self._special}))
        self._candidate = re.compile(f"[{firsts}]" if firsts else r"(?!)")
        probe = self._render([{"role": "user", "content": " x\ufffdx "}])
        self._trims = probe is not None and " x\ufffdx" not in probe and "x\ufffdx" in probe

    def parts(self, messages: Sequence[Mapping[str, str]]) -> list[Part]:
        """Cut the prompt for `messages` into parts. Raises `EngineError` (`template_refused`)."""
        mark = f"\ue000{secrets.token_hex(8)}:"
        for attempt in (list(messages), alternating(messages)):
            contents = [m["content"].strip() if self._trims else m["content"] for m in attempt]
            # An empty content stays empty: templates look at that.
            shown = [
                {"role": m["role"], "content": f"{mark}{i}\ue001" if contents[i] else ""}
                for i, m in enumerate(attempt)
            ]
            rendered = self._render(shown)
            if rendered is not None:
                pieces = re.split(f"{re.escape(mark)}([0-9]+)\ue001", rendered)
                return self._join(pieces, contents)
        raise EngineError("template_refused", "the model's chat template refuses these messages")

    def _render(self, messages: Sequence[Mapping[str, str]]) -> str | None:
        try:
            return self._template.render(messages=messages, **self._names)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError):
            return None

    def _join(self, pieces: list[str], contents: list[str]) -> list[Part]:
        """`pieces` alternate between the template's own text and the number of a content."""
        texts = [contents[int(piece)] if i % 2 else piece for i, piece in enumerate(pieces)]
        starts, length = [], 0
        for text in texts:
            starts.append(length)
            length += len(text)
        dangerous = list(self._found("".join(texts)))
        parts: list[Part] = []
        for i, text in enumerate(texts):
            start, end = starts[i], starts[i] + len(text)
            cuts = [at - start for at, to in dangerous if at < end and to > start] if i % 2 else []
            if cuts:
                # Cut inside each such text too: tokens that are "user defined" are found even
                # when special parsing is off.
                edges = sorted({0, len(text), *(cut + 1 for cut in cuts if 0 < cut + 1 < len(text))})
                parts += [Part(text[a:b], special=False) for a, b in pairwise(edges)]
            elif parts and parts[-1].special:
                parts[-1] = Part(parts[-1].text + text, special=True)
            elif text:
                parts.append(Part(text, special=True))
        return parts

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """Find where texts of special tokens stand, the longest at each place."""
        for match in self._candidate.finditer(text):
            at = match.start()
            if text.startswith(self._special, at):
                yield at, at + max(len(s) for s in self._special if text.startswith(s, at))


def alternating(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Merge neighbours of one role and move the system's words into what the user says first.

    For templates that know no system and want user and assistant in turn.
    """
    merged: list[dict[str, str]] = []
    for message in messages:
        role = "user" if message["role"] in {"system", "tool"} else message["role"]
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += "\n\n" + message["content"]
        else:
            merged.append({"role": role, "content": message["content"]})
    return merged
