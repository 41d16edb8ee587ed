"""Every sentence that Hearth says by itself, in one place: verdicts, failures, status, welcome.

Sentences are whole and parameterised, so that a translation is another set of tables. A message
to a person says what happened, to what, and what to do next. What a user wrote appears only
through `quoted`, so that it pings nobody and links nowhere.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from bots.commands import visible
from policies.decide import Code

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bots.base import Decided, Status
    from bots.commands import Command
    from policies.decide import Verdict


class Failure(StrEnum):
    """Why a turn ended without an answer. A stable name: it is stored with the turn."""

    MODEL_UNAVAILABLE = "model_unavailable"
    MODEL_TIMEOUT = "model_timeout"
    MODEL_BUSY = "model_busy"
    MODEL_REFUSED = "model_refused"
    MODEL_MISCONFIGURED = "model_misconfigured"
    FILE_UNREACHABLE = "file_unreachable"
    INTERNAL = "internal"


VERDICTS: Final[Mapping[Code, str]] = {
    Code.ALLOWED: "This is allowed here.",
    Code.BOT: "I do not answer other bots, so that two of us never talk to each other without end.",
    Code.LOOP: (
        "I have fallen silent: more than {limit} messages in {seconds} seconds came from one account, "
        "and that looks like a loop."
    ),
    Code.NOT_AN_ASKER: "{asker} is not among those whom I may answer here.",
    Code.PERSON_QUOTA: "You have had your {limit} answers of the last 24 hours.",
    Code.PLACE_QUOTA: "This room has had its {limit} answers of the last 24 hours.",
    Code.VOICE_OFF: "I do not listen to voice messages and recordings here.",
    Code.UNASKED: "Nobody asked me to listen to it, and here I listen only when I am asked.",
    Code.UNREADABLE: "I cannot read the policy of this room, so I answer nothing here: {problem}.",
    Code.NOT_YOURS: "That answer was asked for by somebody else, so only they or a moderator can stop it.",
    Code.NOT_A_MODERATOR: "Only a moderator of this room can make me forget all of it.",
    Code.EXPIRED: (
        "The question was {minutes} minutes old when it reached me, and I answer nothing older than "
        "{limit} minutes."
    ),
    Code.WITHDRAWN: "The question was taken back.",
    Code.STOPPED: "The answer was stopped by `!stop`.",
    Code.FAILED: "I tried until I gave up, and none of the tries worked.",
    Code.UNKNOWN: "No rule allows this, and what no rule allows is refused.",
}
"""What each verdict says, with its parameters."""

RULES: Final[Mapping[str, str]] = {
    "hearth.edited": "The question was edited, and the edited one counts.",
    "hearth.left": "I am no longer in the room where it was asked.",
    "hearth.welcome": "I say hello once in every room that I join.",
    "hearth.policy": "I say in the room what was changed in its policy.",
    "hearth.deaths": "I was shut down again and again while I worked on it, so I put it aside.",
}
"""Where a rule has better words than its code."""

REMEDIES: Final[Mapping[str, str]] = {
    "ask_admin": "Whoever runs me can add the address or its server to `askers` in the settings.",
    "turn_on_voice": "Whoever runs me can allow it with `voice` under `[policy]` in the settings.",
    "room_policy": "That is this room's own rule: `!policy` shows it, and its moderators can change it.",
    "ask_moderator": "Please ask a moderator of this room.",
    "ask_again": "If it still matters, please ask again.",
    "tomorrow": (
        "Older answers stop counting after 24 hours; whoever runs me can raise the number in the settings."
    ),
    "ask_operator": "Whoever runs me can look with `hearth turns stuck` and try it again.",
    "wait": "Wait a minute, then write again.",
}
"""What would change a verdict; the keys are those of `Verdict.remedy`."""

FAILURES: Final[Mapping[Failure, str]] = {
    Failure.MODEL_UNAVAILABLE: (
        "I could not answer this: a model of mine is not running. I tried more than once. "
        "Please ask again in a few minutes; whoever runs me can look with `hearth check`."
    ),
    Failure.MODEL_TIMEOUT: (
        "I could not answer this in time: a model of mine was too slow. "
        "Please ask again, or ask something shorter."
    ),
    Failure.MODEL_BUSY: (
        "I could not answer this: too many people are asking at once. Please ask again in a few minutes."
    ),
    Failure.MODEL_REFUSED: (
        "The language model cannot take this question. Please put it in other words, or shorter."
    ),
    Failure.MODEL_MISCONFIGURED: (
        "I could not answer this: my language model is not set up rightly. "
        "Whoever runs me can see what is wrong and how to mend it with `hearth check`."
    ),
    Failure.FILE_UNREACHABLE: (
        "I could not fetch the recording: the server that has it did not hand it over. "
        "I tried more than once. Please ask again in a few minutes, or send it again."
    ),
    Failure.INTERNAL: (
        "I could not answer this: something in me broke, and it is written down. "
        "Please ask again; whoever runs me can look with `hearth turns stuck`."
    ),
}

OUTCOMES: Final[Mapping[str, str]] = {
    "answered": "It was answered.",
    "stopped": "The answer was stopped.",
    "failed": "It could not be answered, and the asker was told.",
    "refused": "It was not answered.",
    "withdrawn": "It was taken back, and so was what I said to it.",
    "superseded": "It was edited, and the edited one counts.",
    "left": "It was not answered, because I left the room.",
    "continued": "It was answered in two steps.",
}
STATES: Final[Mapping[str, str]] = {
    "pending": "It waits for its turn.",
    "running": "It is being answered now.",
    "waiting": "It waits for somebody's reply.",
    "settled": "It is settled.",
    "parked": (
        "It failed several times and was put aside; whoever runs me can try again with `hearth turns retry`."
    ),
}

DELIVERIES: Final[Mapping[str, str]] = {
    "pending": "on the way",
    "sent": "sent",
    "withdrawn": "taken back before it was sent",
    "parked": "refused by the server",
}

HELP: Final = """\
Ask me anything: mention me, or reply to something I said. In a conversation of two, just write.
You can also ask in a voice message; I show what I heard, then answer.

