"""`python -m tests.fakes.instance_main --port 0 --accounts alice,hearth --tokens FILE`: a loopback instance.

Prints its address once it listens; the file maps each name to `access_token` and `api_base_url`, as the
contract suite reads it. Ends with SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from tests.fakes.instance import LoopbackInstance


async def _serve(port: int, names: list[str], tokens: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with LoopbackInstance(port=port) as server:
        accounts = {name: server.state.account(name) for name in names}
        written = {
            name: {"access_token": server.state.token(account), "api_base_url": server.url}
            for name, account in accounts.items()
        }
        tokens.touch(mode=0o600)
        tokens.write_text(json.dumps(written), "utf-8")
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await stop.wait()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="A loopback instance that speaks Mastodon's API.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--accounts", default="alice,hearth", help="names, with commas between")
    parser.add_argument("--tokens", type=Path, required=True, help="file to write the access tokens to")
    given = parser.parse_args(arguments)
    asyncio.run(_serve(given.port, given.accounts.split(","), given.tokens))


if __name__ == "__main__":
    main(sys.argv[1:])
