"""Voice through everything: encrypted files on a real Synapse, `hearth run`, a real decoder; the echo ear.

What the echo ear hears is how long a sound is, so a test that knows the sound knows the words.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import pytest

from models.echo_ear import echo_transcript
from models.transcript import render
from tests.hearth import Hearth, answer_to_voice
from tests.human import Human
from tests.models.voice import pack, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.homeserver import Homeserver
    from tests.human import Said

SECONDS = 2.4
RECORDING = 90.0


@pytest.fixture(scope="module")
def note() -> bytes:
    return pack(tone(SECONDS), "wav", "pcm_s16le")


@pytest.fixture
async def family(synapse: Homeserver, tmp_path: Path) -> AsyncIterator[Family]:
    """Ada, Ben and Hearth in an encrypted room."""
    mark = secrets.token_hex(3)
    bot, *users = [await synapse.register(f"{name}{mark}", "pw") for name in ("hearth", "ada", "ben")]
    async with (
        Human(synapse.url, users[0], "pw") as ada,
        Human(synapse.url, users[1], "pw") as ben,
        Hearth(tmp_path, synapse.url, bot),
    ):
        room = await ada.create_room("Family", invite=[bot, ben.user_id])
        await ben.join(room)
        await ada.until_joined(room, bot)
        yield Family(ada, ben, bot, room)


class Family:
    def __init__(self, ada: Human, ben: Human, bot: str, room: str) -> None:
        self.ada, self.ben, self.bot, self.room = ada, ben, bot, room

    async def reply_to(self, event: str, *, kind: str = "m.text", words: str = "") -> Said:
        """What the bot says to a message, once it has `words`."""

        def wanted(said: Said) -> bool:
            return (
                said.sender == self.bot
                and said.reply_to == event
                and (said.msgtype, True)
                == (
                    kind,
                    words in said.text,
                )
            )

        return await self.ada.until(self.room, wanted)


async def test_a_voice_message_that_mentions_us(family: Family, note: bytes) -> None:
    """It is fetched, decrypted, heard, shown as heard, and answered, to whoever spoke."""
    asked = await family.ben.send_voice(
        family.room, note, mentions=[family.bot], media_type="audio/wav", duration_ms=2400
    )
    answer = await family.reply_to(asked)
    name = family.ben.user_id[1:].partition(":")[0].capitalize()
    assert answer.text == answer_to_voice(name, SECONDS)
    assert "<blockquote>" in answer.html
    assert answer.encrypted
    assert answer.mentions == (family.ben.user_id,)


async def test_an_ear_a_file_and_a_redaction(family: Family, note: bytes) -> None:
    """Unmentioned voice is written down for the first ear, made a file of, and takes all with it."""
    voice = await family.ben.send_voice(family.room, note, mentions=[], media_type="audio/wav")
    await family.ada.react(family.room, voice, "👂")
    transcript = await family.reply_to(voice)
    assert echo_transcript(SECONDS).text in transcript.text
    await family.ada.say(family.room, "!transcript srt", mentions=[], reply_to=voice)
    file = await family.reply_to(voice, kind="m.file")
    assert file.encrypted
    assert "file" in file.content, "in an encrypted room the file is encrypted too"
    assert (await family.ada.read_file(file)).decode() == render(echo_transcript(SECONDS), "srt")
    await family.ben.redact(family.room, voice)
    gone = {transcript.id, file.id}

    def all_gone(_: Said) -> bool:
        return {said.id for said in family.ada.seen(family.room) if said.redacted} >= gone

    await family.ada.until(family.room, all_gone)


async def test_a_recording_shows_its_progress_and_times(family: Family) -> None:
    """Over a minute: time marks, and no answer to it; asked by reply to the recording."""
    recording = await asyncio.to_thread(pack, tone(RECORDING))
    voice = await family.ben.send_voice(family.room, recording, mentions=[], duration_ms=90_000)
    await family.ada.say(family.room, "!transcribe", mentions=[], reply_to=voice)
    transcript = await family.reply_to(voice, words="[0:00]")
    assert "[1:00]" in transcript.text
    assert "Echo:" not in transcript.text


async def test_what_is_no_sound(family: Family) -> None:
    """A text that is announced as a voice message gets one clear sentence."""
    asked = await family.ada.send_voice(family.room, b"I am not a sound. " * 50, mentions=[family.bot])
    answer = await family.reply_to(asked, words="no recording")
    assert "Echo:" not in answer.text