- `!help`: this list
- `!status`: which model I use, how much waits, what is kept
- `!why` as a reply to a message: what I decided about it, and by which rule
- `!policy`: what I may do in this room, and who decided so
- `!transcribe` as a reply to a voice message or recording, or the reaction \U0001f442: what is said in it
- `!transcript` as a reply to one: the same as a file, also `!transcript srt`, `vtt` or `txt`
- `!summary` as a reply to one: its points, each with its time
- `!alt` as a reply to one: a description for those who cannot hear it, to paste
- `!stop`: end the answer that I am writing for you
- `!forget`: erase what I remember of you here
- `!forget room`: erase what I remember of everybody here (moderators)"""

HEARING: Final[Mapping[str, str]] = {
    "audio_unreadable": (
        "I can hear nothing in this file: it is no recording that I can open. "
        "Please send it as a voice message, or as an Ogg, MP3, M4A or WAV file."
    ),
    "audio_too_long": (
        "This recording is too long for me. Please send it in shorter pieces; "
        "whoever runs me can write it down with `hearth transcribe`."
    ),
    "audio_too_large": (
        "This file is too large for me. Please send it smaller (as Ogg or MP3) or in pieces; "
        "whoever runs me can write it down with `hearth transcribe`."
    ),
    "gone": "This recording is no longer on the server, so I cannot listen to it. Please send it again.",
    "broken": (
        "This recording did not arrive as it was sent, so I have not opened it. Please send it again."
    ),
    "no_model": (
        "I cannot listen: I have no speech model. "
        "Whoever runs me can give me one with `model` under `[speech]` in `hearth.toml`."
    ),
    "model_misconfigured": (
        "I cannot listen: my speech model is not set up rightly. "
        "Whoever runs me can see what is wrong and how to mend it with `hearth check`."
    ),
    "model_refused": (
        "My speech model cannot take this recording. Please send it in another form, or shorter."
    ),
}
"""Why a recording could not be listened to, and what to do; a code that is not here is `model_refused`."""

QUOTED = 60
"""Characters of a user's text that a sentence of ours repeats at most."""


class _Params(dict[str, str]):
    """Parameters of a sentence; one that is missing shows as `?`, because words never raise."""

    def __missing__(self, key: str) -> str:
        return "?"


SHORT = 60.0
"""Seconds of a recording that is heard at one go and shown without times."""

SMALL_MODEL = "My language model is only the toy that ships, which is too small for this."
SMALL_SPEECH_MODEL = "My speech model is only the toy that ships, which knows a small world."


def quoted(text: str, limit: int = QUOTED) -> str:
    """A user's `text` as one short code span: clients make no mention and no link of it.

    `@room` is broken by a space as well, for clients that look for it in the plain text.
    """
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
    words = (RULES.get(verdict.rule) or VERDICTS[verdict.code]).format_map(params)
    remedy = REMEDIES.get(verdict.remedy, "")
    return f"{words} {remedy}".strip()


