"""The community's own key: an Ed25519 seed in one credential file, made once.

Owns the file `link-key`: the 32 bytes of the seed in unpadded base64, 0600. Promises that a key which is
there is the one that is used: what cannot be read is an error with its remedy and never replaced, because a
new key ends every grant that pins the old one. Refuses a file that others may read: whoever has the seed
can speak for the community.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from bridge.credentials import LINK_KEY
from bridge.link.envelope import base64text, unbase64
from bridge.platform import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.credentials import CredentialFiles


def link_key(
    files: CredentialFiles, make: Callable[[], Ed25519PrivateKey] = Ed25519PrivateKey.generate
) -> Ed25519PrivateKey:
    """The key, made on first use. Raises `Misconfigured` for a file that is damaged or open to others."""
    path = files.find(LINK_KEY)
    if path is None:
        key = make()
        files.put(LINK_KEY, SecretStr(base64text(key.private_bytes_raw())))
        return key
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Misconfigured(str(path), "others may read it, and speak for you; run `chmod 600` on it")
    text = files.get(LINK_KEY)
    try:
        seed = unbase64(text.get_secret_value() if text else "", 32)
    except ValueError:
        # Without the cause: its text could hold a part of the seed.
        problem = "is no key (43 characters of base64); restore it from a backup, or ask peers for new grants"
        raise Misconfigured(str(path), problem) from None
    return Ed25519PrivateKey.from_private_bytes(seed)


def public_text(key: Ed25519PrivateKey) -> str:
    """The public key as a grant pins it: unpadded base64, 43 characters."""
    return base64text(key.public_key().public_bytes_raw())
