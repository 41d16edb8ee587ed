"""Files of Matrix messages: what an event says of one -> `Attachment`, and what opens it. Pure.

Promises: total on any JSON; what is hostile or malformed is left out, and a file that could not be
fetched is no attachment. Source: client-server API 1.16, "m.audio", "m.file", "m.video", "Matrix
content (mxc://) URIs", "Sending encrypted attachments"; captions MSC2530. Voice messages (MSC3245)
and their duration (MSC1767) have only unstable names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from bots.conversation import Attachment
from bridge.matrix.facts import clean_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.ciphers import CipherContext

TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "m.audio": ("audio/", "video/"),
    "m.video": ("video/", "audio/"),
    "m.file": (),
}
"""The messages whose file becomes an attachment, and the media types that one may announce (the
first stands in for any other; none: whatever it says)."""

VOICE: Final = "org.matrix.msc3245.voice"
_AUDIO: Final = "org.matrix.msc1767.audio"
KEY_BYTES: Final = 32
PREFIX_BYTES: Final = 8
_IV_BYTES: Final = 16
_HASH_BYTES: Final = 32
_LONGEST: Final = 64
_MOST: Final = 2**53 - 1
"""The largest integer of canonical JSON."""

_MXC = re.compile(r"mxc://([A-Za-z0-9\[][A-Za-z0-9.:\]-]{0,254})/([A-Za-z0-9_-]{1,255})")
_MEDIA_TYPE = re.compile(r"[a-z]{1,40}/[a-z0-9.+_-]{1,80}")
_URL_SAFE: Final = str.maketrans("-_", "+/")
_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a file lies, and the keys that open it (empty: it is not encrypted)."""

    server: str
    media_id: str
    key: bytes = b""
    iv: bytes = b""
    sha256: bytes = b""

    @property
    def url(self) -> str:
        """The content URI."""
        return f"mxc://{self.server}/{self.media_id}"

    def decryptor(self) -> CipherContext:
        """AES-CTR from the start of the file; only where there is a key."""
        return Cipher(AES(self.key), CTR(self.iv)).decryptor()

    @property
    def content(self) -> dict[str, Any]:
        """The part of a message's content that says all of this."""
        if not self.key:
            return {"url": self.url}
        web_key = {
            "alg": "A256CTR",
            "ext": True,
            "k": _unpadded(base64.urlsafe_b64encode(self.key)),
            "key_ops": ["encrypt", "decrypt"],
            "kty": "oct",
        }
        iv, sha256 = (_unpadded(base64.b64encode(data)) for data in (self.iv, self.sha256))
        hashes = {"sha256": sha256}
        return {"file": {"hashes": hashes, "iv": iv, "key": web_key, "url": self.url, "v": "v2"}}


def stored(content: Mapping[str, Any]) -> Stored | None:
    """Where the file of `content` lies: under `file` where that is present, else under `url`."""
    if "file" not in content:
        return _located(content.get("url"))
    file = _dict(content.get("file"))
    place, web_key = _located(file.get("url")), _dict(file.get("key"))
    if place is None or (file.get("v"), web_key.get("alg"), web_key.get("kty")) != ("v2", "A256CTR", "oct"):
        return None
    key, iv = _decoded(web_key.get("k"), KEY_BYTES), _decoded(file.get("iv"), _IV_BYTES)
    sha256 = _decoded(_dict(file.get("hashes")).get("sha256"), _HASH_BYTES)
    if key is None or iv is None or sha256 is None:
        return None
    return Stored(place.server, place.media_id, key, iv, sha256)


def parsed(source: str) -> Stored | None:
    """What `Attachment.source`, or the remote id of an `Upload`, says."""
    try:
        content = json.loads(source)
    except (ValueError, RecursionError):
        return None
    return stored(content) if isinstance(content, dict) else None


def sealed(data: bytes, *, key: bytes, prefix: bytes) -> tuple[bytes, bytes, bytes]:
    """Encrypt a file: ciphertext, initial counter block and SHA-256.

    `key` (32 bytes) and `prefix` (8 bytes) are random and never used again. The other half of the
    block counts from zero, so that no implementation overflows it.
    """
    iv = prefix + bytes(_IV_BYTES - PREFIX_BYTES)
    encryptor = Cipher(AES(key), CTR(iv)).encryptor()
    ciphertext = encryptor.update(data) + encryptor.finalize()
    return ciphertext, iv, hashlib.sha256(ciphertext).digest()


def canonical(value: Mapping[str, Any]) -> str:
    """`value` as JSON that is the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# -- what a message says ---------------------------------------------------------------------------


def attachment(said: Mapping[str, Any]) -> Attachment | None:
    """The file of a message, None if it has none that can be fetched or that concerns us."""
    kind = said.get("msgtype")
    place = stored(said) if isinstance(kind, str) and kind in TYPES else None
    if place is None:
        return None
    info = _dict(said.get("info"))
    return Attachment(
        source=canonical(place.content),
        media_type=_media_type(info.get("mimetype"), TYPES[str(kind)]),
        size=_count(info.get("size")),
        name=clean_name(_text(said.get("filename")) or _text(said.get("body"))),
        duration_ms=_first(_count(info.get("duration")), _count(_dict(said.get(_AUDIO)).get("duration"))),
        voice=kind == "m.audio" and isinstance(said.get(VOICE), dict),
    )


def caption(said: Mapping[str, Any], body: str) -> str:
    """The words that came with a file (MSC2530); without a file name the body is one."""
    name = said.get("filename")
    return body if isinstance(name, str) and name != body else ""


def _media_type(told: object, allowed: tuple[str, ...]) -> str:
    base = _text(told).partition(";")[0].strip().lower()
    known = base if _MEDIA_TYPE.fullmatch(base) else ""
    return known if not allowed or known.startswith(allowed) else f"{allowed[0]}*"


def _located(url: object) -> Stored | None:
    found = _MXC.fullmatch(url) if isinstance(url, str) else None
    return Stored(found[1], found[2]) if found is not None else None


def _decoded(value: object, size: int) -> bytes | None:
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    bare = value.rstrip("=").translate(_URL_SAFE)
    try:
        data = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except ValueError:
        return None
    return data if len(data) == size else None


def _unpadded(data: bytes) -> str:
    return data.decode().rstrip("=")


def _count(value: object) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
    return value if is_count and isinstance(value, int) else None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NOTHING


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