def refusal(verdict: Verdict) -> str:
    """What to say to somebody who was refused."""
    return verdict_words(verdict)


def failed(reason_code: str) -> str:
    """What to say when a turn ends without an answer; a code that is not a `Failure` is `INTERNAL`."""
    reason = Failure(reason_code) if reason_code in set(Failure) else Failure.INTERNAL
    return FAILURES[reason]


def too_long(characters: int, limit: int) -> str:
    """A question of `characters` does not fit the model, which takes about `limit`."""
    return (
        f"Your message is too long for my model: it has {characters:,} characters, and about {limit:,} fit. "
        "Please send a shorter one, or the part that matters."
    )


def no_words() -> str:
    """The model came back with nothing."""
    return "My model gave no answer to this. Please ask in other words."


def hearing_failed(code: str) -> str:
    """Why a recording was not listened to."""
    return HEARING.get("audio_too_large" if code == "too_large" else code, HEARING["model_refused"])


def nothing_to_hear() -> str:
    """A command about a recording that points at none."""
    return (
        "Send this as a reply to the voice message or recording that you mean, "
        "or to what I wrote down of it: there is nothing to listen to in what it replies to now."
    )


def nothing_heard(*, bundled: bool) -> str:
    """There are no words in the recording, as far as the speech model can tell."""
    toy = f" {SMALL_SPEECH_MODEL}" if bundled else ""
    return (
        f"I heard no words in this recording. If there are some, please speak closer and send it again.{toy}"
    )


def listening(done: float, total: float) -> str:
    """How far a recording is heard, both in seconds; a short one gets no numbers."""
    if total <= SHORT:
        return "I am listening."
    return f"I am listening: {int(done // 60)} of {math.ceil(total / 60)} min."


def doubtful(*, bundled: bool) -> str:
    """What the mark `(?)` in a transcript means."""
    toy = f" {SMALL_SPEECH_MODEL}" if bundled else ""
    return f"_(?) stands before what I may have misheard._{toy}"


def truncated() -> str:
    """The file ends before the recording does."""
    return "_The file was cut off on its way: I have heard what was there. Please send it again._"


def whole_in_file() -> str:
    """Only the beginning of a transcript is shown."""
    return (
        "The whole of it is in the file. Reply to this with `!transcript srt`, `vtt` or `txt` "
        "for another form, or with `!summary` for its points."
    )


def transcript_of(speaker: str) -> str:
    """The title of a transcript."""
    return f"What {speaker} recorded"


def transcript_file(form: str) -> str:
    """A transcript was asked for as a file."""
    return f"Here is what was said, as {form}."


def unknown_form(form: str) -> str:
    """`!transcript` with a form that we do not write."""
    return f"I cannot write a transcript as {quoted(form)}. Please ask for `md`, `txt`, `srt` or `vtt`."


def summary(length: str, points: Iterable[str], *, bundled: bool) -> str:
    """The summary of a recording of `length` (as a clock shows it); `points` are Markdown."""
    listed = "\n".join(f"- {point}" for point in points)
    toy = f" {SMALL_MODEL}" if bundled else ""
    return (
        f"What is said in these {length}, summed up by my language model:\n\n{listed}\n\n"
        "_The times are those of the recording; the words are the model's and may be wrong. "
        f"`!transcribe` shows what was said._{toy}"
    )


def no_point() -> str:
    """The model had nothing to say of a section."""
    return "(my model says nothing of this part)"


def heard_and_kept() -> str:
    """The recording was heard, but nothing could be made of it yet."""
    return "What was said in it is kept, so asking again is quick."


def waiting(position: int) -> str:
    """`position` questions are before this one."""
    if position <= 0:
        return "Your question is next."
    if position == 1:
        return "1 question is before yours. I answer as soon as I can."
    return f"{position} questions are before yours. I answer as soon as I can."


def progress() -> str:
    """The answer has begun and there is nothing of it to show yet."""
    return "I am thinking about it."


def stopped() -> str:
    """An answer was ended by `!stop`."""
    return "Stopped. Ask again whenever you like."


def nothing_to_stop() -> str:
    """`!stop` came when nothing ran."""
    return "I am not writing an answer of yours here, so there is nothing to stop."


