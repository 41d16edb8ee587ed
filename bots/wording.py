"""Every sentence that Hearth says by itself, in one place: verdicts, failures, status, welcome.

Sentences are whole and parameterised, and are said in the language that is spoken now
(`bots.language`); the tables hold them in English, to be looked up when they are said. A message to
a person says what happened, to what, and what to do next. What a user wrote appears only through
`quoted`, so that it pings nobody and links nowhere. What is said of recordings stands in
`wording_voice`, of a policy in `wording_policy`, on a public network in `wording_public`.
"""

from __future__ import annotations

import re
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from bots.commands import visible
from bots.language import N_, _, day, ngettext, number
from bots.wording_verdicts import ABOUT, STANDS
from bots.wording_verdicts import REMEDIES as REMEDIES  # noqa: PLC0414 - part of this vocabulary
from bots.wording_verdicts import RULES as RULES  # noqa: PLC0414 - as above
from bots.wording_verdicts import VERDICTS as VERDICTS  # noqa: PLC0414 - as above

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bots.base import Decided, Status
    from bots.commands import Command
    from policies.verdict import Verdict


class Failure(StrEnum):
    """Why a turn ended without an answer. A stable name: it is stored with the turn."""

    MODEL_UNAVAILABLE = "model_unavailable"
    MODEL_TIMEOUT = "model_timeout"
    MODEL_BUSY = "model_busy"
    MODEL_REFUSED = "model_refused"
    MODEL_MISCONFIGURED = "model_misconfigured"
    FILE_UNREACHABLE = "file_unreachable"
    INTERNAL = "internal"


FAILURES: Final[Mapping[Failure, str]] = {
    Failure.MODEL_UNAVAILABLE: N_(
        "I could not answer this: a model of mine is not running. I tried more than once. "
        "Please ask again in a few minutes; whoever runs me can look with `hearth check`."
    ),
    Failure.MODEL_TIMEOUT: N_(
        "I could not answer this in time: a model of mine was too slow. "
        "Please ask again, or ask something shorter."
    ),
    Failure.MODEL_BUSY: N_(
        "I could not answer this: too many people are asking at once. Please ask again in a few minutes."
    ),
    Failure.MODEL_REFUSED: N_(
        "The language model cannot take this question. Please put it in other words, or shorter."
    ),
    Failure.MODEL_MISCONFIGURED: N_(
        "I could not answer this: my language model is not set up rightly. "
        "Whoever runs me can see what is wrong and how to mend it with `hearth check`."
    ),
    Failure.FILE_UNREACHABLE: N_(
        "I could not fetch the recording: the server that has it did not hand it over. "
        "I tried more than once. Please ask again in a few minutes, or send it again."
    ),
    Failure.INTERNAL: N_(
        "I could not answer this: something in me broke, and it is written down. "
        "Please ask again; whoever runs me can look with `hearth turns stuck`."
    ),
}

OUTCOMES: Final[Mapping[str, str]] = {
    "answered": N_("It was answered."),
    "stopped": N_("The answer was stopped."),
    "failed": N_("It could not be answered, and the asker was told."),
    "refused": N_("It was not answered."),
    "withdrawn": N_("It was taken back, and so was what I said to it."),
    "superseded": N_("It was edited, and the edited one counts."),
    "left": N_("It was not answered, because I left the room."),
    "continued": N_("It was answered in two steps."),
}
STATES: Final[Mapping[str, str]] = {
    "pending": N_("It waits for its turn."),
    "running": N_("It is being answered now."),
    "waiting": N_("It waits for somebody's reply."),
    "settled": N_("It is settled."),
    "parked": N_(
        "It failed several times and was put aside; whoever runs me can try again with `hearth turns retry`."
    ),
}

