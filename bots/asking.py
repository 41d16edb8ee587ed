"""Whom a person wants asked, what, and with what answer to a preview: text in, data out. Pure.

    !ask city When does the pool open?
    !ask @bot:city.example class=local-knowledge When does the pool open?
    !ask city notes: opening hours              the same as share=information
    !ask When does the pool open?               nobody is named: whoever may be asked
    ask the city's bot when the pool opens      in words; only if there is somebody of that name

Owns the names of peers and the choice among them. Never raises on any text. What a peer calls itself is
proven by nothing: it may make a name ambiguous, and then the person is asked, but it never takes a name away.
The rest of this vocabulary, `bots.standalone` and `bots.quoting`, can be had from here.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from bots.commands import LOOKED_AT, is_sign, says_yes, visible
from bots.proposing import Mistake
from bots.quoting import quoted as quoted  # noqa: PLC0414 - part of this vocabulary
from bots.standalone import ASKING, FUNCTION
from bots.standalone import needs_rewriting as needs_rewriting  # noqa: PLC0414 - as above
from bots.standalone import rewriting_prompt as rewriting_prompt  # noqa: PLC0414 - as above
from bots.standalone import stands_alone as stands_alone  # noqa: PLC0414 - as above
from policies.classes import Class
from policies.room import PEER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bots.base import Peer

ANSWERS: Final = "answers"
INFORMATION: Final = "information"
SHARES: Final = {
    ANSWERS: ANSWERS,
    "answer": ANSWERS,
    "antwoorden": ANSWERS,
    INFORMATION: INFORMATION,
    "notes": INFORMATION,
    "informatie": INFORMATION,
    "notities": INFORMATION,
}
"""What `share=` can say, in English and Dutch."""
OPTIONS: Final = ("class", "share")
_SHOWN: Final = 40
_OPTION: Final = re.compile(r"([^\W\d_]\w*)=(\S*)(?:\s+|$)")
_LAST_OPTION: Final = re.compile(r"\s(class|share)=(\S+)\s*$", re.IGNORECASE)
_NOTES: Final = re.compile(r"(?:notes|notities)\s*:\s*", re.IGNORECASE)
_PILL: Final = re.compile(
    r"\[[^\]\n]{0,200}\]\(https://matrix\.to/#/(?:@|%40)([^)\s%:]{1,200})(?::|%3A)([^)\s%]{1,200})\)",
    re.IGNORECASE,
)
"""A mention as clients write it in Markdown."""
_ADDRESS: Final = re.compile(
    rf"@{PEER}|(?=[^:]*[a-z])[a-z0-9._=/+-]{{1,200}}:[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::\d+)?"
)
"""With its `@`, any; without, one whose server has a dot: "10:30" is a time."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What is to be asked. `name` is whom, as it was typed (`""`: nobody); `share` as in `AskPeer`."""

    name: str
    question: str
    cls: Class | None = None
    share: str = ANSWERS


def asking(argument: str, names: Sequence[str]) -> Asking | Mistake:
    """What follows `!ask`. `names` are those of all peers of the room (`called`).

    The first word is a peer if it is one of them, is an address, or ends with a colon. Mistakes:
    `no_question`, `unknown_ask_option`, `unknown_class`, `unknown_share`, with a guess where there is one.
    """
    said: dict[str, str] = {}
    rest = _options(_PILL.sub(r"@\1:\2", argument).strip(), said)
    name = ""
    if not isinstance(rest, Mistake):
        name, rest = _peer(rest, names)
        rest = _options(rest, said)
    if isinstance(rest, Mistake):
        return rest
    rest = _last_options(rest, said)
    notes = _NOTES.match(rest)
    if notes is not None:
        rest, said["share"] = rest[notes.end() :], INFORMATION
    if not rest:
        return Mistake("no_question", name[:_SHOWN])
    cls = _class(said["class"]) if "class" in said else None
    share = SHARES.get(said.get("share", ANSWERS).casefold(), "")
    if "class" in said and cls is None:
        return Mistake("unknown_class", said["class"][:_SHOWN], _near(said["class"], Class))
    if not share:
        return Mistake("unknown_share", said["share"][:_SHOWN], _near(said["share"], (ANSWERS, INFORMATION)))
    return Asking(name, rest, cls, share)


def _options(text: str, said: dict[str, str]) -> str | Mistake:
    """`text` without the options that it begins with, which go to `said`."""
    while (found := _OPTION.match(text)) is not None:
        key = found[1].casefold()
        if key not in OPTIONS:
            return Mistake("unknown_ask_option", key[:_SHOWN], _near(key, OPTIONS))
        said[key] = found[2]
        text = text[found.end() :]
    return text


