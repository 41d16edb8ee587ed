"""What messages say of their files: total on hostile content, exact on what clients send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nio.crypto.attachments import decrypt_attachment, encrypt_attachment

from bots.conversation import Attachment
from bridge.matrix import files
from bridge.matrix.translate import translate
from bridge.platform import Event, EventKind
from tests.matrix.test_translate import ADA, BEN, JSON, ME, US, message, read, room

URL = "mxc://home.org/AbC-_123"
LOCKED = files.Stored("home.org", "AbC-_123", bytes(range(32)), b"prefix!!" + bytes(8), b"\xfb" * 32)
VOICE: dict[str, Any] = {
    "msgtype": "m.audio",
    "body": "Voice message",
    "info": {"duration": 2500, "mimetype": "audio/ogg; codecs=opus", "size": 7000},
    "org.matrix.msc1767.audio": {"duration": 2400, "waveform": [1, 2]},
    "org.matrix.msc3245.voice": {},
}
MUTABLE = [
    *(("url",), ("file",), ("file", "url"), ("file", "v"), ("file", "iv"), ("file", "hashes")),
    *(("file", "key"), ("file", "key", "k"), ("file", "key", "alg"), ("file", "hashes", "sha256")),
    *(("info",), ("info", "size"), ("info", "duration"), ("info", "mimetype"), ("filename",), ("body",)),
    *(("org.matrix.msc1767.audio",), ("org.matrix.msc1767.audio", "duration"), ("org.matrix.msc3245.voice",)),
    *(("msgtype",), ("m.relates_to",)),
]
TEMPTING = st.sampled_from(
    [-1, 2**53, 10**400, 1e308, True, "mxc://", "mxc://../x", "mxc://h/../x", "https://evil.org/x", "m.file"]
)


def only(event: Event) -> Attachment:
    (attachment,) = event.attachments
    return attachment


@given(
    mutations=st.lists(st.tuples(st.sampled_from(MUTABLE), JSON | TEMPTING), min_size=1, max_size=6),
    encrypted=st.booleans(),
)
def test_no_content_makes_the_translation_raise(
    mutations: list[tuple[tuple[str, ...], Any]],
    encrypted: bool,  # noqa: FBT001 - generated
) -> None:
    """Whatever stands where, there is an event; its attachment, if any, can be asked for and is bounded."""
    content = json.loads(json.dumps({**VOICE, **(LOCKED.content if encrypted else {"url": URL})}))
    for path, value in mutations:
        part = content
        for key in path[:-1]:
            part = part[key] if isinstance(part.get(key), dict) else part
        part[path[-1]] = value
    event = translate(message(content), None, room(), US)
    for one in () if event is None else event.attachments:
        stored = files.parsed(one.source)
        assert stored is not None
        assert files.canonical(stored.content) == one.source
        assert len(stored.server) <= 255
        assert stored.key == b"" or (len(stored.key), len(stored.iv), len(stored.sha256)) == (32, 16, 32)
        assert all(number is None or 0 <= number < 2**53 for number in (one.size, one.duration_ms))
        assert len(one.name) <= 80
        assert one.name.isprintable()
        assert len(one.media_type) <= 121


@pytest.mark.parametrize("where", [{"url": URL}, LOCKED.content], ids=["plain", "encrypted"])
def test_a_voice_message_is_an_attachment(where: dict[str, Any]) -> None:
    """A voice message has no words, and a file with all that its sender told of it."""
    event = read({**VOICE, **where, "m.mentions": {"user_ids": [ME]}})
    assert (event.kind, event.text, event.addressed, event.context_only) == (
        EventKind.MESSAGE,
        "",
        True,
        False,
    )
    assert only(event) == Attachment(
        files.canonical(where), "audio/ogg", 7000, "Voice message", duration_ms=2500, voice=True
    )


def test_the_caption_is_the_text() -> None:
    """The body is a caption where a file name stands beside it and differs; it may name us too."""
    file = {"msgtype": "m.file", "url": URL, "info": {"mimetype": "audio/mp4"}}
    said = read({**file, "body": "Hearth, listen", "filename": "a\u202egnp.m4a"})
    assert (said.text, only(said).name, said.addressed) == ("Hearth, listen", "agnp.m4a", True)
    for bare in ({"body": "hearth.m4a"}, {"body": "hearth.m4a", "filename": "hearth.m4a"}):
        event = read({**file, **bare})
        assert (event.text, only(event).name, event.addressed) == ("", "hearth.m4a", False)


@pytest.mark.parametrize(
    ("content", "media_type", "owed"),
    [
        ({"msgtype": "m.audio"}, "audio/*", True),
        ({"msgtype": "m.audio", "info": {"mimetype": "application/ogg"}}, "audio/*", True),
        ({"msgtype": "m.video", "info": {"mimetype": "VIDEO/MP4"}}, "video/mp4", True),
        ({"msgtype": "m.file", "info": {"mimetype": "audio/flac"}}, "audio/flac", True),
        ({"msgtype": "m.file", "info": {"mimetype": "application/pdf"}}, "application/pdf", False),
        ({"msgtype": "m.file", "info": {"mimetype": "no type at all"}}, "", False),
        ({"msgtype": "m.file", "body": "what is this?", "filename": "a.pdf"}, "", True),
    ],
)
def test_what_may_have_sound_is_owed_an_answer(content: dict[str, Any], media_type: str, owed: bool) -> None:  # noqa: FBT001 - a case
    """A file without sound and without words is context; sound, or words beside a file, are not."""
    event = read({"body": "x", "url": URL, **content})
    assert only(event).media_type == media_type
    assert event.context_only is not owed


@pytest.mark.parametrize(
    "content",
    [
        {"msgtype": "m.image", "url": URL},
        {"msgtype": "m.text", "url": URL},
        {"msgtype": "m.audio"},
        {"msgtype": "m.audio", "url": "https://home.org/x"},
        {"msgtype": "m.audio", "url": "mxc://../AbC"},
        {"msgtype": "m.audio", "url": "mxc://home.org/a/b"},
        {"msgtype": "m.audio", "url": URL, "file": {}},
        {"msgtype": "m.audio", "file": {**LOCKED.content["file"], "v": "v1"}},
        {"msgtype": "m.audio", "file": {**LOCKED.content["file"], "iv": "AAAA"}},
        {"msgtype": "m.audio", "file": {**LOCKED.content["file"], "hashes": {"sha256": "é" * 43}}},
    ],
)
def test_what_cannot_be_fetched_is_no_attachment(content: dict[str, Any]) -> None:
    """Images, text, and files without a place or with keys of a wrong shape have no attachment."""
    assert read(content).attachments == ()


def test_voice_is_gated_like_words() -> None:
    """A group needs a mention, a direct room does not; replies and threads are told; marks make context."""
    voice = {**VOICE, "url": URL}
    assert not read(voice).addressed
    assert read(voice, room(ME, ADA)).addressed
    reply = read({**voice, "m.relates_to": {"m.in_reply_to": {"event_id": "$0"}}})
    assert (reply.reply_to, reply.thread) == ("$0", None)
    thread = {"rel_type": "m.thread", "event_id": "$root", "is_falling_back": True}
    assert read({**voice, "m.relates_to": thread}).thread == "$root"
    assert read({**voice, "community.hearth": {"bot": True}}).context_only
    assert read(voice, sender=ME).context_only
    edit = {"rel_type": "m.replace", "event_id": "$0"}
    new = {**voice, "body": "with words", "filename": "a.ogg"}
    edited = read({**voice, "m.new_content": new, "m.relates_to": edit})
    assert (edited.kind, edited.text, only(edited).name) == (EventKind.EDIT, "with words", "a.ogg")


def reaction(emoji: object, sender: str = BEN, *, bot: bool = False) -> Event | None:
    relation = {"rel_type": "m.annotation", "event_id": "$0", "key": emoji}
    content = {"m.relates_to": relation, "community.hearth": {"bot": bot}}
    raw = {"type": "m.reaction", "sender": sender, "event_id": "$r", "content": content}
    return translate(raw, None, room(), US)


@pytest.mark.parametrize("emoji", ["👂", "👂\ufe0f", "👂🏻", "👂🏽", "👂🏿\ufe0f"])
def test_the_ear_is_a_reaction(emoji: str) -> None:
    """The ear in any skin tone and presentation is admitted, with what it was put on."""
    event = reaction(emoji)
    assert event is not None
    assert (event.kind, event.text, event.relates_to) == (EventKind.REACTION, emoji, "$0")
    assert not event.context_only
    for own in (reaction(emoji, ME), reaction(emoji, bot=True)):
        assert own is not None
        assert own.context_only
    raw = {"type": "m.room.encrypted", "sender": BEN, "event_id": "$r", "content": {"ciphertext": "c"}}
    clear = {"type": "m.reaction", "content": {"m.relates_to": {"rel_type": "m.annotation", "key": emoji}}}
    assert translate(raw, clear, room(), US) is None
    clear["content"] = {"m.relates_to": {"rel_type": "m.annotation", "key": emoji, "event_id": "$0"}}
    opened = translate(raw, clear, room(), US)
    assert opened is not None
    assert opened.kind is EventKind.REACTION


@given(
    st.text()
    | st.sampled_from(["👍", "🦻", "👂👂", "👂 ", " 👂", "👂\u200d", "👂🏻🏻", "\ufe0f", "👎🏽", "✅\ufe0f"])
)
def test_no_other_reaction_is_admitted(emoji: str) -> None:
    """Whatever is not one ear, thumb, tick or cross is dropped."""
    bare = emoji.strip()
    bare = bare[:-1] if bare[-1:] in ("\ufe0e", "\ufe0f") else bare
    means_something = bare[:1] in tuple("👂👍👎✅✔❌✖") and bare[1:] in ("", *"🏻🏼🏽🏾🏿")
    assert (reaction(emoji) is not None) is means_something


@given(JSON)
def test_any_reaction_is_an_event_or_nothing(value: Any) -> None:
    """A reaction of any shape never raises."""
    raw = {"type": "m.reaction", "sender": BEN, "event_id": "$r", "content": {"m.relates_to": value}}
    assert translate(raw, None, room(), US) is None
    assert reaction(value) is None or isinstance(value, str)


@given(data=st.binary(max_size=300), key=st.binary(min_size=32, max_size=32))
def test_matrix_nio_opens_what_we_seal_and_we_what_it_seals(data: bytes, key: bytes) -> None:
    """Encryption is that of the specification: another implementation reads it, and we read theirs."""
    ciphertext, iv, sha256 = files.sealed(data, key=key, prefix=key[:8])
    file = files.Stored("home.org", "x", key, iv, sha256).content["file"]
    assert decrypt_attachment(ciphertext, file["key"]["k"], file["hashes"]["sha256"], file["iv"]) == data
    theirs, keys = encrypt_attachment(data)
    stored = files.stored({"file": {**keys, "url": URL}})
    assert stored is not None
    assert stored.decryptor().update(theirs) == data
    assert files.parsed(files.canonical(stored.content)) == stored
