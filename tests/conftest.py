"""What holds for every test: nothing blocks the event loop, nothing leaves this machine, no settings leak in.

Also the one Synapse of a test run: started once, shared; a test registers users with names of its own.
"""

from __future__ import annotations

import inspect
import ipaddress
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import nio.store.database
import pytest
import pytest_asyncio
from blockbuster import BlockBuster
from hypothesis import settings

from bridge.homeserver import Homeserver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# Properties are judged by what they find, not by how busy the machine is; CI tries the same examples.
settings.register_profile("hearth", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "hearth")

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

MAY_BLOCK = (
    # matrix-nio keeps its keys in SQLite through peewee, on the event loop; there is no other way in.
    # A sync with many new sessions is milliseconds; a slow disk is seen in the metrics, not hidden.
    ("nio/store/database.py", frozenset(dict(inspect.getmembers(nio.store.database.MatrixStore)))),
    ("nio/store/database.py", frozenset(dict(inspect.getmembers(nio.store.database.SqliteStore)))),
    # Decorators of the same module: `use_database` and `use_database_atomic`.
    ("nio/store/database.py", frozenset({"inner"})),
    # /proc is memory: reading it does not wait for a disk.
    ("models/host.py", frozenset({"anonymous_memory"})),
    # The traceback of a bug shows its lines of source; a bug may cost that much.
    ("linecache.py", frozenset({"checkcache", "updatecache"})),
    ("structlog/dev.py", frozenset({"__call__"})),
    # The loop of virtual time waits for the journal's threads on purpose: that makes it deterministic.
    ("tests/fakes/clock.py", frozenset({"run_in_executor"})),
    # An import on the loop reads a file once; it is not what blocks a conversation.
    ("<frozen importlib._bootstrap>", frozenset({"_find_and_load"})),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """A real server for `tests/contract/test_instance.py`, beside the double; see CONTRIBUTING.md."""
    told = parser.getgroup("mastodon", "a real server that speaks Mastodon's API")
    told.addoption("--mastodon-url", metavar="URL", help="its address, on loopback")
    told.addoption(
        "--mastodon-tokens",
        metavar="FILE",
        help='JSON: {"alice": {"access_token": ..., "api_base_url": ...}, "hearth": {...}}',
    )


@pytest.fixture(scope="session", autouse=True)
def _nothing_blocks() -> Iterator[None]:
    """A blocking call of our code on the event loop raises; test code may read its files."""
    guard = BlockBuster(["bridge", "bots", "models", "policies"])
    for function in guard.functions.values():
        for filename, names in MAY_BLOCK:
            function.can_block_in(filename, names)
    guard.activate()
    yield
    guard.deactivate()


@pytest.fixture(scope="session", autouse=True)
def _nothing_leaves() -> Iterator[None]:
    """Sockets of this process reach loopback addresses and Unix sockets, and nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        yield


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX and not _is_loopback(str(address[0])):
            raise PermissionError(f"a test tried to reach {address[0]}: only loopback is allowed")
        return connect(self, address)

    return guarded


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(scope="session", autouse=True)
def _no_settings_leak_in() -> Iterator[None]:
    """The operator's own HEARTH_* variables, credentials and proxies are not those of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in tuple(os.environ):
            foreign = name.startswith("HEARTH_") or name.lower() in PROXIES
            if foreign or name in ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """What a shell without job control puts into the background is deaf to SIGINT, children included."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def synapse(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Homeserver]:
    """A real homeserver on loopback; users and rooms of a test are its own, the server is shared."""
    async with Homeserver(tmp_path_factory.mktemp("synapse")) as server:
        yield server
