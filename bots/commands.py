"""Text to `Command`: what somebody typed, as one of the few things that are not a question.

Owns the `!` words and the shape of a leading mention. Promises to be pure and never to raise on
any text. Refuses to guess where something would be erased: `!forget the milk` is no `!forget`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

LOOKED_AT = 4_000
"""Characters of a message in which a command may stand; a longer one is a question or a paste."""

WORD_SHOWN = 32
"""Characters of an unknown command that are kept to name it."""


class CommandName(StrEnum):
    """What can be asked with a `!` word."""

    HELP = "help"
    STATUS = "status"
    WHY = "why"
    POLICY = "policy"
    TRANSCRIBE = "transcribe"
    TRANSCRIPT = "transcript"
    SUMMARY = "summary"
    ALT = "alt"
    PROPOSE = "propose"
    VOTE = "vote"
    RECOUNT = "recount"
    BRAKE = "brake"
    PEERS = "peers"
    ASK = "ask"
    LINK = "link"
    PROOF = "proof"
    AUDIT = "audit"
    DOCTOR = "doctor"
    VERIFY = "verify"
    NOTES = "notes"
    FORGET = "forget"
    FORGET_ROOM = "forget room"
    STOP = "stop"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Command:
    """A command; an unknown one keeps the `word` as typed and the `guess` what was meant, if any.

    `argument` is the form that `!transcript` asks for: one of `FORMS`, or what was typed instead; of the
    commands about what the room allows, and about other communities, it is all that follows, on one line.
    """

    name: CommandName
    word: str = ""
    guess: str | None = None
    argument: str = ""


FORMS = ("md", "txt", "srt", "vtt")
"""Files that a transcript can be had as; the first is what `!transcript` alone means."""

EAR = "\U0001f442"
"""The reaction that asks for a transcript."""


MORE = frozenset({"more", "go on", "continue", "next", "meer", "verder", "ga door"})
"""Replies to a long answer that ask for the rest of it."""

_WITH_WORDS = frozenset(
    {
        CommandName.POLICY,
        CommandName.PROPOSE,
        CommandName.VOTE,
        CommandName.BRAKE,
        CommandName.RECOUNT,
        CommandName.VERIFY,
        CommandName.NOTES,
        CommandName.ASK,
        CommandName.LINK,
        CommandName.AUDIT,
    }
)
_ALIASES = {"vraag": CommandName.ASK, "bewijs": CommandName.PROOF}
"""Dutch words for what people who speak to another community's bot say first."""
KNOWN = tuple(name for name in CommandName if name is not CommandName.UNKNOWN)
_ARGUMENTS = {
    "": CommandName.FORGET,
    "me": CommandName.FORGET,
    "mine": CommandName.FORGET,
    "room": CommandName.FORGET_ROOM,
    "the room": CommandName.FORGET_ROOM,
    "this room": CommandName.FORGET_ROOM,
}
_WORD = re.compile(r"!([^\W\d_][\w-]*)(.*)", re.DOTALL)
_SEPARATOR = re.compile(r"\s*[:,;]+(?=[\s!]|$)\s*|\s+[-\u2013\u2014]\s+")
_GREETING = "hey|hi|hello|hallo|ok|okay"
_SHADE = "[\U0001f3fb-\U0001f3ff]?[\ufe0e\ufe0f]?"
_EAR = re.compile(rf"{EAR}{_SHADE}")
_UP, _DOWN = "[\U0001f44d\u2705\u2714]", "[\U0001f44e\u274c\u2716]"
_SIGN = re.compile(rf"(?:{_UP}|{_DOWN}){_SHADE}")
_YES = re.compile(rf"\W*(?:yes|y|ok|okay|ja|j)\W*|\s*{_UP}{_SHADE}\s*", re.IGNORECASE)
_BLANK = frozenset("\u034f\u115f\u1160\u3164\uffa0")
"""The Hangul fillers and U+034F: letters and a mark by category, and nothing to the eye."""
_ASCII_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_LINK = re.compile(r"\[(?P<label>[^\]\n]{0,200})\]\(https://matrix\.to/#/(?P<target>[^)\s]{1,400})\)")


