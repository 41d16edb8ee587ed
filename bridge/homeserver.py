"""A throw-away Synapse on loopback, for the demonstration and for the tests.

Owns one Synapse process, its configuration and its SQLite database in a folder that the caller
gives. Promises: it listens on 127.0.0.1 only, speaks to no other server (no federation listener,
an empty federation whitelist) but to those of a `Federation`, reports no statistics, and is gone
when `stop` returns. Refuses to be a homeserver for anybody: rate limits are off and registration
needs only a shared secret that is made anew for each folder.

Needs the distribution `matrix-synapse`; `HomeserverError` says so when it is absent.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import importlib.util
import json
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

START_DEADLINE = 60.0
"""Seconds that Synapse has to answer after its start; 3 s is usual, a busy machine takes longer."""

STOP_DEADLINE = 15.0
"""Seconds that Synapse has to end after SIGTERM before it is killed."""

_LOOPBACK = "127.0.0.1"
_POLL = 0.05
_REQUEST_DEADLINE = 30.0
_LOG_TAIL = 800


class HomeserverError(RuntimeError):
    """Synapse could not be started or refused a request; the text says which and where the log is."""


@dataclass(frozen=True, slots=True)
class Federation:
    """With whom a server federates: on loopback, over TLS, with the `servers` that are named and nobody else.

    `port` is where it listens for them; `retries` are Synapse's settings under `federation`.
    """

    port: int
    certificate: Path
    key: Path
    authority: Path
    servers: tuple[str, ...]
    retries: Mapping[str, object]


class Homeserver:
    """Synapse in `directory` (created when missing), named `server_name`, on a free port.

    Stop and start again keep port, users, rooms and tokens.
    """

    def __init__(
        self,
        directory: Path,
        *,
        server_name: str = "hearth.test",
        port: int | None = None,
        federation: Federation | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.server_name = server_name
        self.port = port or free_port()
        self._federation = federation
        self.log = self.directory / "homeserver.log"
        self._secret = ""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Base address for clients, without a path."""
        return f"http://{_LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id of the running Synapse, None while it is stopped."""
        return self._process.pid if self._process is not None else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, *, deadline: float = START_DEADLINE) -> None:
        """Start Synapse and return when it answers; raises `HomeserverError` after `deadline` seconds."""
        if self._process is not None:
            return
        if importlib.util.find_spec("synapse") is None:
            raise HomeserverError("Synapse is not installed: pip install matrix-synapse")
        config = await asyncio.to_thread(self._configure)
        log = await asyncio.to_thread(self.log.open, "ab")
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "synapse.app.homeserver", "-c", str(config)),
                cwd=self.directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C reaches the whole foreground group; who started us decides when we stop.
                start_new_session=True,
            )
        finally:
            log.close()
        try:
            await self._answering(deadline)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End Synapse; after `STOP_DEADLINE` by SIGKILL. Nothing happens when it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_DEADLINE)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def register(self, localpart: str, password: str, *, name: str | None = None) -> str:
        """Create an account and give its user id; raises `HomeserverError` if it cannot be created.

        Source: Synapse admin API, "Shared-Secret Registration".
        """
        path = f"{self.url}/_synapse/admin/v1/register"
        timeout = aiohttp.ClientTimeout(total=_REQUEST_DEADLINE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(path) as answer:
                nonce = (await answer.json())["nonce"]
            said = f"{nonce}\x00{localpart}\x00{password}\x00notadmin".encode()
            body = {
                "nonce": nonce,
                "username": localpart,
                "displayname": name or localpart.capitalize(),
                "password": password,
                "admin": False,
                "mac": hmac.new(self._secret.encode(), said, hashlib.sha1).hexdigest(),
            }
            async with session.post(path, json=body) as answer:
                told = await answer.json()
        if "user_id" not in told:
            raise HomeserverError(f"registering {localpart}: {told.get('errcode')} {told.get('error')}")
        return str(told["user_id"])

    async def _answering(self, deadline: float) -> None:
        assert self._process is not None
        until = time.monotonic() + deadline
        timeout = aiohttp.ClientTimeout(total=1)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while time.monotonic() < until:
                if self._process.returncode is not None:
                    tail = await asyncio.to_thread(self._tail)
                    raise HomeserverError(f"Synapse ended with {self._process.returncode}; {tail}")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{self.url}/_matrix/client/versions") as answer:
                        if answer.status == 200:  # noqa: PLR2004 - HTTP OK reads best as its number
                            return
                await asyncio.sleep(_POLL)
        tail = await asyncio.to_thread(self._tail)
        raise HomeserverError(f"Synapse did not answer within {deadline:.0f} s; {tail}")

    def _tail(self) -> str:
        text = self.log.read_text("utf-8", errors="replace") if self.log.exists() else ""
        return f"its log is {self.log} and ends: {text[-_LOG_TAIL:].strip() or '(empty)'}"

    def _configure(self) -> Path:
        """Write the configuration once per folder; a second start finds keys and secrets again."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = self.directory / "secret"
        if not secret.exists():
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_urlsafe(32), "ascii")
        self._secret = secret.read_text("ascii")
        key = self.directory / "signing.key"
        if not key.exists():
            key.touch(mode=0o600)
            # The format of `signedjson.key.write_signing_keys`: algorithm, version, unpadded base64.
            key.write_text(f"ed25519 a_1 {_unpadded(secrets.token_bytes(32))}\n", "ascii")
        log = self.directory / "log.json"
        log.write_text(json.dumps(_LOGGING), "utf-8")
        config = self.directory / "homeserver.json"
        # JSON is YAML, so the file needs no library to be written.
        config.write_text(json.dumps(self._settings(log, key), indent=1), "utf-8")
        return config

    def _settings(self, log: Path, key: Path) -> dict[str, object]:
        much = {"per_second": 1000, "burst_count": 1000}
        return {
            "server_name": self.server_name,
            "public_baseurl": f"{self.url}/",
            "pid_file": str(self.directory / "homeserver.pid"),
            "listeners": [
                {
                    "port": self.port,
                    "bind_addresses": [_LOOPBACK],
                    "type": "http",
                    "tls": False,
                    "resources": [{"names": ["client"]}],
                }
            ],
            "database": {"name": "sqlite3", "args": {"database": str(self.directory / "homeserver.db")}},
            "log_config": str(log),
            "media_store_path": str(self.directory / "media"),
            "signing_key_path": str(key),
            "registration_shared_secret": self._secret,
            "macaroon_secret_key": self._secret,
            "form_secret": self._secret,
            "report_stats": False,
            "trusted_key_servers": [],
            "federation_domain_whitelist": [],
            "presence": {"enabled": False},
            "enable_registration": False,
            "url_preview_enabled": False,
            "rc_message": much,
            "rc_registration": much,
            "rc_login": {"address": much, "account": much, "failed_attempts": much},
            "rc_joins": {"local": much, "remote": much},
            "rc_invites": {"per_room": much, "per_user": much, "per_issuer": much},
            "rc_room_creation": much,
            "rc_admin_redaction": much,
            "rc_key_requests": much,
            "rc_third_party_invite": much,
            "caches": {"global_factor": 0.5},
            **self._federating(),
        }

    def _federating(self) -> dict[str, object]:
        """What differs where there are other servers. Source: Synapse configuration manual, "Federation"."""
        own = self._federation
        if own is None:
            return {}
        tls = {"port": own.port, "bind_addresses": [_LOOPBACK], "type": "http", "tls": True}
        clients = {"port": self.port, "bind_addresses": [_LOOPBACK], "type": "http", "tls": False}
        return {
            "listeners": [
                clients | {"resources": [{"names": ["client"]}]},
                tls | {"resources": [{"names": ["federation"]}]},
            ],
            "tls_certificate_path": str(own.certificate),
            "tls_private_key_path": str(own.key),
            "federation_custom_ca_list": [str(own.authority)],
            "federation_domain_whitelist": list(own.servers),
            # The other server is on loopback, too, which Synapse otherwise refuses to call.
            "ip_range_blacklist": [],
            "federation_ip_range_blacklist": [],
            "federation": dict(own.retries),
        }


_LOGGING: dict[str, object] = {
    "version": 1,
    "formatters": {"plain": {"format": "%(asctime)s %(name)s %(levelname)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"level": "WARNING", "handlers": ["console"]},
    "disable_existing_loggers": False,
}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((_LOOPBACK, 0))
        return int(listener.getsockname()[1])


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