def loop_notice() -> str:
    """The one notice before silence towards an account that sends too much."""
    return (
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
    asked = "write to me" if direct else "mention me or reply to me"
    guarded = " This room is encrypted, and I keep to that." if encrypted else ""
    heard = ""
    if hears_all:
        heard = "I listen to every voice message here and keep its words, never the sound. "
    elif hears:
        heard = "Of a voice message to me I keep the words, never the sound. "
    return (
        f"Hello, I am {_plain(name)}. "
        f"When you {asked}, I answer with this community's own language model.\n\n"
        "To understand a question I read the messages here from now on; "
        f"that model is shown them, and nobody else.{guarded} {heard}"
        f"I keep what was said for {_days(retention_days)}, then it is erased.\n\n"
        "`!forget` erases what I remember of you at once, and removing me from the room ends it all. "
        "`!help` shows the rest."
    )


def status(now: Status) -> str:
    """How the house is doing, as a short list."""
    ready = "ready" if now.model_ready else "not running; whoever runs me can look with `hearth check`"
    lines = [f"Hearth {now.version}", "", f"- model: {quoted(now.model)} ({ready})"]
    if now.model_is_bundled:
        lines.append(
            "- this is the bundled model, only a toy that knows a small world; for a real one, "
            "whoever runs me sets `path` to a GGUF file under `[model]` in `hearth.toml`"
        )
    if not now.speech_model:
        lines.append("- voice: I do not listen; I have no speech model")
    else:
        ready = "ready" if now.speech_ready else "not running; whoever runs me can look with `hearth check`"
        lines.append(f"- speech model: {quoted(now.speech_model)} ({ready})")
    if now.speech_model and now.speech_is_bundled:
        lines.append(
            "- this is the bundled speech model, only a toy that knows the sentences of a small world; for a "
            "real one, whoever runs me sets `model` under `[speech]` in `hearth.toml`"
        )
    lines.append(f"- questions: {now.running} being answered, {now.pending} waiting")
    if now.undelivered:
        lines.append(f"- on their way to a server: {now.undelivered}")
    if now.parked:
        lines.append(f"- put aside after failing: {now.parked} (whoever runs me: `hearth turns stuck`)")
    if now.sealed:
        lines.append(f"- encrypted messages without a key yet: {now.sealed}")
    lines.append(f"- text is kept for {_days(now.retention_days)}, then erased")
    lines.append("- this room is encrypted" if now.encrypted else "- this room is not encrypted")
    return "\n".join(lines)


def why(decided: Decided) -> str:
    """What was decided about one message, by which rule, and what would change it."""
    lines = [
        OUTCOMES.get(decided.outcome or "", "")
        or STATES.get(decided.state, f"Its state is {quoted(decided.state)}.")
    ]
    if decided.state == "parked":
        lines = [STATES["parked"]]
    if decided.verdict is not None:
        allowed = "allowed" if decided.verdict.allowed else "refused"
        lines.append(
            f"It was {allowed} by the rule `{decided.verdict.rule}`. {verdict_words(decided.verdict)}"
        )
    if decided.deliveries:
        counts = Counter(DELIVERIES.get(state, state) for state in decided.deliveries)
        lines.append(
            "Messages of mine: " + ", ".join(f"{count} {state}" for state, count in counts.items()) + "."
        )
    if decided.possible_duplicates:
        lines.append("The server may show it twice: it did not say whether it had taken it.")
    return " ".join(lines)


def why_unknown() -> str:
    """`!why` about a message of which nothing is known."""
    return (
        "I know nothing of that message: it was not for me, came before I joined, or its record is erased. "
        "Ask me again if you want an answer."
    )


def why_usage() -> str:
    """`!why` that replies to nothing."""
    return (
        "Send `!why` as a reply to the message you mean, and I say what I decided about it and by which rule."
    )


def forgot_mine() -> str:
    """`!forget` is done."""
    return (
        "I have erased what I remember of you in this room. "
        "Your messages in the room itself are yours to delete."
    )


def forgot_room() -> str:
    """`!forget room` is done."""
    return (
        "I have erased what I remember of this room. "
        "The messages in the room itself stay until people delete them."
    )


def unknown_command(command: Command) -> str:
    """A `!` word that is not one of ours."""
    meant = f" Did you mean `!{command.guess}`?" if command.guess else ""
    return f"I do not know {quoted('!' + command.word)}.{meant} `!help` shows what I understand."


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def _plain(name: str) -> str:
    """The bot's own name, from the settings: one line without Markdown."""
    return re.sub(r"[`*_\[\]<>@]", "", " ".join(visible(name).split()))[:QUOTED] or "Hearth"
