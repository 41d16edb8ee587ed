"""The part of the demonstration that is posts: people with Mastodon accounts on a loopback instance.

Owns the process of that instance and what its people do. The instance is the double that the tests run
against (`tests/fakes/instance.py`): a real server that speaks Mastodon's API, and not Mastodon. It ships
with the repository, not with the package; without it this part is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from bridge.mastodon.text import plain
from bridge.neighbour import NeighbourError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ROOT = Path(__file__).parent.parent
PEOPLE = ("ada", "ben", "hearth")
START_DEADLINE = 30.0
STOP_DEADLINE = 10.0
LOOK_EVERY = 0.3


def is_there() -> bool:
    """Whether the loopback instance can be started: in the repository, and not where only the package is."""
    return (ROOT / "tests" / "fakes" / "instance_main.py").exists()


@dataclass(frozen=True, slots=True)
class Instance:
    """A running loopback instance: its address and the tokens of its people, by name."""

    url: str
    tokens: dict[str, str]

    def address(self, name: str) -> str:
        """The full address of one of its people."""
        return f"@{name}@{self.url.partition('://')[2]}"


@contextlib.asynccontextmanager
async def instance(folder: Path) -> AsyncGenerator[Instance]:
    """A loopback instance with `PEOPLE`, ended on the way out; `NeighbourError` if it does not start."""
    tokens = folder / "tokens.json"
    with await asyncio.to_thread((folder / "instance.log").open, "ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fakes.instance_main", "--port", "0"),
            *("--accounts", ",".join(PEOPLE), "--tokens", str(tokens)),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_DEADLINE)
        except TimeoutError:
            line = b""
        if not line.startswith(b"http"):
            raise NeighbourError("the loopback instance did not start")
        told: dict[str, dict[str, str]] = json.loads(await asyncio.to_thread(tokens.read_text, "utf-8"))
        yield Instance(line.decode().strip(), {name: one["access_token"] for name, one in told.items()})
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_DEADLINE)
        except TimeoutError:
            process.kill()
            await process.wait()


class Correspondent:
    """One person with an account there. Not built on `bridge.mastodon`, but for reading HTML."""

    def __init__(self, http: aiohttp.ClientSession, instance: Instance, name: str) -> None:
        self._http = http
        self._instance = instance
        self._headers = {"Authorization": f"Bearer {instance.tokens[name]}"}

    async def post(
        self, text: str, *, visibility: str, reply_to: str | None = None, sound: Path | None = None
    ) -> str:
        """Post `text`, with a recording if there is one; the id of the status."""
        body: dict[str, Any] = {"status": text, "visibility": visibility}
        if reply_to is not None:
            body["in_reply_to_id"] = reply_to
        if sound is not None:
            body["media_ids"] = [await self._upload(sound)]
        return str((await self._call("POST", "/api/v1/statuses", json=body))["id"])

    async def answer_to(self, status_id: str, bot: str, *, deadline: float) -> str:
        """The words of the first reply of `bot` to a status; `NeighbourError` if none comes in time."""
        until = time.monotonic() + deadline
        while time.monotonic() < until:
            below = (await self._call("GET", f"/api/v1/statuses/{status_id}/context"))["descendants"]
            for status in below:
                if status["account"]["username"] == bot and status["in_reply_to_id"] == status_id:
                    return plain(status["content"], (), me_id="", quoted=False)
            await asyncio.sleep(LOOK_EVERY)
        raise NeighbourError(f"no answer on Mastodon within {deadline:.0f} s")

    async def _upload(self, sound: Path) -> str:
        form = aiohttp.FormData()
        data = await asyncio.to_thread(sound.read_bytes)
        form.add_field("file", data, filename=sound.name, content_type="audio/ogg")
        media = await self._call("POST", "/api/v2/media", data=form)
        while media.get("url") is None:
            await asyncio.sleep(LOOK_EVERY)
            media = await self._call("GET", f"/api/v1/media/{media['id']}")
        return str(media["id"])

    async def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        async with self._http.request(
            method, self._instance.url + path, headers=self._headers, **body
        ) as answer:
            told = await answer.json(content_type=None)
            if answer.status >= 300:  # noqa: PLR2004 - the end of the successes
                raise NeighbourError(f"{path} failed: {answer.status} {told}")
            return dict(told)
