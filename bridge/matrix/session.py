"""The login: one account, one device id for ever, one process at a time.

Owns the data folder of the account (0700): `session.json` (device id and access token),
`cross-signing.json`, the crypto store of matrix-nio and `lock`; all files 0600. Promises that a
new login keeps the device id, so that the server's memory of transaction ids and the room keys
stay ours. Refuses to share the folder with another process, and to go on with a crypto store that
does not belong to the device.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import structlog
import vodozemac

from bridge.matrix.client import Client
from bridge.matrix.errors import LoggedOut
from bridge.platform import Broken, Misconfigured, Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger(__name__)

PASSWORD: Final = "matrix-password"  # noqa: S105 - the name of the credential file, not the password
TOKEN: Final = "matrix-access-token"  # noqa: S105 - the name of the credential file, not the token
_PRIVATE: Final = 0o077


@dataclass(frozen=True, slots=True)
class Login:
    """What is kept of a login. `fingerprint` is the device's Ed25519 key once it was made."""

    homeserver: str
    user_id: str
    device_id: str
    access_token: str
    fingerprint: str = ""


class Session:
    """Logs in, keeps the login, and makes clients that use it."""

    def __init__(
        self,
        *,
        homeserver: str,
        user_id: str,
        password: str | None,
        access_token: str | None,
        device_name: str,
        folder: Path,
        pickle_key: str,
        clock: Callable[[], float],
    ) -> None:
        self.user_id = user_id
        self.folder = folder
        self.password = password
        self._homeserver = homeserver.rstrip("/")
        self._given_token = access_token
        self._device_name = device_name
        self._pickle_key = pickle_key
        self._clock = clock
        self._login: Login | None = None
        self._lock: int | None = None
        self._republish = False

    @property
    def device_id(self) -> str:
        """The device under which the server knows us; `""` before the first login."""
        return self._login.device_id if self._login is not None else ""

    async def client(self) -> Client:
        """A fresh client, logged in, with its crypto store open.

        Raises `Misconfigured` when the operator must change something, `Retryable` when the
        homeserver does not answer.
        """
        await asyncio.to_thread(self._take_folder)
        if self._login is None:
            self._login = await asyncio.to_thread(self._load)
        for again in (False, True):
            login = self._login or await self._log_in(None)
            client = self._new_client(login.device_id)
            client.access_token = login.access_token
            try:
                told = await client.call("GET", ("v3", "account", "whoami"))
                await self._check_owner(told)
                await self._open(client, login)
            except LoggedOut:
                await client.shut()
                if again:
                    raise
                await self._log_in_again(login)
                continue
            except BaseException:
                await client.shut()
                raise
            return client
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Let another process have the folder."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    # -- logging in --------------------------------------------------------------------------------

    async def _log_in(self, device_id: str | None) -> Login:
        client = self._new_client(device_id)
        try:
            if self._given_token is not None and self.password is None:
                login = await self._by_token(client)
            else:
                login = await self._by_password(client, device_id)
        finally:
            await client.shut()
        await self._keep(login)
        log.info("logged_in", user=login.user_id, device=login.device_id)
        return login

    async def _by_token(self, client: Client) -> Login:
        assert self._given_token is not None
        client.access_token = self._given_token
        try:
            told = await client.call("GET", ("v3", "account", "whoami"))
        except LoggedOut as error:
            raise Misconfigured(
                TOKEN, "the homeserver does not accept this access token; make a new one"
            ) from error
        await self._check_owner(told)
        device = told.get("device_id")
        if not isinstance(device, str) or not device:
            raise Misconfigured(TOKEN, "this access token has no device; make one by logging in")
        return Login(self._homeserver, self.user_id, device, self._given_token)

    async def _by_password(self, client: Client, device_id: str | None) -> Login:
        if self.password is None:
            raise Misconfigured(PASSWORD, f"write the password of {self.user_id} into this credential file")
        body: dict[str, Any] = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": self.user_id},
            "password": self.password,
            "initial_device_display_name": self._device_name,
        }
        if device_id is not None:
            body["device_id"] = device_id
        try:
            told = await client.call("POST", ("v3", "login"), body)
        except (Refused, LoggedOut, Broken) as error:
            if isinstance(error, Broken) or (isinstance(error, Refused) and error.rule == "M_NOT_FOUND"):
                raise Misconfigured(
                    "matrix.homeserver", f"no Matrix homeserver answers at {self._homeserver} ({error})"
                ) from error
            raise Misconfigured(
                PASSWORD,
                f"the homeserver refuses {self.user_id} with this password ({error}); correct the one in "
                "the credential file, or matrix.user",
            ) from error
        await self._check_owner(told)
        return Login(self._homeserver, self.user_id, str(told["device_id"]), str(told["access_token"]))

    async def _log_in_again(self, old: Login) -> None:
        """Replace a token that the server no longer knows, on the same device."""
        if self.password is None:
            raise Misconfigured(
                TOKEN, "the homeserver ended this session; make a new access token, or give the password"
            )
        log.warning("session_ended_by_server", user=self.user_id, device=old.device_id)
        # Logging a device out deletes its keys on the server; matrix-nio would believe them there.
        self._republish = True
        self._login = replace(await self._log_in(old.device_id), fingerprint=old.fingerprint)
        await self._keep(self._login)

    async def _check_owner(self, told: dict[str, Any]) -> None:
        if told.get("user_id") != self.user_id:
            raise Misconfigured(
                "matrix.user", f"the credentials belong to {told.get('user_id')}; set that address"
            )

    # -- the client --------------------------------------------------------------------------------

    def _new_client(self, device_id: str | None) -> Client:
        return Client(self._homeserver, self.user_id, device_id, self.folder, self._pickle_key, self._clock)

    async def _open(self, client: Client, login: Login) -> None:
        """Open the crypto store; it must hold the keys that this device had before."""
        before = os.umask(_PRIVATE)
        try:
            client.restore_login(login.user_id, login.device_id, login.access_token)
        except (vodozemac.PickleException, vodozemac.LibolmPickleException) as error:
            raise Misconfigured(
                str(self.folder),
                "the crypto store does not open with this pickle key; restore the credential file that "
                "it was made with",
            ) from error
        finally:
            os.umask(before)
        fingerprint = str(client.olm.account.identity_keys["ed25519"])
        if not login.fingerprint:
            self._login = replace(login, fingerprint=fingerprint)
            await self._keep(self._login)
        elif login.fingerprint != fingerprint:
            raise Misconfigured(
                str(self.folder),
                "the keys of this device are gone or were restored from elsewhere; delete session.json in "
                "this folder (and give the password), so that the bot logs in as a new device",
            )
        if self._republish:
            self._republish = False
            client.olm.account.shared = False

    # -- files -------------------------------------------------------------------------------------

    def _take_folder(self) -> None:
        if self._lock is not None:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise Misconfigured(
                str(self.folder), "another hearth uses this folder; stop it, or set another data folder"
            ) from error
        self._lock = lock

    def _load(self) -> Login | None:
        try:
            login = Login(**json.loads((self.folder / "session.json").read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise Misconfigured(
                str(self.folder / "session.json"), "this file is damaged; delete it to log in as a new device"
            ) from error
        if (login.homeserver, login.user_id) != (self._homeserver, self.user_id):
            log.info("session_of_another_account", user=login.user_id)
            return None
        if (
            self._given_token is not None
            and self.password is None
            and login.access_token != self._given_token
        ):
            return None
        return login

    async def _keep(self, login: Login) -> None:
        self._login = login
        text = json.dumps(asdict(login), indent=1)
        await asyncio.to_thread(write_private, self.folder / "session.json", text)


def write_private(path: Path, text: str) -> None:
    """Write a file that only we can read, whole or not at all, and on disk when this returns."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