def _last_options(text: str, said: dict[str, str]) -> str:
    """The same at its end, where only what can be meant so is an option: the rest is part of the question."""
    while (found := _LAST_OPTION.search(text)) is not None:
        key, value = found[1].casefold(), found[2].casefold()
        if not (_class(value) if key == "class" else value in SHARES):
            break
        said[key] = found[2]
        text = text[: found.start()].rstrip()
    return text


def _peer(text: str, names: Sequence[str]) -> tuple[str, str]:
    """Whom the text names first (`""`: nobody), and the rest."""
    word = text.split(maxsplit=1)[0] if text else ""
    bare = word.rstrip(":,").casefold()
    if _ADDRESS.fullmatch(bare):
        return bare.removeprefix("@"), text[len(word) :].strip()
    if _NOTES.match(text):
        return "", text
    known = re.match(rf"@?({_any_of(names)})(?:\s*[:,]|(?=\s|$))", text, re.IGNORECASE)
    if known is not None:
        return " ".join(known[1].casefold().split()), text[known.end() :].strip()
    if word.endswith(":") and bare:
        return bare.removeprefix("@"), text[len(word) :].strip()
    return "", text


def _any_of(names: Iterable[str]) -> str:
    """A pattern for one of the names, the longest first; never matches where there is none."""
    words = sorted({tuple(name.split()) for name in names} - {()}, key=lambda one: (-len(" ".join(one)), one))
    return "|".join(r"\s+".join(map(re.escape, one)) for one in words) or r"(?!)"


def _class(text: str) -> Class | None:
    name = text.casefold().replace("_", "-")
    return next((one for one in Class if one == name), None)


def _near(text: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(text[:_SHOWN].casefold(), list(known), n=1)), "")


# -- in words --------------------------------------------------------------------------------------

_BOT: Final = r"(?:bots?|assistants?|assistent|ai)"
_LEAD: Final = re.compile(
    r"\W*(?:(?:please|pls|graag)\W+)?"
    r"(?:(?:(?:can|could|will|would)\s+you\s+(?:please\s+)?)?ask\s+"
    r"|vraag\s+(?:(?:dit|dat|het)\s+)?(?:(?:eens|even|maar|alsjeblieft)\s+)*(?:aan\s+)?"
    r"|(?P<modal>(?:kun|kan|wil|zou|zul)\s+(?:je|jij|u)\s+(?:(?:eens|even|alsjeblieft)\s+)*(?:aan\s+)?))",
    re.IGNORECASE,
)
_ASKED: Final = re.compile(r"\s+vragen(?=\s|$)", re.IGNORECASE)
_COLON: Final = re.compile(r"\s*[:,;](?=\s|$)")


def spoken_ask(text: str, names: Sequence[str]) -> str | None:
    """What was said after the mention, as the argument of `!ask`, if it tells us to ask one of `names`.

    "ask the city bot when the pool opens", "vraag de bot van de stad of het zwembad open is". None: an
    ordinary question, as is one that names somebody who is no peer.
    """
    said = _PILL.sub(r"@\1:\2", visible(text[:LOOKED_AT])).strip()
    lead = _LEAD.match(said)
    if lead is None or not names:
        return None
    article = r"(?:(?:the|de|het|our|onze)\s+)?"
    name = _any_of(names)
    whom = re.compile(
        rf"(?:{article}(?:{_BOT}|(?P<of>notes|notities))\s+(?:of|from|at|van|uit)\s+{article}@?(?P<after>{name})"
        rf"|{article}@?(?P<before>{name})(?:['\u2019]?s)?"
        rf"(?:[\s-]+(?P<bot>{_BOT})(?:['\u2019]s)?)?(?:\s+(?P<notes>notes|notities))?)(?![\w'\u2019-])",
        re.IGNORECASE,
    )
    found = whom.match(said, lead.end())
    if found is None:
        return None
    rest, sure = said[found.end() :], bool(found["after"] or found["bot"] or found["notes"])
    asked, colon = _ASKED.match(rest) if lead["modal"] else None, _COLON.match(rest)
    if lead["modal"] and asked is None:
        return None
    for mark in (asked, colon):
        if mark is not None:
            rest, sure = rest[mark.end() :], True
    question = rest.strip()
    first = re.match(r"[\w-]+", question)
    if question and not sure and (first is None or first[0].casefold() not in ASKING):
        return None
    who = " ".join((found["after"] or found["before"]).casefold().split())
    return f"{who}:{' notes:' if found['of'] or found['notes'] else ''} {question}".strip()


# -- who is meant ----------------------------------------------------------------------------------

_NO_NAME: Final = frozenset(
    {"hearth", "bot", "matrix", "chat", "www", "synapse", "localhost", "notes", "notities"}
)
"""Names of software and of parts of it, which many have."""
_LEAST_WORD: Final = 4


