"""The test vectors of docs/link-protocol.md. `python -m tests.link.vectors` writes docs/link-vectors.json."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge.link.bodies import Kind
from bridge.link.canonical import canonical, sha256
from bridge.link.codes import Code
from bridge.link.envelope import CONTEXT, LARGEST, LONGEST_LIFE_MS, SKEW_MS, Signed, base64text
from bridge.link.opening import Known, Opened, open_envelope
from tests.link.samples import (
    CITY,
    CLUB,
    FAMILY,
    HOUR,
    KEYS,
    NOW,
    PINNED,
    ROOM_REF,
    SEEDS,
    ask,
    ask_body,
    known,
    number,
    one_of_each,
    sealed,
)

FILE = Path(__file__).parents[2] / "docs" / "link-vectors.json"


@dataclass(frozen=True)
class Vector:
    """A text as it arrives, from whom, what is known there, and what becomes of it (`opened`, or a code)."""

    name: str
    text: str
    known: Known
    sender: str
    result: str = "opened"
    now: int = NOW
    facts: dict[str, Any] = field(default_factory=dict)
    """Of what was opened: `digest` and `signed_bytes_sha256`, for those who write a second implementation."""


def resigned(text: str, signer: str, **fields: Any) -> str:
    """`text` with fields of its header changed, signed as `signer` would."""
    whole = json.loads(text)
    whole["envelope"] |= fields
    raw = KEYS[signer].sign(CONTEXT + canonical(whole["envelope"]))
    return canonical(whole | {"signature": base64text(raw)}).decode()


def changed(text: str, **members: Any) -> str:
    """`text` with whole members replaced, and nothing signed anew."""
    return canonical(json.loads(text) | members).decode()


def vectors() -> list[Vector]:
    """All of them; the positive ones first."""
    question = ask()
    at_city, at_family = known(CITY), known(FAMILY, question.signed)
    asked_city = known(CITY, question.signed)
    found = [Vector("ask", question.text, at_city, FAMILY)]
    for kind, one in one_of_each(question.signed).items():
        here = asked_city if kind is Kind.CANCEL else at_family
        found.append(Vector(str(kind), one.text, here, one.signed.header.sender))
    first = ask(20, hops=1)
    passed = sealed(ask_body(number(21)), 21, sender=CITY, to=CLUB, room_ref=ROOM_REF, via=(first.signed,))
    at_club = known(CLUB)
    found.append(Vector("ask that was passed on", passed.text, at_club, CITY))
    found = [_with_facts(one) for one in found]
    return [*found, *_refused(question.text, question.signed, at_city), *_broken_paths(passed.text, at_club)]


def _with_facts(one: Vector) -> Vector:
    opened = open_envelope(one.text, one.known, sender=one.sender, now=one.now)
    assert isinstance(opened, Opened), (one.name, opened)
    signed = CONTEXT + canonical(opened.header.plain())
    facts = {"digest": opened.signed.digest, "signed_bytes_base64": base64.b64encode(signed).decode()}
    return replace(one, facts=facts)


def _refused(text: str, signed: Signed, here: Known) -> list[Vector]:
    other = ask(30).text
    replies = one_of_each(signed)
    answer, grant, card = (replies[kind].text for kind in (Kind.ANSWER, Kind.GRANT, Kind.CARD))
    of_club = json.loads(card.replace(PINNED[CITY], PINNED[CLUB]))["body"]
    other_card = resigned(changed(card, body=of_club), CLUB, body_sha256=sha256(of_club))
    cancel = {"id": number(1)}
    other_kind = resigned(changed(text, body=cancel), FAMILY, body_sha256=sha256(cancel))
    others = changed(text, signature=json.loads(other)["signature"])
    shown = replace(here, shown={FAMILY: PINNED[CLUB]})
    family = known(FAMILY, signed)
    newer = replace(family, newest={CITY: NOW})
    by_club = resigned(answer, CLUB, **{"from": CLUB})

    def no(name: str, what: str, code: Code, at: Known = here, by: str = FAMILY, now: int = NOW) -> Vector:
        return Vector(name, what, at, by, str(code), now)

    return [
        no("too large", text.replace("pool", "p" * LARGEST), Code.TOO_LARGE),
        no("not JSON", text[:-1], Code.MALFORMED),
        no("a member twice", text.replace('"hops":0', '"hops":0,"hops":0'), Code.MALFORMED),
        no("another spelling of the same", json.dumps(json.loads(text)), Code.MALFORMED),
        no("an unknown member", resigned(text, FAMILY, jku="https://evil.example/key"), Code.MALFORMED),
        no("a fraction", text.replace(f'"iat":{NOW}', f'"iat":{NOW}.0'), Code.MALFORMED),
        no("an end before its beginning", resigned(text, FAMILY, exp=NOW - 1), Code.MALFORMED),
        no("a later version", resigned(text, FAMILY, v=2), Code.VERSION),
        no("sent by somebody else", text, Code.WRONG_SENDER, by=CLUB),
        no("for somebody else", resigned(text, FAMILY, to=CLUB), Code.NOT_FOR_US),
        no("a sender without a pinned key", text, Code.UNKNOWN_KEY, replace(here, keys={})),
        no("forged by another community", resigned(text, CLUB), Code.BAD_SIGNATURE),
        no("the signature of another ask", others, Code.BAD_SIGNATURE),
        no("a key that the sender has shown since", resigned(text, CLUB), Code.KEY_CHANGED, shown),
        no("from the future", resigned(text, FAMILY, iat=NOW + SKEW_MS + 1), Code.FROM_THE_FUTURE),
        no("for ever", resigned(text, FAMILY, exp=NOW + LONGEST_LIFE_MS + 1), Code.TOO_LONG_LIVED),
        no("too late", text, Code.EXPIRED, now=NOW + HOUR + SKEW_MS + 1),
        no("once more", text, Code.REPLAYED, replace(here, seen={(FAMILY, number(1))})),
        no("other words", changed(text, body=json.loads(other)["body"]), Code.BAD_BODY),
        no("words of another kind", other_kind, Code.BAD_BODY),
        no("an answer to nothing that was asked", answer, Code.NOT_OURS, known(FAMILY), CITY),
        no("an answer of somebody else", by_club, Code.NOT_OURS, family, CLUB),
        no("a grant older than the last", grant, Code.OUT_OF_ORDER, newer, CITY),
        no("a card with another key than the pinned one", other_card, Code.KEY_CHANGED, family, CITY),
        no("a card whose key is not its writer's", resigned(card, CLUB), Code.BAD_SIGNATURE, family, CITY),
    ]


def _broken_paths(text: str, here: Known) -> list[Vector]:
    whole = json.loads(text)
    alone = {"path": [], "prev": ""}
    longer = [{"community": "bot:far.example", "sha256": "0" * 64}, *whole["envelope"]["path"]]
    loop = [{"community": CLUB, "sha256": whole["envelope"]["path"][0]["sha256"]}]

    def no(name: str, what: str, code: Code) -> Vector:
        return Vector(name, what, here, CITY, str(code))

    return [
        no("a path that was cut out", resigned(text, CITY, **alone), Code.PATH_BROKEN),
        no("a path without its proof", changed(text, chain=[]), Code.PATH_BROKEN),
        no("a path that was made longer", resigned(text, CITY, path=longer), Code.PATH_BROKEN),
        no("more hops than were left", resigned(text, CITY, hops=1), Code.HOPS_EXCEEDED),
        no("us in the path", resigned(text, CITY, path=loop), Code.LOOP),
    ]


def as_json() -> str:
    """The file, as it is to be."""
    told = [
        {
            "name": one.name,
            "now": one.now,
            "sender": one.sender,
            "known": {
                "us": one.known.us,
                "keys": dict(sorted(one.known.keys.items())),
                "seen": sorted(map(list, one.known.seen)),  # type: ignore[call-overload] # sets and tuples here
                "asks": {
                    digest: {
                        "id": a.id,
                        "room_ref": a.room_ref,
                        "peer": a.peer,
                        "ours": a.ours,
                        "hops": a.hops,
                    }
                    for digest, a in one.known.asks.items()
                },
                "newest": dict(one.known.newest),
                "shown": dict(one.known.shown),
            },
            "text": one.text if len(one.text) <= LARGEST else {"repeat": "x", "times": LARGEST + 1},
            "result": one.result,
            **one.facts,
        }
        for one in vectors()
    ]
    seeds = {name: base64text(seed) for name, seed in SEEDS.items()}
    keys = {name: {"seed": seeds[name], "public": PINNED[name]} for name in SEEDS}
    return json.dumps({"v": 1, "keys": keys, "vectors": told}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(as_json(), "utf-8")
