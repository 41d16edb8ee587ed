"""What goes over the wire for one call of Mastodon.py: the session of one thread. Blocks.

Owns what the library leaves open. Promises: a redirect is an answer and is never followed (a POST
would become a GET, a token would travel on); an answer ends within a deadline and a size; Mastodon.py
sees its status and its body alone, because it raises on rate-limit headers that it cannot read, even
where the post was made, and warns of deprecations into the log. The headers are read here.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, NewConnectionError

from bridge.mastodon.errors import MAX_WAIT, Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of one answer; a page of 40 posts of a megabyte each still passes."""
_WHOLE: Final = 3
"""Timeouts that one answer may take as a whole."""
_PIECE: Final = 65_536
_EPOCH_S: Final = 1_000_000_000
_EPOCH_MS: Final = 1_000_000_000_000


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says of the server: its clock (ms), and its nearest rate limit (`reset` in seconds)."""

    date: int | None = None
    remaining: int | None = None
    reset: float | None = None


class Wire(requests.Session):
    """One thread's connections to one instance; `count` is told of every request that is sent."""

    def __init__(self, timeout: float, count: Callable[[], None]) -> None:
        super().__init__()
        self._timeout = timeout
        self._count = count
        self.begin()

    def begin(self) -> None:
        """Forget the last answer."""
        self.answer = Answer(sent=False)
        self.told = Told()
        self.body: Any = None
        """The JSON of the answer as it was sent: ids are strings, times ISO 8601."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send `request`, read all of the answer, keep what it says; raises `RequestException`."""
        self.begin()
        self._count()
        kwargs.update(allow_redirects=False, stream=True)
        deadline = time.monotonic() + _WHOLE * self._timeout
        try:
            response = super().send(request, **kwargs)
        except requests.RequestException as error:
            self.answer = Answer(sent=_may_have_arrived(error))
            raise
        self.answer = Answer()
        with response:
            body = _read(response, deadline)
        self.told = told(response.headers)
        self.body, is_json = _json(body)
        wait = _retry_after(response.headers.get("Retry-After"))
        self.answer = Answer(
            status=response.status_code,
            is_json=is_json,
            location=base_of(response.headers.get("Location", "")),
            wait=self.told.reset if wait is None else wait,
        )
        response._content = body  # noqa: SLF001 - the way `requests` itself keeps what it has read
        response.headers = requests.structures.CaseInsensitiveDict()
        return response


def _read(response: requests.Response, deadline: float) -> bytes:
    body = bytearray()
    try:
        # read1 returns what has come; read and iter_content wait for a full piece, byte by byte.
        while piece := response.raw.read1(_PIECE, decode_content=True):
            body += piece
            if len(body) > LARGEST or time.monotonic() > deadline:
                raise requests.ReadTimeout("the answer does not end")
    except (HTTPError, OSError) as error:
        raise requests.ConnectionError(type(error).__name__) from error
    return bytes(body)


def _json(body: bytes) -> tuple[Any, bool]:
    try:
        return json.loads(body), True
    except (ValueError, RecursionError):
        return None, False


def _may_have_arrived(error: requests.RequestException) -> bool:
    """Whether the server may have got the request; not where no connection was made."""
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.InvalidURL):
        return False
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return not isinstance(reason, NewConnectionError)


def base_of(location: str) -> str:
    """Scheme and host of a redirect's target: what the API's base should be; empty where there is none."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""


def told(headers: Mapping[str, str]) -> Told:
    """Read `Date` (RFC 9110) and `X-RateLimit-*`; the reset as ISO 8601 (Mastodon), epoch, or seconds."""
    date = _date(headers.get("Date"))
    try:
        remaining = max(0, int(headers["X-RateLimit-Remaining"]))
        reset = _reset(headers["X-RateLimit-Reset"].strip(), date)
    except (KeyError, ValueError, OverflowError):
        return Told(date)
    return Told(date, remaining, min(max(0.0, reset), MAX_WAIT))


def _reset(value: str, date: int | None) -> float:
    """Seconds from the answer until the limit is new; raises `ValueError`.

    By the server's own clock where it tells it: ours may be days off.
    """
    here = time.time() if date is None else date / 1000
    try:
        number = float(value)
    except ValueError:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - here
    if number >= _EPOCH_MS:
        return number / 1000 - here
    return number - here if number >= _EPOCH_S else number


def _date(value: str | None) -> int | None:
    try:
        moment = parsedate_to_datetime(value or "")
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _retry_after(value: str | None) -> float | None:
    try:
        return min(max(0.0, float(value or "")), MAX_WAIT)
    except ValueError:
        return None
