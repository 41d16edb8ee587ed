"""`!verify`: an admin says whether the signs of a verification are the same on both sides.

The bot cannot see the other screen, so somebody who can ask its owner has to compare. Pure but for that word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bots import wording, wording_verify
from bots.base import Reply
from policies.decide import Deed, Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bots.base import Comparing, Tools
    from bots.conversation import Turn

SPOKEN: Final[Mapping[str, bool]] = {
    "yes": True, "y": True, "ja": True, "j": True,
    "no": False, "n": False, "nee": False,
}  # fmt: skip


async def reply(argument: str, turn: Turn, tools: Tools) -> Reply:
    """The answer to `!verify [yes | no] [@user:server]`; what it says takes effect at once."""
    verdict = await tools.may(Request(Deed.VERIFY, turn.asker.id))
    if not verdict.allowed:
        return Reply(wording.refusal(verdict), verdict=verdict)
    word, _, who = argument.partition(" ")
    matches = SPOKEN.get(word.casefold())
    which = chosen(tools.comparing, turn.place.id, who.strip())
    if matches is None or which is None:
        return Reply(wording_verify.listed(tools.comparing))
    if not tools.compared(which, matches=matches):
        return Reply(wording_verify.gone())
    return Reply(wording_verify.said(which, matches=matches), features={"matches": int(matches)})


def news(turn: Turn, tools: Tools) -> Reply:
    """What a place is told of a verification."""
    return Reply(wording_verify.told(turn.message.sender.id, turn.message.text, tools.admins), notice=True)


def chosen(comparing: Sequence[Comparing], place: str, who: str) -> Comparing | None:
    """Which verification is meant: that of `who`, else the only one of the place, else the only one."""
    if who:
        found = [one for one in comparing if one.user == who]
    else:
        found = [one for one in comparing if one.place == place] or list(comparing)
    return found[0] if len(found) == 1 else None
