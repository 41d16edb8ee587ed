"""What Hearth says of voice messages and recordings: while it listens, around transcripts and summaries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from bots.language import N_, _
from bots.wording import quoted, sentences, small_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEARING: Final[Mapping[str, str]] = {
    "audio_unreadable": N_(
        "I can hear nothing in this file: it is no recording that I can open. "
        "Please send it as a voice message, or as an Ogg, MP3, M4A or WAV file."
    ),
    "audio_too_long": N_(
        "This recording is too long for me. Please send it in shorter pieces; "
        "whoever runs me can write it down with `hearth transcribe`."
    ),
    "audio_too_large": N_(
        "This file is too large for me. Please send it smaller (as Ogg or MP3) or in pieces; "
        "whoever runs me can write it down with `hearth transcribe`."
    ),
    "gone": N_("This recording is no longer on the server, so I cannot listen to it. Please send it again."),
    "broken": N_(
        "This recording did not arrive as it was sent, so I have not opened it. Please send it again."
    ),
    "no_model": N_(
        "I cannot listen: I have no speech model. "
        "Whoever runs me can give me one with `model` under `[speech]` in `hearth.toml`."
    ),
    "model_misconfigured": N_(
        "I cannot listen: my speech model is not set up rightly. "
        "Whoever runs me can see what is wrong and how to mend it with `hearth check`."
    ),
    "model_refused": N_(
        "My speech model cannot take this recording. Please send it in another form, or shorter."
    ),
}
"""Why a recording could not be listened to, and what to do; a code that is not here is `model_refused`."""

SHORT = 60.0
"""Seconds of a recording that is heard at one go and shown without times."""


def hearing_failed(code: str) -> str:
    """Why a recording was not listened to."""
    return _(HEARING.get("audio_too_large" if code == "too_large" else code, HEARING["model_refused"]))


def nothing_heard(*, bundled: bool) -> str:
    """There are no words in the recording, as far as the speech model can tell."""
    return sentences(
        _("I heard no words in this recording. If there are some, please speak closer and send it again."),
        _small_speech_model() if bundled else "",
    )


def listening(done: float, total: float) -> str:
    """How far a recording is heard, both in seconds; a short one gets no numbers."""
    if total <= SHORT:
        return _("I am listening.")
    # Translators: both are minutes.
    words = _("I am listening: {done} of {total} min.")
    return words.format(done=int(done // 60), total=math.ceil(total / 60))


def doubtful(*, bundled: bool) -> str:
    """What the mark `(?)` in a transcript means."""
    return sentences(
        _("_(?) stands before what I may have misheard._"), _small_speech_model() if bundled else ""
    )


def truncated() -> str:
    """The file ends before the recording does."""
    return _("_The file was cut off on its way: I have heard what was there. Please send it again._")


def whole_in_file() -> str:
    """Only the beginning of a transcript is shown."""
    return _(
        "The whole of it is in the file. Reply to this with `!transcript srt`, `vtt` or `txt` "
        "for another form, or with `!summary` for its points."
    )


def transcript_of(speaker: str) -> str:
    """The title of a transcript."""
    return _("What {speaker} recorded").format(speaker=speaker)


def transcript_file(form: str) -> str:
    """A transcript was asked for as a file."""
    return _("Here is what was said, as {form}.").format(form=form)


def unknown_form(form: str) -> str:
    """`!transcript` with a form that we do not write."""
    words = _("I cannot write a transcript as {form}. Please ask for `md`, `txt`, `srt` or `vtt`.")
    return words.format(form=quoted(form))


def summary(length: str, points: Iterable[str], *, bundled: bool) -> str:
    """The summary of a recording of `length` (as a clock shows it); `points` are Markdown."""
    # Translators: the length is as a clock shows it, such as 2:05.
    title = _("What is said in these {length}, summed up by my language model:").format(length=length)
    listed = "\n".join(f"- {point}" for point in points)
    advice = sentences(
        _(
            "_The times are those of the recording; the words are the model's and may be wrong. "
            "`!transcribe` shows what was said._"
        ),
        small_model() if bundled else "",
    )
    return f"{title}\n\n{listed}\n\n{advice}"


def no_point() -> str:
    """The model had nothing to say of a section."""
    return _("(my model says nothing of this part)")


def heard_and_kept() -> str:
    """The recording was heard, but nothing could be made of it yet."""
    return _("What was said in it is kept, so asking again is quick.")


def _small_speech_model() -> str:
    return _("My speech model is only the toy that ships, which knows a small world.")