def parse(  # noqa: PLR0911 - a table of words
    text: str, *, own_id: str = "", own_name: str = ""
) -> Command | None:
    """Read `text` as a command to the bot `own_id` (`@bot:server`), shown as `own_name`.

    None means that it is not a command: a question, a remark, a lone `!`. Case, zero-width and
    full-width characters make no difference. Words after a command are ignored but for `!transcript`,
    whose first is a form, and for `!forget`, which erases only when nothing else stands there.
    """
    plain = unicodedata.normalize("NFKC", visible(text[:LOOKED_AT]))
    found = _WORD.match(strip_mention(plain, own_id, own_name).strip())
    if found is None:
        return None
    word = found[1].casefold()
    rest = " ".join(found[2].split()).casefold().rstrip(".!")
    if word == CommandName.FORGET:
        what = _ARGUMENTS.get(rest)
        if what is None:
            return Command(CommandName.UNKNOWN, _shown(f"forget {rest}"), "forget")
        return Command(what, word)
    if word == CommandName.TRANSCRIPT:
        form = rest.partition(" ")[0].removeprefix(".")
        return Command(CommandName.TRANSCRIPT, word, argument=_shown(form) or FORMS[0])
    name = _ALIASES.get(word, word)
    if name in _WITH_WORDS:
        return Command(CommandName(name), word, argument=" ".join(found[2].split()))
    if name in KNOWN:
        return Command(CommandName(name), word)
    near = difflib.get_close_matches(word[:WORD_SHOWN], KNOWN, n=1, cutoff=0.6)
    return Command(CommandName.UNKNOWN, _shown(word), str(near[0]) if near else None)


def strip_mention(text: str, own_id: str, own_name: str) -> str:
    """`text` without the mention of the bot that it starts with; the rest is left as it is.

    A mention is the address, `@name`, a matrix.to link to the address, or the name followed by
    `:`, `,` or `;` (or by a command). The bare name followed by words stays: "Hearth is slow" is a
    sentence.
    """
    body = text.lstrip()
    link = _LINK.match(body)
    if (
        own_id
        and link
        and link["target"].replace("%40", "@").replace("%3A", ":").casefold() == own_id.casefold()
    ):
        return _after(body[link.end() :])
    local = re.split("[:@]", own_id.removeprefix("@"))[0]
    for name in sorted({own_id, own_name.strip(), local} - {""}, key=len, reverse=True):
        for sign in ("@", ""):
            lead = name if sign and name.startswith("@") else sign + name
            end = _lead(body, lead)
            if end is None:
                continue
            rest = body[end:]
            bare = not lead.startswith("@")
            if _SEPARATOR.match(rest):
                return _after(rest)
            if not rest.strip() or (rest[0].isspace() and (not bare or rest.lstrip().startswith("!"))):
                return rest.lstrip()
    return text


def strip_spoken_name(text: str, own_name: str) -> str | None:
    """`text`, as it was heard, without the bot's name that it begins with; None if it does not.

    A speech model writes the comma after a name or leaves it out, so the bare name counts here, and
    so does a greeting before it: "Hearth when does the shop open", "Hey, hearth. When ...".
    """
    name = r"\W+".join(re.findall(r"\w+", own_name))
    if not name:
        return None
    found = re.match(rf"\W*(?:(?:{_GREETING})\W+)?{name}(?![\w'\u2019-])\W*", text, re.IGNORECASE)
    return text[found.end() :] if found else None


def wants_more(text: str) -> bool:
    """Whether a reply to a long answer asks for the rest of it, and for nothing else."""
    plain = visible(text[:LOOKED_AT]).casefold()
    return " ".join(re.findall(r"\w+", plain)) in MORE


def is_ear(text: str) -> bool:
    """Whether a reaction is the ear, in any skin tone and with or without a variation selector."""
    return _EAR.fullmatch(text.strip()) is not None


def is_sign(text: str) -> bool:
    """Whether a reaction is a yes or a no: a thumb, a tick or a cross."""
    return _SIGN.fullmatch(text.strip()) is not None


def says_yes(text: str) -> bool:
    """Whether an answer to a question of ours is a yes, in a word or by a sign."""
    return _YES.fullmatch(text.strip()) is not None


def visible(text: str) -> str:
    """`text` without what cannot be seen: controls, bidi overrides, zero-width characters.

    Line breaks and tabs stay. So do the joiners between characters beyond ASCII, because Persian,
    Indic scripts and emoji mean something by them.
    """
    if text.isascii():
        return _ASCII_HIDDEN.sub("", text)
    # Most text has nothing to hide, and looking at each character takes a thousand times longer.
    if text.replace("\n", "").replace("\t", "").isprintable() and not _BLANK.intersection(text):
        return text
    return "".join(
        char
        for at, char in enumerate(text)
        if char in "\n\t" or not _is_hidden(char) or (char in "\u200c\u200d" and _joins(text, at))
    )


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") or char in _BLANK


def _joins(text: str, at: int) -> bool:
    sides = text[at - 1 : at] + text[at + 1 : at + 2]
    return len(sides) == 2 and all(side > "\x7f" and not _is_hidden(side) for side in sides)  # noqa: PLR2004 - left and right


def _lead(body: str, lead: str) -> int | None:
    """Where `lead` ends at the start of `body`, compared without case."""
    end = len(lead)
    return end if body[:end].casefold() == lead.casefold() else None


def _after(rest: str) -> str:
    separator = _SEPARATOR.match(rest)
    return rest[separator.end() :] if separator else rest.lstrip()


def _shown(word: str) -> str:
    return word if len(word) <= WORD_SHOWN else word[: WORD_SHOWN - 1] + "…"
