"""Speech: our server beside faster-whisper called directly, an hour in little memory, a note before it.

Both run as processes of their own with the same threads and are asked in turn. Ours is asked over
its socket and has to take the file first. Models: the one that ships (or, where it is not there, its
shape with random weights), and the shape of Whisper `small` in int8 with random weights that say a
fixed number of tokens at temperature 0.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from models.bundled import SPEECH_PATH
from models.host import ModelHost, ServeSpec
from tests.bench.table import Row, at_most, seconds
from tests.models.voice import pack, talk
from tests.models.whisper_folder import write_whisper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MB = 1024 * 1024
DEADLINE = 3600.0
RATIO = 1.05
HOUR_MB = 1024.0
SHIPPED: dict[str, Any] = {
    "width": 192,
    "heads": 3,
    "layers": (4, 2),
    "vocabulary": 4000,
    "chunk": 10,
    "end": 9.5,
}
SMALL: dict[str, Any] = {"width": 768, "heads": 12, "layers": (12, 12), "vocabulary": 51865, "end": 29.5}
WORDS = tuple(f"word{number}" for number in range(30))
THREADS = max(1, (os.cpu_count() or 2) - 1)


class Ours:
    """Our server, over its socket."""

    def __init__(self, name: str, pid: int, http: httpx2.AsyncClient) -> None:
        self.name = name
        self.pid = pid
        self._http = http

    async def hear(self, file: Path, temperature: float | None, **fields: str) -> float:
        """Seconds from sending a file until its whole transcript is there."""
        form = {"model": self.name, **fields}
        if temperature is not None:
            form["temperature"] = str(temperature)
        data = file.read_bytes()
        started = time.perf_counter()
        answer = await self._http.post("/v1/audio/transcriptions", data=form, files={"file": data})
        took = time.perf_counter() - started
        assert answer.is_success, answer.text
        return took

    @asynccontextmanager
    async def stream(self, file: Path, **fields: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The events of a transcription, until the block is left."""
        form = {"model": self.name, "stream": "true", **fields}
        files = {"file": file.read_bytes()}
        async with self._http.stream("POST", "/v1/audio/transcriptions", data=form, files=files) as answer:

            async def events() -> AsyncIterator[dict[str, Any]]:
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        yield json.loads(line.removeprefix("data: "))

            yield events()

    async def until_idle(self) -> None:
        """Wait until nobody is heard."""
        async with asyncio.timeout(DEADLINE):
            while (await self._http.get("/health")).json()["running"]:
                pass

    def memory(self, field: str) -> float:
        """VmRSS (now) or VmHWM (the most so far) of the server, in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text("utf-8")
        return int(status.split(f"{field}:")[1].split()[0]) * 1024 / MB


@asynccontextmanager
async def ours(folder: Path, model: Path) -> AsyncIterator[Ours]:
    """Serve a model."""
    spec = ServeSpec(str(model), folder / f"{model.name}.sock", kind="speech", threads=THREADS, nice=0)
    async with ModelHost(spec, ready_within=DEADLINE) as host:
        await host.ready(DEADLINE)
        transport = httpx2.AsyncHTTPTransport(uds=str(spec.socket))
        async with httpx2.AsyncClient(transport=transport, base_url="http://model", timeout=DEADLINE) as http:
            health = (await http.get("/health")).json()
            yield Ours(spec.served_name, health["pid"], http)


class Bare:
    """faster-whisper, called directly in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def hear(self, file: Path, temperature: float | None) -> float:
        """Seconds that the call took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{file} {'-' if temperature is None else temperature}\n".encode())
        async with asyncio.timeout(DEADLINE):
            return float(json.loads(await self._process.stdout.readline())["seconds"])


@asynccontextmanager
async def bare(model: Path) -> AsyncIterator[Bare]:
    """Call a model."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.bare_ear", str(model), str(THREADS)), stdin=pipe, stdout=pipe
    )
    try:
        yield Bare(process)
    finally:
        process.kill()
        await process.communicate()