HELP_LINES: Final = (
    N_("Ask me anything: mention me, or reply to something I said. In a conversation of two, just write."),
    N_("You can also ask in a voice message; I show what I heard, then answer."),
    "",
    N_("- `!help`: this list"),
    N_("- `!status`: which model I use, how much waits, what is kept"),
    N_("- `!why` as a reply to a message: what I decided about it, and by which rule"),
    N_("- `!policy`: what I may do in this room, and who decided so; `!policy help` for more"),
    N_("- `!notes`: what our notes say about something, as in `!notes opening hours`"),
    N_("- `!propose`: put it to the vote, as in `!propose voice off` or `!propose ask @bot:city.example`"),
    N_("- `!vote`: in the thread of a vote, as in `!vote yes`, where your app shows no polls"),
    N_("- `!recount`: count a vote again, from what is in the room"),
    N_("- `!peers`: what is agreed with other communities"),
    N_("- `!ask`: ask the bot of another community, as in `!ask city When does the pool open?`"),
    N_("- `!proof` as a reply to such an answer: who signed it, and when"),
    N_("- `!link`: link us with another community's bot, as in `!link @bot:city.example`"),
    N_("- `!audit`: what was asked and answered over such links, and what was refused"),
    N_("- `!doctor`: whether encryption works in this room, and what helps where it does not"),
    N_("- `!brake`: stop one of them at once, as in `!brake @bot:city.example`"),
    N_(
        "- `!transcribe` as a reply to a voice message or recording, or the reaction \U0001f442: "
        "what is said in it"
    ),
    N_("- `!transcript` as a reply to one: the same as a file, also `!transcript srt`, `vtt` or `txt`"),
    N_("- `!summary` as a reply to one: its points, each with its time"),
    N_("- `!alt` as a reply to one: a description for those who cannot hear it, to paste"),
    N_("- `!verify`: which signs somebody who verifies me should see; `!verify yes` if so (admins)"),
    N_("- `!stop`: end the answer that I am writing for you"),
    N_("- `!forget`: erase what I remember of you here"),
    N_("- `!forget room`: erase what I remember of everybody here (moderators)"),
)
_PLAIN = re.compile(r"(?!.*@room\b)[\w@:.,-]+", re.ASCII | re.IGNORECASE)
QUOTED = 60
"""Characters of a user's text that a sentence of ours repeats at most."""


class _Params(dict[str, str]):
    """Parameters of a sentence; one that is missing shows as `?`, because words never raise."""

    def __missing__(self, key: str) -> str:
        return "?"


def sentences(*said: str) -> str:
    """Sentences one after the other; an empty one is none."""
    return " ".join(one for one in said if one)


def small_model() -> str:
    """The language model is the bundled one."""
    return _("My language model is only the toy that ships, which is too small for this.")


def help_words() -> str:
    """The answer to `!help`."""
    return "\n".join(_(line) for line in HELP_LINES)


def quoted(text: str, limit: int = QUOTED) -> str:
    """A user's `text` as one short code span: clients make no mention and no link of it.

    `@room` is broken by a space as well, for clients that look for it in the plain text.
    """
    if len(text) <= limit and _PLAIN.fullmatch(text):
        return f"`{text}`"  # an address or a number, as most are: nothing has to be done to it
    line = " ".join(visible(text[: 10 * limit]).split()).replace("`", "'")
    line = re.sub(r"@(?=room\b)", "@ ", line, flags=re.IGNORECASE)
    line = line if len(line) <= limit else line[: limit - 1] + "…"
    return f"`{line or ' '}`"


def verdict_words(verdict: Verdict) -> str:
    """What a verdict says, in a sentence or two: what was decided and what would change it."""
    params = _Params(
        {
            name: quoted(value) if isinstance(value, str) else str(value)
            for name, value in verdict.params.items()
        }
    )
    params |= {name: _in_words(name, params[name]) for name in ("classes", "status") if name in params}
    if verdict.allowed and isinstance(until := verdict.params.get("until"), int):
        # A question to a peer: what lets it leave is a permission that people gave.
        return _("This may go to {peer}: the permission, decided by {by}, holds until {day}.").format(
            peer=params["peer"], by=params["decided_by"], day=day(until)
        )
    words = _(RULES.get(verdict.rule) or VERDICTS[verdict.code]).format_map(params)
    return sentences(words, _set_by(verdict), _(REMEDIES.get(verdict.remedy, "")))


def _in_words(name: str, value: str) -> str:
    """Classes of questions, or how a permission stands, as they are called."""
    words = ABOUT if name == "classes" else STANDS
    return ", ".join(_(words.get(one.strip("` "), one)) for one in value.split(","))


def _set_by(verdict: Verdict) -> str:
    """Who made the room's rule, and when."""
    who, at = verdict.params.get("set_by"), verdict.params.get("set_at")
    if not isinstance(who, str) or not who or not isinstance(at, int):
        return ""
    return _("That was set by {who} on {day}.").format(who=quoted(who), day=day(at))


