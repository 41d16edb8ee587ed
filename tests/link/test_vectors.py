"""docs/link-vectors.json is what the code makes, and what it decides; so is docs/link-protocol.md."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bridge.link import codes, envelope, guard
from bridge.link.bodies import BODIES, Kind
from bridge.link.codes import Code
from bridge.link.envelope import Header
from bridge.link.opening import Opened, open_envelope
from tests.link.samples import PINNED
from tests.link.vectors import FILE, as_json, vectors

if TYPE_CHECKING:
    from tests.link.vectors import Vector

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "link-protocol.md").read_text("utf-8")


def test_the_file_is_what_the_code_makes() -> None:
    """Byte for byte: a change of the protocol shows here first. `python -m tests.link.vectors` writes it."""
    assert FILE.read_text("utf-8") == as_json()


@pytest.mark.parametrize("vector", vectors(), ids=lambda one: one.name)
def test_each_vector_is_decided_as_it_says(vector: Vector) -> None:
    """Opened, or refused with just that code."""
    found = open_envelope(vector.text, vector.known, sender=vector.sender, now=vector.now)
    assert ("opened" if isinstance(found, Opened) else str(found.code)) == vector.result


def test_every_kind_and_every_code_has_a_vector() -> None:
    """Nothing in the protocol is only words."""
    results = {one.result for one in vectors()}
    assert results == {"opened", *map(str, Code)}
    kinds = {json.loads(one.text)["envelope"]["kind"] for one in vectors() if one.result == "opened"}
    assert kinds == set(map(str, Kind))


def test_the_facts_of_a_vector_can_be_checked_without_this_code() -> None:
    """What is signed is in the file, and the signature holds over it."""
    told = json.loads(FILE.read_text("utf-8"))
    opened = [one for one in told["vectors"] if one["result"] == "opened"]
    assert opened
    for one in opened:
        whole = json.loads(one["text"])
        key = PINNED[whole["envelope"]["from"]]
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key + "="))
        signature = base64.b64decode(whole["signature"] + "==")
        public.verify(signature, base64.b64decode(one["signed_bytes_base64"]))


def _rows(heading: str) -> dict[str, str]:
    """The table under a heading: first column to last."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", part, flags=re.MULTILINE)
    return {name: rest.rpartition("|")[2].strip() for name, rest in rows}


def test_the_page_has_every_field_and_code() -> None:
    """Its tables are those of the code: names and meanings."""
    fields = {(one.alias or name): one.description for name, one in Header.model_fields.items()}
    assert _rows("The header") == fields
    source = Path(codes.__file__).read_text("utf-8")
    meanings = dict(re.findall(r'^    [A-Z_]+ = "([a-z_]+)"\n    """(.*)"""$', source, flags=re.MULTILINE))
    assert _rows("Whether it is believed") == meanings
    assert list(_rows("Whether it is believed")) == [str(one) for one in Code]
    assert set(_rows("Kinds and bodies")) == {str(kind) for kind in BODIES}


def test_the_page_has_the_numbers_of_the_code() -> None:
    """Limits are written where a reader looks for them."""
    limits = _rows("Limits")
    assert limits == {
        "text": f"{envelope.LARGEST:,} bytes",
        "life": f"{envelope.LONGEST_LIFE_MS:,} ms",
        "skew": f"{envelope.SKEW_MS:,} ms",
        "hops": f"{envelope.MOST_HOPS}",
        "pair": f"{guard.PAIR_BUDGET} events in {guard.WINDOW_MS:,} ms, then {guard.PAUSE_MS:,} ms of rest",
        "all": f"{guard.ALL_BUDGET} events in {guard.WINDOW_MS:,} ms",
        "silence": f"{guard.FIRST_SILENCE_MS:,} ms, doubled each time up to {guard.LONGEST_SILENCE_MS:,} ms",
    }
