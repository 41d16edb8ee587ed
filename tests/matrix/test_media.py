"""Files against a real Synapse, read and sent by a second account; and a repository that misbehaves."""

from __future__ import annotations

import asyncio
import io
import json
import random
import tempfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from bots.conversation import Attachment, Redact, Say, Upload
from bridge.matrix import files, media
from bridge.matrix.client import Client
from bridge.matrix.errors import LoggedOut
from bridge.platform import Broken, EventKind, Found, PlatformError, Refused, Retryable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from bridge.platform import Event
    from tests.matrix.conftest import Bot, World

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VOICE = random.Random(3).randbytes(700_000)
"""More than two pieces, so that files are put together again in order."""

TRANSCRIPT = Upload("Ada's note.txt", "text/plain", "[00:00] Grüße 👂 \ud800 an alle\n" * 40)
SHOWN = TRANSCRIPT.text.replace("\ud800", "\ufffd").encode()


async def next_with_file(bot: Bot) -> Event:
    await bot.until(lambda: any(event.attachments for event in bot.events))
    return next(event for event in bot.events if event.attachments)


async def fetched(bot: Bot, attachment: Attachment, limit: int = 1_000_000) -> bytes:
    with tempfile.TemporaryFile() as file:
        await bot.platform.fetch(attachment, file, limit)
        file.seek(0)
        return file.read()


def on_disk(world: World, attachment: Attachment) -> Path:
    """The file in Synapse's media store."""
    stored = files.parsed(attachment.source)
    assert stored is not None
    name = stored.media_id
    path = world.server.directory / "media" / "local_content" / name[:2] / name[2:4] / name[4:]
    assert path.is_file()
    return path


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_voice_message_is_heard(world: World, encrypted: bool) -> None:  # noqa: FBT001 - a case
    """A voice message that mentions us arrives with its file, and the file is what was spoken."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot, ben, encrypted=encrypted)
    sent = await ada.send_voice(room, VOICE, mentions=[bot.id], duration_ms=2500)
    event = await next_with_file(bot)
    assert (event.id, event.kind, event.text) == (sent, EventKind.MESSAGE, "")
    assert (event.addressed, event.context_only) == (True, False)
    (attachment,) = event.attachments
    assert (attachment.media_type, attachment.size, attachment.duration_ms) == (
        "audio/ogg",
        len(VOICE),
        2500,
    )
    assert attachment.voice
    assert ("file" in json.loads(attachment.source)) is encrypted
    assert await fetched(bot, attachment, len(VOICE)) == VOICE


async def test_voice_in_a_thread_as_a_reply_and_in_a_direct_room(world: World) -> None:
    """Voice has the relations that words have, and a direct room needs no mention."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    root = await ada.say(room, "root", mentions=[])
    await ada.send_voice(room, b"one", thread=root)
    await ada.send_voice(room, b"two", reply_to=root)
    caption = {"msgtype": "m.file", "filename": "meeting.ogg", "body": "who said what?"}
    await ada.send_voice(room, b"three", extra=caption)
    await ada.say(room, "done", mentions=[])
    await bot.heard("done")
    one, two, three = (event for event in bot.events if event.attachments)
    assert (one.thread, one.reply_to, two.reply_to) == (root, None, root)
    assert all(event.addressed for event in (one, two, three))
    assert (three.text, three.attachments[0].name) == ("who said what?", "meeting.ogg")
    assert await fetched(bot, three.attachments[0]) == b"three"


