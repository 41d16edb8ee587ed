"""`Grant`: what one room allows with one peer. Links between communities give it its fields."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """A permission for one `peer` (`bot:server`) that ends at `until` (ms since the epoch)."""

    peer: str
    until: int
