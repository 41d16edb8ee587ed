"""Every way a homeserver can say no, mapped to the four error families of the port. Pure.

Owns the table of error codes. Promises that `family` is total: any status with any body gives
either None (success) or exactly one family. Source: Matrix client-server API 1.16, "Standard error
response", "Common error codes", and the codes of the endpoints that we call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.platform import Broken, Misconfigured, PlatformError, Refused, Retryable

if TYPE_CHECKING:
    from collections.abc import Mapping


class LoggedOut(Retryable):
    """The access token is no longer valid; the sync loop logs in again, then the same call may work."""


LOGIN: Final = frozenset({"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN"})

REFUSED: Final[Mapping[str, str]] = {
    "M_FORBIDDEN": "give the bot the right to do this in the room, or invite it again",
    "M_GUEST_ACCESS_FORBIDDEN": "allow guests in the room, or invite the bot",
    "M_NOT_FOUND": "the room or event is gone; nothing can be done",
    "M_UNABLE_TO_AUTHORISE_JOIN": "invite the bot from a server that is in the room",
    "M_UNABLE_TO_GRANT_JOIN": "invite the bot from a server that may admit members",
    "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM": "this room belongs to the homeserver; nothing can be done",
    "M_CANNOT_OVERWRITE_MEDIA": "the file exists already",
    "M_THREEPID_DENIED": "use a full Matrix address",
    "M_INVITE_BLOCKED": "the invited person blocks invitations",
    "M_EXCLUSIVE": "the address belongs to another service",
    "M_USER_IN_USE": "choose another address",
    "M_ROOM_IN_USE": "choose another room alias",
}

OPERATOR: Final[Mapping[str, str]] = {
    "M_USER_DEACTIVATED": "the account is deactivated: set another account",
    "M_USER_SUSPENDED": "the account is suspended: ask the homeserver's administrator",
    "M_USER_LOCKED": "the account is locked: ask the homeserver's administrator",
    "M_CONSENT_NOT_GIVEN": "log in once with the bot's account in a browser and accept the terms",
    "M_CAPTCHA_NEEDED": "the homeserver wants a captcha: log in by hand and set an access token",
    "M_INVALID_USERNAME": "the account's address is not valid on this homeserver",
    "M_WEAK_PASSWORD": "the homeserver refuses this password",
    "M_THREEPID_AUTH_FAILED": "log in by hand and set an access token",
    "M_SERVER_NOT_TRUSTED": "the identity server is not trusted by the homeserver",
}

LATER: Final[Mapping[str, float]] = {
    "M_CONCURRENT_WRITE": 1.0,
    "M_NOT_YET_UPLOADED": 10.0,
    "M_RESOURCE_LIMIT_EXCEEDED": 600.0,  # its administrator must lift the limit
}
"""Seconds to wait where the server is in the way of itself."""

BROKEN: Final = frozenset(
    {
        "M_BAD_ALIAS",
        "M_BAD_JSON",
        "M_BAD_STATE",
        "M_DUPLICATE_ANNOTATION",
        "M_INCOMPATIBLE_ROOM_VERSION",
        "M_INVALID_PARAM",
        "M_INVALID_ROOM_STATE",
        "M_INVALID_SIGNATURE",
        "M_MISSING_PARAM",
        "M_NOT_JSON",
        "M_THREEPID_IN_USE",
        "M_THREEPID_MEDIUM_NOT_SUPPORTED",
        "M_THREEPID_NOT_FOUND",
        "M_TOO_LARGE",
        "M_UNKNOWN",
        "M_UNKNOWN_POS",
        "M_UNRECOGNIZED",
        "M_UNSUPPORTED_ROOM_VERSION",
        "M_URL_NOT_SET",
    }
)

_SERVER: Final = 500
_GOOD: Final = range(200, 300)
_LOGIN_STATUS: Final = 401
_DEFAULT: Final[Mapping[int, str]] = {403: "M_FORBIDDEN", 404: "M_NOT_FOUND", 410: "M_NOT_FOUND"}
_PASSING: Final = frozenset({408, 425, 429})
_MAX_WAIT: Final = 3600.0


def raise_for_response(
    what: str, status: int, body: Mapping[str, Any], *, retry_after: str | None = None
) -> None:
    """Raise the error that `status` and `body` mean; return when the request succeeded."""
    error = family(what, status, body, retry_after=retry_after)
    if error is not None:
        raise error


def family(
    what: str, status: int, body: Mapping[str, Any], *, retry_after: str | None = None
) -> PlatformError | None:
    """The error of an answer to the request `what`, None for success. Total: it never raises.

    `retry_after` is the header of that name in seconds (RFC 9110, 10.2.3); `retry_after_ms` in the
    body is older and counts where the header is absent.
    """
    if status in _GOOD:
        return None
    given = body.get("errcode")
    code = given if isinstance(given, str) else _DEFAULT.get(status, "M_UNKNOWN")
    said = f"{what}: {status} {code}"
    if status in _PASSING or not _GOOD.start <= status < _SERVER or code == "M_LIMIT_EXCEEDED":
        return Retryable(said, wait_of(body, retry_after))
    if code in LOGIN or (status == _LOGIN_STATUS and given is None):
        return LoggedOut(said)
    return _refusal(code, said)


def _refusal(code: str, said: str) -> PlatformError:
    """The error of a 4xx answer whose login was good."""
    if code in LATER:
        return Retryable(said, LATER[code])
    if code in OPERATOR:
        return Misconfigured("matrix.user", f"{said}; {OPERATOR[code]}")
    if code in REFUSED:
        return Refused(code, REFUSED[code])
    return Broken(said)


def wait_of(body: Mapping[str, Any], header: str | None) -> float | None:
    """Seconds that the server asks to wait, at most an hour; None when it does not say."""
    try:
        wait = float(header) if header is not None else float(body["retry_after_ms"]) / 1000
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return min(wait, _MAX_WAIT) if wait >= 0 else None