def refusal(verdict: Verdict) -> str:
    """What to say to somebody who was refused."""
    return verdict_words(verdict)


def failed(reason_code: str) -> str:
    """What to say when a turn ends without an answer; a code that is not a `Failure` is `INTERNAL`."""
    reason = Failure(reason_code) if reason_code in set(Failure) else Failure.INTERNAL
    return _(FAILURES[reason])


def too_long(characters: int, limit: int) -> str:
    """A question of `characters` does not fit the model, which takes about `limit`."""
    words = _(
        "Your message is too long for my model: it has {characters} characters, and about {limit} fit. "
        "Please send a shorter one, or the part that matters."
    )
    return words.format(characters=number(characters), limit=number(limit))


def no_words() -> str:
    """The model came back with nothing."""
    return _("My model gave no answer to this. Please ask in other words.")


def nothing_to_hear() -> str:
    """A command about a recording that points at none."""
    return _(
        "Send this as a reply to the voice message or recording that you mean, "
        "or to what I wrote down of it: there is nothing to listen to in what it replies to now."
    )


def waiting(position: int) -> str:
    """`position` questions are before this one."""
    if position <= 0:
        return _("Your question is next.")
    words = ngettext(
        "{count} question is before yours. I answer as soon as I can.",
        "{count} questions are before yours. I answer as soon as I can.",
        position,
    )
    return words.format(count=position)


def progress() -> str:
    """The answer has begun and there is nothing of it to show yet."""
    return _("I am thinking about it.")


def stopped() -> str:
    """An answer was ended by `!stop`."""
    return _("Stopped. Ask again whenever you like.")


def nothing_to_stop() -> str:
    """`!stop` came when nothing ran."""
    return _("I am not writing an answer of yours here, so there is nothing to stop.")


def loop_notice() -> str:
    """The one notice before silence towards an account that sends too much."""
    return _(
        "Too many messages in one minute: this looks like a loop, so I stay silent for a while. "
        "Wait a minute, then write again."
    )


def welcome(
    name: str,
    *,
    retention_days: int,
    encrypted: bool,
    direct: bool,
    hears: bool = False,
    hears_all: bool = False,
) -> str:
    """The one message on joining: what is read and heard, what is kept how long, how to stop it."""
    heard = ""
    if hears_all:
        heard = _("I listen to every voice message here and keep its words, never the sound.")
    elif hears:
        heard = _("Of a voice message to me I keep the words, never the sound.")
    paragraphs = (
        sentences(
            # Translators: the name is that of the bot, and whose it is: "Hearth of the Hill family".
            _("Hello, I am {name}.").format(name=_plain(name)),
            _("When you write to me, I answer with this community's own language model.")
            if direct
            else _("When you mention me or reply to me, I answer with this community's own language model."),
        ),
        sentences(
            _(
                "To understand a question I read the messages here from now on; "
                "that model is shown them, and nobody else."
            ),
            _("This room is encrypted, and I keep to that.") if encrypted else "",
            heard,
            ngettext(
                "I keep what was said for {days} day, then it is erased.",
                "I keep what was said for {days} days, then it is erased.",
                retention_days,
            ).format(days=retention_days),
        ),
        _(
            "`!forget` erases what I remember of you at once, and removing me from the room ends it all. "
            "`!help` shows the rest."
        ),
    )
    return "\n\n".join(paragraphs)


