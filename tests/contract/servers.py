"""The servers that the contract is held against: our double in each of its manners, and a real one.

Gives an address and two tokens, and nothing else of the double gets any further.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes import instance_state
from tests.fakes.instance import LoopbackInstance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Given = tuple[str, dict[str, str]]
    """Base of the API; the access tokens of `alice` and `hearth`."""

DOUBLES = {
    "mastodon": instance_state.MASTODON,
    "gotosocial": instance_state.GOTOSOCIAL,
    "takahe": instance_state.TAKAHE,
    "pleroma": instance_state.PLEROMA,
    "pixelfed": instance_state.PIXELFED,
}
PROCESS, REAL = "process", "real"
"""The double as a process of its own, as CONTRIBUTING.md starts it; the server that the options name."""
_OPTIONS = ("mastodon_url", "mastodon_tokens")
_ROOT = Path(__file__).parents[2]
_START = 30.0


def kinds(config: pytest.Config) -> list[str]:
    """All doubles, and the real server where it is given."""
    given = [config.getoption(name) for name in _OPTIONS]
    if any(given) and not all(given):
        raise pytest.UsageError("--mastodon-url and --mastodon-tokens go together")
    return [*DOUBLES, PROCESS, REAL] if all(given) else [*DOUBLES, PROCESS]


@asynccontextmanager
async def serving(kind: str, config: pytest.Config, folder: Path) -> AsyncIterator[Given]:
    """The server of this kind, while it is needed; `folder` is for the file of tokens."""
    if kind == REAL:
        url, file = (config.getoption(name) for name in _OPTIONS)
        yield url.rstrip("/"), _tokens(Path(file))
    elif kind == PROCESS:
        async with _process(folder / "tokens.json") as url:
            yield url, _tokens(folder / "tokens.json")
    else:
        async with LoopbackInstance(DOUBLES[kind]) as double:
            double.media_polls = 1
            state = double.state
            yield double.url, {name: state.token(state.account(name)) for name in ("alice", "hearth")}


def _tokens(file: Path) -> dict[str, str]:
    return {name: one["access_token"] for name, one in json.loads(file.read_text("utf-8")).items()}


@asynccontextmanager
async def _process(file: Path) -> AsyncIterator[str]:
    command = (sys.executable, "-m", "tests.fakes.instance_main", "--tokens", str(file))
    process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START):
            url = (await process.stdout.readline()).decode().strip()
        assert url, "the double did not start"
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        assert await process.wait() == 0
