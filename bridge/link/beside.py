"""Link places that are no rooms: a peer that is reached over HTTPS has one of its own, by its address."""

from __future__ import annotations

from typing import Final

HTTPS: Final = "https:"
"""Before the address of a community whose bot speaks our protocol, as in `https:hearth:city.example`."""
AGENT: Final = "agent:"
"""Before the address of an A2A agent that does not: it signs nothing, and has no room that decides."""


def place_of(peer: str, *, agent: bool) -> str:
    """The place of `peer` (`bot:server`)."""
    return f"{AGENT if agent else HTTPS}{peer}"


def peer_of(place: str) -> str:
    """Whose place it is; `""` for a room."""
    return next((place.removeprefix(kind) for kind in (HTTPS, AGENT) if place.startswith(kind)), "")


def is_agent(place: str) -> bool:
    """Whether it is the place of an agent that signs nothing."""
    return place.startswith(AGENT)