def status(now: Status) -> str:
    """How the house is doing, as a short list."""
    lines = [f"Hearth {now.version}", "", _ready(_("- model: {model} ({ready})"), now.model, now.model_ready)]
    if now.model_is_bundled:
        lines.append(
            _(
                "- this is the bundled model, only a toy that knows a small world; for a real one, "
                "whoever runs me sets `path` to a GGUF file under `[model]` in `hearth.toml`"
            )
        )
    if not now.speech_model:
        lines.append(_("- voice: I do not listen; I have no speech model"))
    else:
        lines.append(_ready(_("- speech model: {model} ({ready})"), now.speech_model, now.speech_ready))
    if now.speech_model and now.speech_is_bundled:
        lines.append(
            _(
                "- this is the bundled speech model, only a toy that knows the sentences of a small world; "
                "for a real one, whoever runs me sets `model` under `[speech]` in `hearth.toml`"
            )
        )
    questions = _("- questions: {running} being answered, {pending} waiting")
    lines.append(questions.format(running=now.running, pending=now.pending))
    if now.undelivered:
        lines.append(_("- on their way to a server: {count}").format(count=now.undelivered))
    if now.parked:
        parked = _("- put aside after failing: {count} (whoever runs me: `hearth turns stuck`)")
        lines.append(parked.format(count=now.parked))
    if now.sealed:
        lines.append(_("- encrypted messages without a key yet: {count}").format(count=now.sealed))
    kept = ngettext(
        "- text is kept for {days} day, then erased",
        "- text is kept for {days} days, then erased",
        now.retention_days,
    )
    lines.append(kept.format(days=now.retention_days))
    lines.append(_("- this room is encrypted") if now.encrypted else _("- this room is not encrypted"))
    return "\n".join(lines)


def why(decided: Decided) -> str:
    """What was decided about one message, by which rule, and what would change it."""
    parked = decided.state == "parked"
    outcome = "" if parked else OUTCOMES.get(decided.outcome or "", "")
    known = outcome or STATES.get(decided.state, "")
    lines = [_(known) or _("Its state is {state}.").format(state=quoted(decided.state))]
    if decided.verdict is not None:
        ruled = (
            _("It was allowed by the rule `{rule}`.")
            if decided.verdict.allowed
            else _("It was refused by the rule `{rule}`.")
        )
        lines += [ruled.format(rule=decided.verdict.rule), verdict_words(decided.verdict)]
    if decided.notes:
        lines.append(_("For it I read the notes {names}.").format(names=quoted(decided.notes)))
    if decided.deliveries:
        counts = ", ".join(_delivered(*one) for one in Counter(decided.deliveries).items())
        # Translators: a list such as "1 sent, 2 on the way".
        lines.append(_("Messages of mine: {counts}.").format(counts=counts))
    if decided.possible_duplicates:
        lines.append(_("The server may show it twice: it did not say whether it had taken it."))
    return sentences(*lines)


def why_unknown() -> str:
    """`!why` about a message of which nothing is known."""
    return _(
        "I know nothing of that message: it was not for me, came before I joined, or its record is erased. "
        "Ask me again if you want an answer."
    )


def why_usage() -> str:
    """`!why` that replies to nothing."""
    return _(
        "Send `!why` as a reply to the message you mean, and I say what I decided about it and by which rule."
    )


def forgot_mine() -> str:
    """`!forget` is done."""
    return _(
        "I have erased what I remember of you in this room. "
        "Your messages in the room itself are yours to delete."
    )


def forgot_room() -> str:
    """`!forget room` is done."""
    return _(
        "I have erased what I remember of this room. "
        "The messages in the room itself stay until people delete them."
    )


def unknown_command(command: Command) -> str:
    """A `!` word that is not one of ours."""
    return sentences(
        _("I do not know {word}.").format(word=quoted("!" + command.word)),
        _("Did you mean {guess}?").format(guess=f"`!{command.guess}`") if command.guess else "",
        _("`!help` shows what I understand."),
    )


def _ready(line: str, model: str, ready: bool) -> str:  # noqa: FBT001 - one of two words
    # Translators: of a model.
    words = _("ready") if ready else _("not running; whoever runs me can look with `hearth check`")
    return line.format(model=quoted(model), ready=words)


def _delivered(state: str, count: int) -> str:
    """How many messages of ours came how far; a state of tomorrow is told as it is."""
    match state:
        case "pending":
            words = ngettext("{count} on the way", "{count} on the way", count)
        case "sent":
            words = ngettext("{count} sent", "{count} sent", count)
        case "withdrawn":
            words = ngettext(
                "{count} taken back before it was sent", "{count} taken back before it was sent", count
            )
        case "parked":
            words = ngettext("{count} refused by the server", "{count} refused by the server", count)
        case _:
            words = f"{{count}} {state}"
    return words.format(count=count)


def _plain(name: str) -> str:
    """The bot's own name, from the settings: one line without Markdown."""
    return re.sub(r"[`*_\[\]<>@]", "", " ".join(visible(name).split()))[:QUOTED] or "Hearth"
