"""What Hearth says to whoever wrote something that it cannot decrypt: that, why, and what helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bots.language import N_, _
from bots.wording import quoted, sentences

if TYPE_CHECKING:
    from collections.abc import Mapping

REASONS: Final[Mapping[str, str]] = {
    "m.unverified": N_(
        "It gives its keys to verified sessions only. Verify me, or switch that off for this room: in "
        "Element it is called “Never send encrypted messages to unverified sessions”."
    ),
    "m.blacklisted": N_("Your app has blocked my session. Open my profile there and take that back."),
    "m.unauthorised": N_("Your app believes that I may not read it. Is it from before I came into the room?"),
    "m.unavailable": N_("Your app does not have the key any more. Please write it once more."),
    "m.no_olm": N_(
        "Your app could not reach my session. Please write it once more; it tries anew each time."
    ),
}
"""By the code of `m.room_key.withheld` (client-server API, "Reporting that decryption keys are withheld")."""


def unreadable(name: str, code: str) -> str:
    """A message of `name` has no key here; `code` is why, as its app says (`""`: it says nothing)."""
    told = _("{name}, I cannot read what you wrote: your app has not given me the key to it.")
    helps = REASONS.get(code)
    if helps is None:
        more = _(
            "Please write it once more. If that does not help, close your app and open it again. Should the "
            "key come later, I answer then."
        )
    else:
        more = _(helps)
    return sentences(told.format(name=quoted(name, 40)), more)
