"""Words about comparing keys: what both sides should show, and how it ended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from bots.language import N_, _
from bots.wording import quoted, sentences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bots.base import Comparing

ENDS: Final[Mapping[str, str]] = {
    "verified": N_("{who} and I have compared keys. From now on I know this person's devices by them."),
    "device_only": N_(
        "{who} and I have compared keys, but that device belongs to no identity that I could sign. "
        "Set up the keys of the account first (in Element: Settings, Encryption), then do it again."
    ),
    "no_identity": N_(
        "{who} can be sure of me now. I could not sign in return, because my own account has no keys that "
        "are mine: whoever runs me sees why in the log."
    ),
    "not_signed": N_(
        "{who} and I have compared keys, but the homeserver did not take my signature. "
        "Please do it again later."
    ),
    "no_admins": N_(
        "{who} wants to compare keys with me. I cannot see another screen, so an admin has to do that for "
        "me, and nobody is named."
    ),
}
"""How it ended."""
CANCELLED: Final[Mapping[str, str]] = {
    "m.timeout": N_("it was not done within ten minutes."),
    "m.mismatched_sas": N_(
        "the signs were not the same. Do it again; if they differ again, somebody may be reading along."
    ),
    "m.mismatched_commitment": N_("a key was changed on the way. Somebody may be trying to read along."),
    "m.key_mismatch": N_("a key was not the one that is known here. Somebody may be trying to read along."),
    "m.user": N_("the other side ended it."),
    "m.accepted": N_("the other side went on with another device."),
}
"""Why it ended, by the code of the cancellation."""


def told(who: str, text: str, admins: Sequence[str]) -> str:
    """What is said in the room; `text` is JSON, as `EventKind.VERIFICATION` carries it."""
    try:
        news = json.loads(text)
        stage = news["stage"]
    except (ValueError, KeyError, TypeError):  # its words are erased meanwhile
        return _("{who} has compared keys with me, or tried to.").format(who=quoted(who))
    if stage == "shown":
        return _shown(who, news, admins)
    if stage == "cancelled":
        code = str(news.get("code", ""))
        why = _(CANCELLED[code]) if code in CANCELLED else quoted(code)
        return _("Comparing keys with {who} has ended: {why}").format(who=quoted(who), why=why)
    words = _(ENDS.get(stage, "")).format(who=quoted(who))
    if stage == "no_admins":
        return sentences(
            words, _("Whoever runs me can name admins with `admins` under `[matrix]` in the settings.")
        )
    return words


def _shown(who: str, news: Mapping[str, Any], admins: Sequence[str]) -> str:
    """The signs that both sides should show, and who compares them how."""
    named = ", ".join(quoted(one) for one in admins)
    ask = _(
        "{admins}: ask {who} which signs are on that screen, face to face or by telephone, not in this room. "
        "Then say `!verify yes`, or `!verify no` if they differ. There are ten minutes."
    )
    return "\n\n".join(
        [
            _("{who} and I compare keys. If nobody is between us, both see this:").format(who=quoted(who)),
            _signs(news["signs"], news["numbers"]),
            ask.format(admins=named, who=quoted(who)),
        ]
    )


def listed(comparing: Sequence[Comparing]) -> str:
    """What is being compared now."""
    if not comparing:
        return _(
            "Nobody compares keys with me now. That is begun by a person, in Element for instance on my "
            "profile with Verify user."
        )
    parts = [f"{quoted(one.user)}: {_signs(one.signs, one.numbers)}" for one in comparing]
    usage = _("`!verify yes` says that the other side shows the same, `!verify no` that it does not.")
    if len(comparing) > 1:
        usage = sentences(usage, _("Name whom you mean: `!verify yes @ada:example.org`."))
    return "\n\n".join([*parts, usage])


def said(which: Comparing, *, matches: bool) -> str:
    """What an admin's word led to."""
    if not matches:
        return _("Then I go no further with {who}.").format(who=quoted(which.user))
    return _("Good. As soon as {who} has said so too, I say it here.").format(who=quoted(which.user))


def gone() -> str:
    """It ended before an admin spoke."""
    return _("That has ended meanwhile. Begin it again.")


def _signs(signs: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    named = ", ".join(f"{sign} {name}" for sign, name in signs)
    listed_ = " ".join(f"`{number}`" for number in numbers)
    return _("**{signs}** (in numbers: {numbers})").format(signs=named, numbers=listed_)
