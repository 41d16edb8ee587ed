"""A family whose room asks the city, for tests: the family is a real Hearth, the city is scripted.

The city signs with its own key what a test tells it to say; what reaches it is opened as a city would.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bots.conversation import Person, PlaceKind
from bridge.link import bodies
from bridge.link.bodies import Kind
from bridge.link.community import Community
from bridge.link.envelope import Sealed, seal
from bridge.link.key import public_text
from bridge.link.opening import Known, Opened, open_envelope
from bridge.platform import EventKind
from policies.document import STATE_TYPE
from policies.grant import GRANT_TYPE, Direction, Grant, Status
from tests.bridge.family import BOT, DAY, HEARTH, HOUR
from tests.fakes.server import ADA, BEN, MOD, OWN, ROOM, FakeServer

if TYPE_CHECKING:
    from bridge.link.bodies import Body
    from policies.classes import Class

FAMILY = OWN.removeprefix("@")
CITY = "hearth:city.example"
CITY_BOT = Person(f"@{CITY}", "City", is_bot=True)
LINK = "!link:home"


def key_of(name: str) -> Ed25519PrivateKey:
    """A key that is the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


FAMILY_KEY, CITY_KEY, OTHER_KEY = key_of("family"), key_of("city"), key_of("other")
COMMUNITY = Community(FAMILY_KEY, "Family", home=ROOM)


def linked(server: FakeServer) -> None:
    """The family's room, which a moderator rules, and the link room with the city in it."""
    server.room(ROOM, PlaceKind.GROUP, ADA, BEN, MOD, HEARTH, BOT)
    rules(server)
    server.room(LINK, PlaceKind.GROUP, HEARTH, CITY_BOT, links=(CITY,), must_encrypt=True)


def rules(server: FakeServer, **rule: Any) -> None:
    """What the family's room allows: its bot asks the city, and answers it."""
    classes = ["general", "local-knowledge"]
    fields = {"mode": "admin", "ask_peers": [CITY], "classes_out": classes, "answer_peers": [CITY],
              "classes_in": classes} | rule  # fmt: skip
    server.put_state(STATE_TYPE, json.dumps({"v": 1, **fields}))


def allow(server: FakeServer, **fields: Any) -> None:
    """The family's grant for the city."""
    server.put_state(GRANT_TYPE, grant(server, CITY, CITY_KEY, **fields), state_key=CITY)


def grant(server: FakeServer, peer: str, key: Ed25519PrivateKey, **fields: Any) -> str:
    now = server.now()
    usual: dict[str, Any] = {
        "v": 1, "peer": peer, "app_ed25519": public_text(key), "direction": Direction.BOTH,
        "classes": frozenset({"general", "local-knowledge"}), "not_before": now - HOUR,
        "until": now + 30 * DAY, "status": Status.ACTIVE, "decided_by": "$vote",
    }  # fmt: skip
    return Grant.model_validate_json(
        json.dumps(
            {name: sorted(v) if isinstance(v, frozenset) else v for name, v in (usual | fields).items()}
        )
    ).model_dump_json()


@dataclass
class City:
    """The other side: says what it is told to, and opens what it gets."""

    server: FakeServer
    key: Ed25519PrivateKey = CITY_KEY
    number: int = 0
    heard: list[Opened] = field(default_factory=list)
    read: set[str] = field(default_factory=set)

    def say(self, body: Body, *, by: Person = CITY_BOT, place: str = LINK, **fields: Any) -> Sealed:
        """Send a body, signed; `fields` of the header may be wrong."""
        self.number += 1
        usual: dict[str, Any] = {
            "key": self.key, "id": f"{self.number:022d}", "sender": CITY, "to": FAMILY,
            "iat": self.server.now(), "exp": self.server.now() + HOUR,
        }  # fmt: skip
        sealed = seal(body, **(usual | fields))
        self.post(sealed.text, by=by, place=place)
        return sealed

    def post(self, text: str, *, by: Person = CITY_BOT, place: str = LINK) -> str:
        """Put any text into the link room as an envelope."""
        event = self.server._event(place, EventKind.ENVELOPE, by, text, sync=True)
        return self.server._amend(event, sync=True)

    def card(self, key: Ed25519PrivateKey | None = None, **fields: Any) -> Sealed:
        key = key or self.key
        card = bodies.Card(
            name="City of Example", description="", key=public_text(key),
            capabilities=("answers", "information"), languages=("en",),
        )  # fmt: skip
        return self.say(card, key=key, **fields)

    def grants(self, **fields: Any) -> Sealed:
        """Its grant for the family."""
        text = grant(self.server, FAMILY, FAMILY_KEY, **fields)
        return self.say(bodies.Granted(grant=text))

    def hears(self) -> list[Opened]:
        """What the family has sent, opened; in order."""
        known = Known(us=CITY, keys={FAMILY: public_text(FAMILY_KEY)})
        for event_id, shown in self.server.log.items():
            event = shown.event
            if event.kind is EventKind.ENVELOPE and event.own and event_id not in self.read:
                self.read.add(event_id)
                opened = open_envelope(event.text, known, sender=FAMILY, now=self.server.now())
                if isinstance(opened, Opened):
                    self.heard.append(opened)
                else:  # a reply to an ask of the city's, which it would know
                    self.heard.append(_reply(event.text))
        return self.heard

    def of(self, kind: Kind) -> list[Opened]:
        return [one for one in self.hears() if one.header.kind is kind]

    def asked(self) -> Opened:
        """The one ask that it got."""
        (ask,) = self.of(Kind.ASK)
        return ask

    def answer(self, words: str = "On Tuesday at nine.", ask: Opened | None = None, **fields: Any) -> Sealed:
        ask = ask or self.of(Kind.ASK)[-1]
        name = fields.get("id", f"{self.number + 1:022d}")
        body = bodies.Answer(
            id=ask.header.id,
            context_id=ask.header.room_ref,
            status=bodies.Completed(message=bodies.Said(message_id=name, parts=(bodies.Part(text=words),))),
            metadata=bodies.By(share=bodies.Share.ANSWERS, model="city-model"),
        )
        usual = {"room_ref": ask.header.room_ref, "prev": ask.signed.digest}
        return self.say(body, **(usual | fields))

    def refuse(self, code: str = "peer_quota", rule: str = "grant.per_day") -> Sealed:
        ask = self.asked()
        body = bodies.Refuse(
            id=ask.header.id,
            context_id=ask.header.room_ref,
            status=bodies.Rejected(),
            metadata=bodies.Because(code=code, rule=rule),
        )
        return self.say(body, room_ref=ask.header.room_ref, prev=ask.signed.digest)

    def ask(
        self, words: str, cls: Class, share: bodies.Share = bodies.Share.ANSWERS, **fields: Any
    ) -> Sealed:
        """The city asks the family."""
        name = fields.get("id", f"{self.number + 1:022d}")
        body = bodies.Ask(
            message_id=name,
            context_id="a" * 26,
            parts=(bodies.Part(text=words),),
            metadata=bodies.About(asker="b" * 26, cls=cls, share=share),
        )
        return self.say(body, **({"room_ref": "a" * 26} | fields))


def _reply(text: str) -> Opened:
    whole = json.loads(text)
    kind = Kind(whole["envelope"]["kind"])
    from bridge.link.envelope import Header, Signed  # noqa: PLC0415

    header = Header.model_validate_json(json.dumps(whole["envelope"]), by_alias=True, by_name=False)
    body = bodies.read_body(kind, json.dumps(whole["body"]).encode())
    return Opened(Signed(header, whole["signature"]), body, ())
