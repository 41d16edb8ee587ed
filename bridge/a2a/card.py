"""Agent cards: ours, signed with the community's key, and what we take from another's.

Ours says who we are, where we answer, and that nobody is answered without our extension and a token. It is
signed as A2A 1.0, section 8.4, has it: a JWS (RFC 7515, EdDSA) over the canonical card (RFC 8785). The key is
named and never linked to: whoever wants to believe the card has it from a grant, as people compared it.

Of another's card two things are taken: where JSON-RPC is spoken, which has to be on the origin that the
settings name, and a fingerprint of the whole. An agent that is no Hearth is pinned by that fingerprint.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentExtension,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)
from a2a.utils.signing import create_agent_card_signer
from cryptography.hazmat.primitives import serialization
from google.protobuf.json_format import MessageToDict

from bridge.a2a.wire import ENVELOPES, EXTENSION
from bridge.link.canonical import canonical
from bridge.link.envelope import base64text
from bridge.platform import Misconfigured

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bridge.link.bodies import Card

VERSION: Final = "1.0"
"""Of the A2A protocol."""
JSONRPC: Final = "JSONRPC"
BEARER: Final = "bearer"
_TEXT: Final = "text/plain"
_LONGEST: Final = 200
_SKILLS: Final = {
    "answers": ("Ask", "Answers a question from the notes that were agreed on."),
    "information": ("Look up", "Passages of the notes that were agreed on, with their sources."),
}


def card_of(ours: Card, url: str, version: str) -> AgentCard:
    """Our card at `url`, without its signature."""
    bearer = SecurityScheme(http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="Bearer"))
    return AgentCard(
        name=ours.name,
        description=ours.description or f"The bot of {ours.name}.",
        version=version,
        supported_interfaces=[AgentInterface(url=url, protocol_binding=JSONRPC, protocol_version=VERSION)],
        capabilities=AgentCapabilities(
            extended_agent_card=True,
            extensions=[
                AgentExtension(
                    uri=EXTENSION,
                    required=True,
                    description="Every message carries an envelope that its community has signed.",
                    params={"key": ours.key},
                )
            ],
        ),
        security_schemes={BEARER: bearer},
        security_requirements=[SecurityRequirement(schemes={BEARER: StringList()})],
        default_input_modes=[_TEXT],
        default_output_modes=[_TEXT],
        skills=[
            AgentSkill(id=name, name=_SKILLS[name][0], description=_SKILLS[name][1], tags=["questions"])
            for name in ours.capabilities
            if name in _SKILLS
        ],
    )


def signed(card: AgentCard, key: Ed25519PrivateKey, kid: str) -> AgentCard:
    """A copy of `card` with the signature of `key`, whose public half is `kid`."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    sign = create_agent_card_signer(pem, {"kid": kid, "alg": "EdDSA", "typ": "JOSE", "jku": None})
    copy = AgentCard()
    copy.CopyFrom(card)
    return sign(copy)


def extended(card: AgentCard, envelopes: list[str]) -> AgentCard:
    """What only one community is shown: the card with our envelopes for it."""
    copy = AgentCard()
    copy.CopyFrom(card)
    copy.capabilities.extensions[0].params.update({ENVELOPES: envelopes})
    return copy


def envelopes_on(card: AgentCard) -> list[str]:
    """The envelopes for us on an extended card."""
    for extension in card.capabilities.extensions:
        if extension.uri == EXTENSION:
            found = MessageToDict(extension.params).get(ENVELOPES)
            return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
    return []


def where(card: AgentCard, url: str) -> str:
    """Where the agent whose settings say `url` speaks JSON-RPC.

    Raises `Misconfigured` where the card names no such place, or one on another origin.
    """
    for interface in card.supported_interfaces:
        if interface.protocol_binding == JSONRPC and interface.protocol_version.startswith("1."):
            if _origin(interface.url) != _origin(url):
                remedy = f"the card at {url} names another host, which is not followed"
                raise Misconfigured("a2a_peers.url", remedy)
            return str(interface.url)
    raise Misconfigured("a2a_peers.url", f"the agent at {url} does not speak A2A 1.0 over JSON-RPC")


def fingerprint(card: AgentCard) -> str:
    """The SHA-256 of a card without its signatures, in unpadded base64, as grants pin a key."""
    plain = MessageToDict(card)
    plain.pop("signatures", None)
    return base64text(hashlib.sha256(canonical(plain)).digest())


def line(text: str) -> str:
    """What another wrote about itself, as one line that an envelope could carry."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_LONGEST]


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return "", None, None
    return parts.scheme, parts.hostname, port