async def test_of_reactions_only_the_ear_and_answers_reach_us(world: World) -> None:
    """Somebody's ear on a message arrives in an encrypted room, as would a thumb; a party popper does not."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot, ben)
    voice = await ada.send_voice(room, VOICE[:5000], mentions=[])
    for emoji in ("🎉", "👂🏽"):
        await ben.react(room, voice, emoji)
    await ada.say(room, "done", mentions=[])
    await bot.heard("done")
    assert [
        (event.sender.id, event.relates_to, event.text)
        for event in bot.events
        if event.kind is EventKind.REACTION
    ] == [(ben.user_id, voice, "👂🏽")]
    assert not (await next_with_file(bot)).addressed


async def test_a_flipped_byte_is_noticed(world: World) -> None:
    """Ciphertext that was changed in the repository is broken, not noise in somebody's name."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    await ada.send_voice(room, VOICE)
    (attachment,) = (await next_with_file(bot)).attachments
    path = on_disk(world, attachment)
    data = bytearray(path.read_bytes())
    data[400_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(Broken, match="SHA-256"):
        await fetched(bot, attachment)


async def test_a_removed_file_is_refused(world: World) -> None:
    """What is gone from the repository, or never was there, is refused with a rule."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=False)
    await ada.send_voice(room, VOICE[:5000])
    (attachment,) = (await next_with_file(bot)).attachments
    on_disk(world, attachment).unlink()
    never = Attachment('{"url":"mxc://hearth.test/neverwasthere"}')
    for gone in (attachment, never):
        with pytest.raises(Refused, match="M_NOT_FOUND"):
            await fetched(bot, gone)


async def test_a_large_file_is_not_fetched(world: World) -> None:
    """A file above the limit is broken before a byte of it is written, whatever its sender announced."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    await ada.send_voice(room, VOICE, extra={"info": {"size": 3, "mimetype": "audio/ogg"}})
    (attachment,) = (await next_with_file(bot)).attachments
    into = io.BytesIO()
    with pytest.raises(Broken, match="700000 bytes, 699999"):
        await bot.platform.fetch(attachment, into, len(VOICE) - 1)
    assert into.getvalue() == b""


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_transcript_is_sent_as_a_file(world: World, encrypted: bool) -> None:  # noqa: FBT001 - a case
    """A file that we upload is shown once, read by the asker, and encrypted where the room is."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot, ben, encrypted=encrypted)
    asked = await ada.say(room, "Hearth, write it down", mentions=[bot.id])
    upload = bot.action(room, TRANSCRIPT, must_encrypt=encrypted)
    assert await bot.platform.find(upload) is Found.ABSENT
    target = await bot.platform.perform(upload)
    assert await bot.platform.find(upload) is Found.ABSENT
    shows = Say(TRANSCRIPT.name, reply_to=asked, mentions=(ada.user_id,), upload=upload.key)
    say = bot.action(room, shows, target=target, must_encrypt=encrypted)
    assert await bot.platform.find(say) is Found.ABSENT
    sent = await bot.platform.perform(say)
    assert await bot.platform.perform(say) == sent
    assert await bot.platform.find(say) == sent
    said = await ada.until(room, lambda said: said.reply_to == asked)
    assert (said.id, said.msgtype, said.text, said.encrypted) == (
        sent,
        "m.file",
        TRANSCRIPT.name,
        encrypted,
    )
    assert said.content["info"] == {"mimetype": "text/plain", "size": len(SHOWN)}
    assert (said.mentions, said.mark["key"]) == ((ada.user_id,), say.key)
    assert await ada.read_file(said) == SHOWN
    url = said.content["file"]["url"] if encrypted else said.content["url"]
    headers = {"Authorization": f"Bearer {ada.client.access_token}"}
    path = f"/_matrix/client/v1/media/download/{url.removeprefix('mxc://')}"
    answer = await ada.client.send("GET", path, headers=headers)
    assert ((await answer.read()) == SHOWN) is not encrypted
    told = json.dumps(dict(answer.headers))
    assert ("note.txt" in told) is not encrypted
    assert ("text/plain" in told) is not encrypted


async def test_a_plain_room_that_was_encrypted_gets_sealed_files(world: World) -> None:
    """A file for a room that the journal knows as encrypted is encrypted even if the server denies it."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=False)
    target = await bot.platform.perform(bot.action(room, TRANSCRIPT, must_encrypt=True))
    assert target is not None
    assert "file" in json.loads(target)


async def test_a_file_for_a_room_that_we_left_is_refused(world: World) -> None:
    """Nothing is uploaded for a room that we are no longer in, and nothing shown without an upload."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    for target in (None, "", "$event", '{"url":"https://evil.org/x"}'):
        with pytest.raises(Broken):
            await bot.platform.perform(bot.action(room, Say("x", upload="key"), target=target))
    await ada.kick(room, bot.id)
    await bot.until(lambda: any(event.kind is EventKind.LEFT for event in bot.events))
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await bot.platform.perform(bot.action(room, TRANSCRIPT))


async def test_a_shown_file_can_be_taken_back(world: World) -> None:
    """The message that shows a file is redacted like any other."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    target = await bot.platform.perform(bot.action(room, TRANSCRIPT))
    say = bot.action(room, Say(TRANSCRIPT.name, upload="key"), target=target)
    sent = await bot.platform.perform(say)
    await bot.platform.perform(bot.action(room, Redact(say.key), target=sent))
    said = await ada.until(room, lambda said: said.id == sent and said.redacted)
    assert said.content == {}


# -- a repository that misbehaves ------------------------------------------------------------------

PLAIN = Attachment('{"url":"mxc://home.org/AbC"}')
V1 = "/_matrix/client/v1/media/download/home.org/AbC"
V3 = "/_matrix/media/v3/download/home.org/AbC"


@asynccontextmanager
async def repository(folder: Path, handlers: dict[str, Handler]) -> AsyncIterator[Client]:
    """A client of a server that answers `handlers`, and everything else with `M_UNRECOGNIZED`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        handler = handlers.get(request.path)
        if handler is None:
            return web.json_response({"errcode": "M_UNRECOGNIZED"}, status=404)
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = Client(f"http://127.0.0.1:{runner.addresses[0][1]}", "@hearth:x", None, folder, "key")
    client.access_token = "secret"
    try:
        await client.call("GET", ("versions",), accept=frozenset({404}))
        yield client
    finally:
        await client.shut()
        await runner.cleanup()


def says(status: int, body: dict[str, Any] | None = None, **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is None:
            return web.Response(status=status, text="<h1>no</h1>", headers=named)
        return web.json_response(body, status=status, headers=named)

    return handler


@pytest.mark.parametrize(
    ("handler", "kind", "after"),
    [
        (says(404, {"errcode": "M_NOT_FOUND"}), Refused, None),
        (says(404), Refused, None),
        (says(403, {"errcode": "M_FORBIDDEN"}), Refused, None),
        (says(410), Refused, None),
        (says(401, {"errcode": "M_UNKNOWN_TOKEN"}), LoggedOut, None),
        (says(429, {"errcode": "M_LIMIT_EXCEEDED"}, Retry_After="7"), Retryable, 7.0),
        (says(504, {"errcode": "M_NOT_YET_UPLOADED"}), Retryable, None),
        (says(500), Retryable, None),
        (says(502, {"errcode": "M_TOO_LARGE"}), Broken, None),
        (says(400, {"errcode": "M_UNKNOWN"}), Broken, None),
    ],
)
async def test_every_answer_has_its_meaning(
    tmp_path: Path, handler: Handler, kind: type[PlatformError], after: float | None
) -> None:
    """What is gone is refused, what may pass is retried when the server says, the rest is broken."""
    async with repository(tmp_path, {V1: handler}) as client:
        with pytest.raises(PlatformError) as told:
            await media.fetch(client, PLAIN, io.BytesIO(), 100)
    assert type(told.value) is kind
    assert getattr(told.value, "after", None) == after


async def test_an_old_homeserver_is_asked_the_old_way(tmp_path: Path) -> None:
    """Where the authenticated endpoint is unknown the old one is asked; where both are, it is broken."""

    async def old(request: web.Request) -> web.Response:
        return web.Response(body=b"old")

    into = io.BytesIO()
    async with repository(tmp_path, {V3: old}) as client:
        await media.fetch(client, PLAIN, into, 3)
    assert into.getvalue() == b"old"
    async with repository(tmp_path, {}) as client:
        with pytest.raises(Broken):
            await media.fetch(client, PLAIN, io.BytesIO(), 3)


async def test_the_token_is_sent_and_no_other_host_is_asked(tmp_path: Path) -> None:
    """The request is authenticated; a redirect is not followed, not even to the same server."""
    asked: list[str | None] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization"))
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with repository(tmp_path, {V1: redirect, "/elsewhere": redirect, V3: redirect}) as client:
        with pytest.raises(Broken, match="another host"):
            await media.fetch(client, PLAIN, io.BytesIO(), 100)
    assert asked == ["Bearer secret"]


@pytest.mark.parametrize("compressed", [True, False])
async def test_a_file_without_end_is_left_in_the_middle(tmp_path: Path, compressed: bool) -> None:  # noqa: FBT001 - a case
    """A server that sends more than the limit is cut off; no more than the limit is written."""
    sent, ended = 0, asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        if compressed:
            answer.enable_compression(web.ContentCoding.gzip)
        await answer.prepare(request)
        try:
            while True:
                await answer.write(bytes(65_536))
                sent += 65_536
                await asyncio.sleep(0)
        finally:
            ended.set()

    limit, into = 1_000_000, io.BytesIO()
    async with repository(tmp_path, {V1: endless}) as client:
        with pytest.raises(Broken, match="more than 1000000"):
            await media.fetch(client, PLAIN, into, limit)
        await asyncio.wait_for(ended.wait(), 10)
    assert len(into.getvalue()) <= limit
    if not compressed:
        assert sent < 20 * limit  # what fits the buffers of both ends


async def test_a_download_that_breaks_off_or_stalls_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that ends early and a server that falls silent are both retryable."""
    monkeypatch.setattr(media, "STALL", 0.3)

    async def early(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return answer

    async def silent(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"half")
        await asyncio.Event().wait()
        return answer

    for handler in (early, silent):
        async with repository(tmp_path, {V1: handler}) as client:
            with pytest.raises(Retryable):
                await media.fetch(client, PLAIN, io.BytesIO(), 2000)


async def test_a_client_that_is_replaced_ends_its_downloads(tmp_path: Path) -> None:
    """A download under way when the client is shut, and one after it, are retryable at once."""
    begun = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"half")
        begun.set()
        await asyncio.Event().wait()
        return answer

    async with repository(tmp_path, {V1: silent}) as client:
        under_way = asyncio.create_task(media.fetch(client, PLAIN, io.BytesIO(), 2000))
        await asyncio.wait_for(begun.wait(), 10)
        await client.shut()
        with pytest.raises(Retryable):
            await asyncio.wait_for(under_way, 10)
        with pytest.raises(Retryable):
            await media.fetch(client, PLAIN, io.BytesIO(), 2000)


@pytest.mark.parametrize("source", ["", "null", "[]", "{", '{"url":"mxc://../x"}', '{"file":{}}', "[" * 9999])
async def test_a_source_that_is_none_is_broken(tmp_path: Path, source: str) -> None:
    """What names no file is broken, and nobody is asked."""
    async with repository(tmp_path, {}) as client:
        with pytest.raises(Broken):
            await media.fetch(client, Attachment(source), io.BytesIO(), 100)


async def test_a_full_disk_is_retryable(tmp_path: Path) -> None:
    """A file that cannot be written is one of the four families too."""

    class Full(io.BytesIO):
        def write(self, data: Any, /) -> int:
            raise OSError(28, "No space left on device")

    async def file(request: web.Request) -> web.Response:
        return web.Response(body=b"bytes")

    async with repository(tmp_path, {V1: file}) as client:
        with pytest.raises(Retryable):
            await media.fetch(client, PLAIN, Full(), 100)


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (says(413, {"errcode": "M_TOO_LARGE"}), Broken),
        (says(403, {"errcode": "M_FORBIDDEN"}), Refused),
        (says(429, {"errcode": "M_LIMIT_EXCEEDED"}), Retryable),
        (says(502), Retryable),
        (says(200, {}), Retryable),
        (says(200, {"content_uri": "https://evil.org/x"}), Retryable),
    ],
)
async def test_an_upload_ends_in_one_family(
    tmp_path: Path, handler: Handler, kind: type[PlatformError]
) -> None:
    """Whatever the repository answers to an upload, there is one meaning."""
    async with repository(tmp_path, {"/_matrix/media/v3/upload": handler}) as client:
        with pytest.raises(kind):
            await media.upload(client, TRANSCRIPT, encrypt=True)
