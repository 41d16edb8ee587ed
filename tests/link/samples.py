"""Three communities with fixed keys, and what they send each other."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bridge.link.bodies import (
    About,
    Answer,
    Ask,
    Because,
    By,
    Cancel,
    Card,
    Completed,
    Granted,
    Kind,
    Part,
    Passage,
    Progress,
    Refuse,
    Rejected,
    Revoke,
    Said,
    Share,
    Working,
)
from bridge.link.envelope import seal
from bridge.link.key import public_text
from bridge.link.opening import Asked, Known
from policies.classes import Class
from policies.grant import DAY_MS, Direction, Grant, Status

if TYPE_CHECKING:
    from bridge.link.bodies import Body
    from bridge.link.envelope import Sealed, Signed

NOW = 1_800_000_000_000
HOUR = 3_600_000
FAMILY, CITY, CLUB = "hearth:family.example", "bot:city.example", "bot:club.example"
SEEDS = {name: hashlib.sha256(name.encode()).digest() for name in (FAMILY, CITY, CLUB)}
KEYS = {name: Ed25519PrivateKey.from_private_bytes(seed) for name, seed in SEEDS.items()}
PINNED = {name: public_text(key) for name, key in KEYS.items()}
ROOM_REF, ASKER = "a" * 26, "b" * 26


def number(count: int) -> str:
    """An id as one that is drawn: `count` in 22 characters."""
    return f"{count:022d}"


def ask_body(name: str, words: str = "When does the pool open?", room: str = ROOM_REF) -> Ask:
    about = About(asker=ASKER, cls=Class.LOCAL_KNOWLEDGE, share=Share.ANSWERS, language="en")
    return Ask(message_id=name, context_id=room, parts=(Part(text=words),), metadata=about)


def ask(count: int = 1, **fields: Any) -> Sealed:
    """The family asks the city."""
    return sealed(ask_body(number(count)), count, **({"room_ref": ROOM_REF} | fields))


def sealed(body: Body, count: int, *, sender: str = FAMILY, to: str = CITY, **fields: Any) -> Sealed:
    usual: dict[str, Any] = {"key": KEYS[sender], "id": number(count), "iat": NOW, "exp": NOW + HOUR}
    return seal(body, sender=sender, to=to, **(usual | fields))


def grant(**fields: Any) -> Grant:
    usual: dict[str, Any] = {
        "v": 1, "peer": FAMILY, "app_ed25519": PINNED[FAMILY], "direction": Direction.ANSWER,
        "classes": frozenset({Class.LOCAL_KNOWLEDGE}), "not_before": NOW, "until": NOW + 90 * DAY_MS,
        "status": Status.ACTIVE,
    }  # fmt: skip
    return Grant(**(usual | fields))


def one_of_each(question: Signed) -> dict[Kind, Sealed]:
    """Everything that can be said about `question`, and beside it."""
    name = question.header.id
    about = {"room_ref": ROOM_REF, "prev": question.digest}
    back = about | {"sender": CITY, "to": FAMILY}
    said = Said(
        message_id=number(3),
        parts=(
            Part(text="On Tuesday at nine."),
            Part(data=Passage(passage="Tuesday to Sunday, 9 to 20.", source="pool.md:3-4")),
        ),
    )
    answer = Answer(
        id=name,
        context_id=ROOM_REF,
        status=Completed(message=said),
        metadata=By(share=Share.ANSWERS, model="small"),
    )
    refuse = Refuse(
        id=name,
        context_id=ROOM_REF,
        status=Rejected(),
        metadata=Because(code="peer_quota", rule="grant.per_day", retry_after_ms=HOUR),
    )
    card = Card(
        name="Mill City",
        description="Opening hours, waste, permits.",
        key=PINNED[CITY],
        capabilities=("answers", "information"),
        languages=("en", "nl"),
    )
    return {
        Kind.PROGRESS: sealed(Progress(id=name, context_id=ROOM_REF, status=Working()), 2, **back),
        Kind.ANSWER: sealed(answer, 3, **back),
        Kind.REFUSE: sealed(refuse, 4, **back),
        Kind.CANCEL: sealed(Cancel(id=name), 5, **about),
        Kind.CARD: sealed(card, 6, sender=CITY, to=FAMILY),
        Kind.GRANT: sealed(Granted(grant=grant().model_dump_json()), 7, sender=CITY, to=FAMILY),
        Kind.REVOKE: sealed(Revoke(reason="The council decided so."), 8, sender=CITY, to=FAMILY),
    }


def known(us: str, question: Signed | None = None, **fields: Any) -> Known:
    """What `us` knows: everybody's key, and the one ask that is open."""
    asks = {}
    if question is not None:
        ours = question.header.sender == us
        peer = question.header.to if ours else question.header.sender
        asks[question.digest] = Asked(question.header.id, ROOM_REF, peer, ours, question.header.hops)
    return Known(us=us, keys={name: key for name, key in PINNED.items() if name != us}, asks=asks, **fields)
