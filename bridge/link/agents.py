"""What an A2A agent that is no Hearth says, as it is kept in the journal: unsigned, and never an envelope.

Made by `bridge.a2a` of what came over TLS from the address in the settings, and read by `bridge.links`. An
agent is pinned by the fingerprint of its card where a community is pinned by its key.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final, Literal

from bridge.link.bodies import LONGEST_ANSWER, Card

End = Literal["answered", "refused", "failed"]
_DELETE: Final = "\x7f"


@dataclass(frozen=True, slots=True)
class AgentCard:
    """What its card says; `fingerprint` is unpadded base64 of 32 bytes, `at` when it was seen (ms)."""

    name: str
    description: str
    fingerprint: str
    at: int

    def card(self) -> Card:
        """As a peer's card is kept. Raises `ValueError` for what no card can be."""
        return Card(
            name=self.name, description=self.description, key=self.fingerprint, capabilities=("answers",),
            languages=(),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class AgentReply:
    """How the ask with that digest ended there."""

    ask: str
    end: End
    text: str = ""


def written(said: AgentCard | AgentReply) -> str:
    """As the text of an event."""
    return json.dumps({type(said).__name__: asdict(said)})


def read(text: str) -> AgentCard | AgentReply | None:
    """What `written` wrote; None for anything else."""
    try:
        ((kind, fields),) = json.loads(text).items()
        kinds: dict[str, type[AgentCard | AgentReply]] = {"AgentCard": AgentCard, "AgentReply": AgentReply}
        return kinds[kind](**fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def cleaned(text: str) -> str:
    """Words of an agent, no longer than a peer's answer may be and without controls."""
    kept = "".join(char for char in text if char in "\n\t" or (char >= " " and char != _DELETE))
    return kept.strip()[:LONGEST_ANSWER]