def called(peer: Peer) -> tuple[str, ...]:
    """The names by which a peer can be called, folded: its address first, what its card says last.

    No name is a word that a question begins with: who calls itself "when" is not asked by `!ask When ...`.
    """
    local, _, server = peer.address.casefold().partition(":")
    labels = [label for label in server.split(":")[0].split(".") if label not in _NO_NAME]
    card = visible(peer.name[:LOOKED_AT]).casefold()
    words = re.findall(r"[\w'\u2019-]+", card)
    claimed = [" ".join(words), *(word for word in words if len(word) >= _LEAST_WORD)]
    names = [local, *labels[:1], *claimed]
    good = (name for name in names if any(map(str.isalpha, name)) and not _is_common(name))
    return tuple(dict.fromkeys([peer.address.casefold(), *good]))


def _is_common(name: str) -> bool:
    return all(word in FUNCTION or word in _NO_NAME for word in name.split())


def resolve(name: str, peers: Sequence[Peer]) -> tuple[Peer, ...]:
    """Who is called `name`: whose address it is, else everybody of that name, by address."""
    wanted = " ".join(visible(name[:LOOKED_AT]).casefold().removeprefix("@").split())
    exact = tuple(peer for peer in peers if peer.address.casefold() == wanted)
    found = exact[:1] or tuple(peer for peer in peers if wanted in called(peer))
    return tuple({peer.address: peer for peer in sorted(found, key=lambda one: one.address)}.values())


# -- the choice ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whom we ask, why, and out of how many that could.

    `why` is what made the difference to the next best: `only`, `language`, `success`, `wait`, `address`.
    """

    peer: Peer
    why: str
    among: int


def choose(peers: Sequence[Peer], share: str, language: str) -> Chosen | None:
    """The best of `peers`, who all may be asked already; None: none of them can do the `share`.

    First who speaks the `language` (BCP 47; an unknown card does), then who answered most of what we asked
    lately, then who was quickest, then by address. The order of `peers` makes no difference.
    """
    able = {
        peer.address: peer for peer in sorted(peers, key=repr) if share in (peer.capabilities or (share,))
    }
    if not able:
        return None
    ranked = sorted(able.values(), key=lambda peer: _rank(peer, language))
    best = ranked[0]
    if len(ranked) == 1:
        return Chosen(best, "only", 1)
    pairs = zip(
        ("language", "success", "wait", "address"),
        _rank(best, language),
        _rank(ranked[1], language),
        strict=True,
    )
    return Chosen(best, next(why for why, one, other in pairs if one != other), len(ranked))


def _rank(peer: Peer, language: str) -> tuple[bool, Fraction, float, str]:
    """The smaller, the better. Laplace's rule of succession: who was never asked has one half."""
    wanted = language.partition("-")[0].casefold()
    spoken = {one.partition("-")[0].casefold() for one in peer.languages} or {wanted}
    asked = max(peer.asked, 0)
    success = Fraction(min(max(peer.answered, 0), asked) + 1, asked + 2)
    return (
        wanted not in spoken,
        -success,
        float("inf") if peer.wait_ms is None else peer.wait_ms,
        peer.address,
    )


# -- the preview -----------------------------------------------------------------------------------


class Says(StrEnum):
    """What a person says to a preview."""

    SEND = "send"
    CANCEL = "cancel"
    EDIT = "edit"


@dataclass(frozen=True, slots=True)
class PreviewAnswer:
    """What a person says to a preview; `text` is what to ask instead (`EDIT`)."""

    says: Says
    text: str = ""


_SEND: Final = frozenset(
    {"send", "send it", "do it", "stuur", "stuur maar", "verstuur", "verstuur maar", "doe maar"}
)
_CANCEL: Final = frozenset(
    {"no", "n", "nee", "cancel", "don't", "do not", "don't send", "do not send", "stop", "annuleer",
     "annuleren", "niet", "niet sturen", "niet versturen", "laat maar"}
)  # fmt: skip
_EDIT: Final = re.compile(r"(?:edit|wijzig|verander)\s*:\s*(\S.*)", re.IGNORECASE | re.DOTALL)


def preview_answer(text: str) -> PreviewAnswer | None:
    """A reply or a reaction to a preview; None: neither a yes nor a no, nor other words to ask."""
    plain = (text if is_sign(text) else visible(text[:LOOKED_AT])).strip()
    edit = _EDIT.fullmatch(plain)
    if edit is not None:
        return PreviewAnswer(Says.EDIT, edit[1])
    words = " ".join(re.findall(r"[\w']+", plain.casefold().replace("\u2019", "'")))
    if says_yes(plain) or words in _SEND:
        return PreviewAnswer(Says.SEND)
    if is_sign(plain) or words in _CANCEL:
        return PreviewAnswer(Says.CANCEL)
    return None
