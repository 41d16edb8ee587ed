"""How the turns of one account are worked on: what `bridge.router` and `bridge.run` are told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How a router works; times in seconds.

    `at_once` turns run side by side. `draft_after` is how long an answer may take before its
    beginning is shown; `presence_after` before a receipt and typing are; `turn_deadline` before a
    run counts as failed, `long_deadline` for work in a `long` lane, of which a quarter of `at_once`
    (at least one) run side by side.
    """

    own_name: str = "Hearth"
    at_once: int = 4
    context_messages: int = 20
    max_age_ms: int | None = 3_600_000
    streaming: bool = True
    receipts: bool = True
    typing: bool = True
    draft_after: float = 1.0
    presence_after: float = 0.25
    turn_deadline: float = 600.0
    long_deadline: float = 6 * 3600.0
    first_retry: float = 2.0
    place_is_person: bool = False
    """Every asker has a place of their own here, so a moderator's `!stop` means all of them."""
    admins: frozenset[str] = frozenset()
    """Addresses of those whom the settings name as admin."""
    refusals_per_day: int | None = None
    """How often a person is told why they are not answered, in 24 hours; None: always."""