async def compared(
    folder: Path, what: str, model: Path, files: dict[str, tuple[Path, int]], temperature: float | None
) -> list[Row]:
    """The same files, to ours and to the library in turn, once each before it counts."""
    rows = []
    async with ours(folder, model) as server, bare(model) as library:
        for length, (file, samples) in files.items():
            times: tuple[list[float], list[float]] = ([], [])
            if samples > 1:
                await server.hear(file, temperature)
                await library.hear(file, temperature)
            for number in range(samples):
                for which in (0, 1) if number % 2 else (1, 0):  # neither is always the first
                    contender = library if which else server
                    times[which].append(await contender.hear(file, temperature))
            mine, theirs = statistics.median(times[0]), statistics.median(times[1])
            rows.append(
                Row(
                    f"{length} heard, {what}",
                    seconds(mine),
                    f"faster-whisper called directly: {seconds(theirs)}",
                    f"{mine / theirs:.2f}x",
                    f"<= {RATIO}x",
                    at_most(mine / theirs, RATIO),
                )
            )
    return rows


async def an_hour(folder: Path, what: str, model: Path, files: dict[int, Path]) -> list[Row]:
    """Memory and time of longer and longer recordings, and notes that arrive in the middle of the longest."""
    async with ours(folder, model) as server:
        loaded = server.memory("VmRSS")
        took = {minutes: await server.hear(file, None) for minutes, file in files.items()}
        most = server.memory("VmHWM") - loaded
        rate = {minutes: length / minutes for minutes, length in took.items()}
        longest = max(took)
        rows = [
            Row(
                f"{longest} min heard, memory above the loaded model, {what}",
                f"most {most:.0f} MB",
                f"loaded: {loaded:.0f} MB",
                f"{most:.0f} MB",
                f"<= {HOUR_MB:.0f} MB",
                at_most(most, HOUR_MB),
            ),
            Row(
                f"{', '.join(map(str, took))} min heard, {what}",
                ", ".join(seconds(length) for length in took.values()),
                "a minute of each: " + ", ".join(seconds(length) for length in rate.values()),
                f"{rate[longest] / rate[sorted(rate)[-2]]:.2f}x",
                "grows linearly",
            ),
        ]
        note = folder / "note.ogg"
        idle = statistics.median([await server.hear(note, None) for _ in range(5)])
        times = []
        async with server.stream(files[longest], service_tier="flex") as events:
            async for event in events:
                if event["type"] == "transcript.text.segment":
                    times.append(await server.hear(note, None, service_tier="priority"))
                if len(times) == 5:
                    break
        left = time.perf_counter()
        await server.until_idle()
        window = rate[longest] * 10
        rows.append(
            Row(
                f"a 10 s note while {longest} min are heard, {what}",
                f"longest {seconds(max(times))}, median {seconds(statistics.median(times))}",
                f"idle {seconds(idle)}, a window of 10 min {seconds(window)}",
                seconds(max(times)),
                "<= one window + 3x idle",
                at_most(max(times), window + 3 * idle),
            )
        )
        rows.append(
            Row(
                f"leaving {longest} min in the middle, {what}",
                seconds(time.perf_counter() - left),
                "until the model is free",
                "",
            )
        )
    return rows


def record(file: Path, length: float) -> None:
    """Write so many seconds of talk."""
    file.write_bytes(pack(talk(length)))


async def measure(folder: Path, *, quick: bool) -> list[Row]:
    """The two comparisons, then the hour; minutes where others take an hour if `quick`."""
    shipped, what = SPEECH_PATH, "the built-in model"
    if not shipped.is_dir():
        shipped = await asyncio.to_thread(write_whisper, folder / "shipped", words=WORDS, **SHIPPED)
        what = "the built-in model's shape"
    small = await asyncio.to_thread(write_whisper, folder / "small", words=WORDS, **SMALL)
    long = 60.0 if quick else 600.0
    lengths = [1, 3] if quick else [1, 10, 60]
    note = folder / "note.ogg"
    recording = folder / "recording.ogg"
    await asyncio.to_thread(record, note, 10.0)
    await asyncio.to_thread(record, recording, long)
    files = {minutes: folder / f"{minutes}.ogg" for minutes in lengths}
    for minutes, file in files.items():
        await asyncio.to_thread(record, file, 60.0 * minutes)
    length = f"{long / 60:.0f} min"
    rows = await compared(
        folder,
        what,
        shipped,
        {"10 s": (note, 5 if quick else 15), length: (recording, 1 if quick else 3)},
        None,
    )
    rows += await compared(
        folder,
        f"shape of small, int8, {len(WORDS)} words a window",
        small,
        {"10 s": (note, 3 if quick else 7), length: (recording, 1)},
        0.0,
    )
    return rows + await an_hour(folder, what, shipped, files)
