"""What Hearth says to whoever wrote something that it cannot decrypt: that, why, and what helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bots.language import N_, _, moment, ngettext, number
from bots.wording import quoted, sentences

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bots.base import Encryption

NAMED: Final = 5
"""People that a sentence names."""
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


STANDINGS: Final[Mapping[str, str]] = {
    "signed": N_("My session is signed by its owner, so that everybody's app gives it keys."),
    "foreign": N_(
        "My session is NOT signed: this account has an identity whose keys I do not have, and many apps give "
        "me no keys. Whoever runs me: `hearth check` says what to do."
    ),
    "no_password": N_(
        "My session is NOT signed, and many apps give it no keys: I was not given the password that the "
        "server asks for. Whoever runs me: `hearth check` says what to do."
    ),
}


def not_encrypted() -> str:
    """The answer to `!doctor` where there is nothing to look at."""
    return _("This room is not encrypted: whoever runs the servers of its members can read it.")


def doctor(found: Encryption) -> str:
    """The answer to `!doctor`: how encryption stands here, and what helps."""
    lines = [_(STANDINGS[found.standing])] if found.standing in STANDINGS else []
    if found.unread and found.last_unread is not None:
        text = ngettext(
            "There is no key here for {count} message, of {time}. Whoever wrote it was told; written once "
            "more, it can be read.",
            "There is no key here for {count} messages, the last of {time}. Whoever wrote them was told; "
            "written once more, they can be read.",
            found.unread,
        )
        lines.append(text.format(count=number(found.unread), time=moment(found.last_unread)))
    else:
        lines.append(_("There is a key here for everything that was written."))
    if found.last_read is not None:
        lines.append(
            _("The last message that I could read is of {time}.").format(time=moment(found.last_read))
        )
    if found.without:
        named = ", ".join(quoted(one, 120) for one in found.without[:NAMED])
        lines.append(
            _(
                "I could not give the key of what I said last to every device of {people}: their server does "
                "not answer, or the device has not been used for long. I try again by myself."
            ).format(people=named)
        )
    else:
        text = ngettext(
            "The {count} device of the others here gets the keys of what I say.",
            "All {count} devices of the others here get the keys of what I say.",
            found.devices,
        )
        lines.append(text.format(count=number(found.devices)))
    return "\n".join(f"- {line}" for line in lines)
