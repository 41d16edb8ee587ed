"""The secrets: one file each, in a folder that only this account may read.

Owns the names of the credential files and how they are read and made. Promises that a secret is
never a setting, a command-line argument or a log field: it travels as `SecretStr`. What Hearth
makes itself is written 0600, whole or not at all. Refuses a secret that is there but empty or
unreadable (`Misconfigured`), because going on without it would make a new device or a new identity.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from bridge.platform import Misconfigured

if TYPE_CHECKING:
    from pathlib import Path

MATRIX_PASSWORD = "matrix-password"  # noqa: S105 - the name of a file
MATRIX_ACCESS_TOKEN = "matrix-access-token"  # noqa: S105 - the name of a file
MATRIX_PICKLE_KEY = "matrix-pickle-key"
MATRIX_RECOVERY_KEY = "matrix-recovery-key"
MODEL_API_KEY = "model-api-key"
SPEECH_API_KEY = "speech-api-key"
LINK_KEY = "link-key"
MASTODON_TOKEN = "mastodon-token-"  # noqa: S105 - the name of a file
"""Beginning of a name; the address of the account follows (`mastodon_token`)."""
A2A_TO, A2A_FROM = "a2a-to-", "a2a-from-"
"""Beginnings of names; the peer follows (`peer_token`). What we show to it, and what it shows to us."""
KNOWN = (
    MATRIX_PASSWORD, MATRIX_ACCESS_TOKEN, MATRIX_PICKLE_KEY, MATRIX_RECOVERY_KEY, MODEL_API_KEY,
    SPEECH_API_KEY, LINK_KEY,
)  # fmt: skip


def mastodon_token(address: str) -> str:
    """The name of the file with the access token of the Mastodon account `address` (`@name@server`)."""
    # Systemd's credentials and some disks know no colon, which stands before a port.
    return MASTODON_TOKEN + address.removeprefix("@").replace(":", "_")


def peer_token(begins: str, peer: str) -> str:
    """The name of the file with a token of a peer over HTTPS (`bot:server`); see `mastodon_token`."""
    return begins + peer.replace(":", "_")


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """Folders of credential files: `read` in order, the first that has a name wins; `write` for ours."""

    read: tuple[Path, ...]
    write: Path

    def find(self, name: str) -> Path | None:
        """The file of that name, or None."""
        return next((path for folder in self.read if (path := folder / name).is_file()), None)

    def get(self, name: str) -> SecretStr | None:
        """The secret without the newline that editors add; None where there is no file.

        Raises `Misconfigured` where the file cannot be read or is empty.
        """
        path = self.find(name)
        if path is None:
            return None
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(str(path), f"cannot be read ({error}); check owner and mode") from error
        if not text:
            raise Misconfigured(str(path), "is empty; write the secret into it, or remove it")
        return SecretStr(text)

    def put(self, name: str, secret: SecretStr) -> Path:
        """Write the secret 0600 under its name: the file is never there in part, nor readable by others."""
        path = self.write / name
        draft = path.with_name(f".{name}.{os.getpid()}")
        try:
            for folder in reversed((self.write, *self.write.parents)):
                folder.mkdir(mode=0o700, exist_ok=True)  # `parents=True` would open those to others
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(secret.get_secret_value() + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as error:
            raise Misconfigured(str(path), f"cannot be written ({error.strerror}); check it") from error
        return path

    def pickle_key(self) -> SecretStr:
        """The key of matrix-nio's encryption store, made on first use (256 random bits, hex)."""
        known = self.get(MATRIX_PICKLE_KEY)
        if known is None:
            known = SecretStr(secrets.token_hex(32))
            self.put(MATRIX_PICKLE_KEY, known)
        return known

    def too_open(self) -> list[Path]:
        """Credential files that others than their owner may read or write."""
        found = [self.find(name) for name in KNOWN]
        for folder in self.read:
            for begins in (MASTODON_TOKEN, A2A_TO, A2A_FROM):
                found += folder.glob(f"{begins}*") if folder.is_dir() else ()
        return [path for path in found if path and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
