"""Our own community, as others see it: who signs, and what its card says. Holds the key."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.link.bodies import Card, Share
from bridge.link.envelope import seal
from bridge.link.key import public_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bridge.link.bodies import Body
    from bridge.link.envelope import Sealed

CAPABILITIES: Final = (str(Share.ANSWERS), str(Share.INFORMATION))
_LONGEST_NAME: Final = 200


def _printable(text: str) -> str:
    """What was written in the settings, without what no envelope carries."""
    return "".join(char for char in text if char.isprintable() or char == "\n")


@dataclass(frozen=True, slots=True)
class Community:
    """Who we are towards bots of other communities.

    `home` is the room (its id) by whose policy and grants peers are answered; empty: none is.
    """

    key: Ed25519PrivateKey
    name: str
    about: str = ""
    home: str = ""
    languages: tuple[str, ...] = ("en",)

    @property
    def secret(self) -> bytes:
        """Makes pseudonyms (32 bytes); derived from the key, so that there is one thing to keep."""
        return hmac.digest(self.key.private_bytes_raw(), b"community.hearth.link/pseudonym", hashlib.sha256)

    @property
    def card(self) -> Card:
        """What we show of ourselves."""
        return Card(
            name=" ".join(_printable(self.name).split())[:_LONGEST_NAME] or "Hearth",
            description=_printable(self.about),
            key=public_text(self.key),
            capabilities=CAPABILITIES,
            languages=self.languages,
        )

    def seal(
        self,
        body: Body,
        *,
        id: str,  # noqa: A002 - as the field is called
        sender: str,
        to: str,
        iat: int,
        exp: int,
        room_ref: str = "",
        prev: str = "",
    ) -> Sealed:
        """`body`, signed by us for `to`. Raises `ValueError` for what no receiver would take."""
        return seal(
            body, key=self.key, id=id, sender=sender, to=to, iat=iat, exp=exp, room_ref=room_ref, prev=prev
        )
