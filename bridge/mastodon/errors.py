"""Every way an instance or Mastodon.py can fail, mapped to the four error families of the port. Pure.

Promises that `family` is total: any `MastodonError` with any answer gives exactly one family, and no
text of a server in it (an error page may quote what a person wrote).

    the answer                                  reading          posting
    401                                         Misconfigured    Misconfigured   log in again
    400 as HTML, where the token is looked at   Misconfigured    -               Takahe's bad token
    3xx, where the token is looked at           Misconfigured    -               the base redirects
    3xx                                         Retryable        Retryable       surely not done
    403                                         Refused          Refused         scope, block, suspension
    404, 410                                    Refused          Refused         gone, or not for us
    403, 404, 410 as HTML, but from Takahe      Retryable        Retryable       a proxy's page
    408, 425, 429                               Retryable        Retryable       surely not done
    422 and any other 4xx                       Broken           Broken
    5xx                                         Retryable        Unclear
    2xx that is not JSON                        Retryable        Unclear         a proxy's page
    none: not connected                         Retryable        Retryable       surely not sent
    none: timeout, cut off                      Retryable        Unclear

The status decides, not the text: the texts are localised, and others write others. Source:
https://docs.joinmastodon.org/client/intro/ and the pages of the methods; research/mastodon.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mastodon import errors as theirs

from bridge.platform import Broken, Misconfigured, PlatformError, Refused, Retryable, Unclear

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGIN: Final = "run `hearth mastodon login` and put the new token in its place"
GONE: Final = "the post is gone or was never meant for the bot; nothing can be done"
FORBIDDEN: Final = (
    "the instance forbids this: the token lacks a scope (run `hearth mastodon login`), or the account is "
    "blocked, limited or suspended there"
)

MAX_WAIT: Final = 3 * 3600.0
"""Seconds; the longest window of a rate limit."""

_GOOD: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)
_PASSING: Final = frozenset({408, 425, 429})
_CLIENT: Final = range(400, 500)
_BAD, _LOGIN = 400, 401
_NO: Final[Mapping[int, str]] = {403: FORBIDDEN, 404: GONE, 410: GONE}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request, without its body.

    `status` is None where nothing came. `sent`: the request may have reached the server. `location`
    is where a redirect points to, `wait` the seconds that a rate limit asks for.
    """

    status: int | None = None
    is_json: bool = True
    sent: bool = True
    location: str = ""
    wait: float | None = None
    speaks_html: bool = False
    """Whether this software itself says no in HTML (Takahe); elsewhere HTML is a proxy's."""

    @property
    def is_good(self) -> bool:
        """Whether this is a success that can be read."""
        return self.status in _GOOD and self.is_json


class Means(StrEnum):
    """What an exception class of Mastodon.py says."""

    ANSWER = "answer"
    """The answer decides."""
    NETWORK = "network"
    """Nothing, or not all of it, came back."""
    LIMIT = "limit"
    """Too many requests."""
    OURS = "ours"
    """We called it in a way that can never work."""


TABLE: Final[Mapping[type[theirs.MastodonError], Means]] = {
    theirs.MastodonError: Means.ANSWER,
    theirs.MastodonVersionError: Means.OURS,
    theirs.MastodonIllegalArgumentError: Means.OURS,
    theirs.MastodonIOError: Means.NETWORK,
    theirs.MastodonFileNotFoundError: Means.OURS,
    theirs.MastodonNetworkError: Means.NETWORK,
    theirs.MastodonReadTimeout: Means.NETWORK,
    theirs.MastodonAPIError: Means.ANSWER,
    theirs.MastodonServerError: Means.ANSWER,
    theirs.MastodonInternalServerError: Means.ANSWER,
    theirs.MastodonBadGatewayError: Means.ANSWER,
    theirs.MastodonServiceUnavailableError: Means.ANSWER,
    theirs.MastodonGatewayTimeoutError: Means.ANSWER,
    theirs.MastodonNotFoundError: Means.ANSWER,
    theirs.MastodonUnauthorizedError: Means.ANSWER,
    theirs.MastodonRatelimitError: Means.LIMIT,
    theirs.MastodonMalformedEventError: Means.ANSWER,
}


def family(
    what: str,
    error: theirs.MastodonError,
    answer: Answer,
    *,
    posts: bool = False,
    verifying: bool = False,
) -> PlatformError:
    """The family of `error`, raised by the method `what`.

    `posts`: the request makes something that others see, so doubt is `Unclear`. `verifying`: it asks
    whose token this is.
    """
    match TABLE.get(type(error), Means.ANSWER):
        case Means.OURS:
            return Broken(f"{what}: {type(error).__name__}")
        case Means.LIMIT:
            return Retryable(f"{what}: 429", answer.wait)
        case Means.NETWORK if answer.status is None or answer.status in _GOOD:
            return doubt(f"{what}: no answer", posts=posts and answer.sent)
        case _:
            return of_answer(what, answer, posts=posts, verifying=verifying)


def of_answer(what: str, answer: Answer, *, posts: bool = False, verifying: bool = False) -> PlatformError:
    """The family of an answer that is no success, or that could not be read."""
    status = answer.status
    if status is None:
        return doubt(f"{what}: no answer", posts=posts and answer.sent)
    said = f"{what}: {status}"
    if status in _REDIRECT and verifying:
        return Misconfigured("mastodon", f"{said}, the API redirects; set its url to {answer.location[:200]}")
    if status in _PASSING or status in _REDIRECT:
        return Retryable(said, answer.wait)
    if status in _CLIENT:
        return _refusal(said, status, answer, verifying=verifying)
    return doubt(f"{said}, not JSON" if status in _GOOD else said, answer.wait, posts=posts)


def _refusal(said: str, status: int, answer: Answer, *, verifying: bool) -> PlatformError:
    """The error of a 4xx answer that another try does not change."""
    if status == _LOGIN or (status == _BAD and verifying and not answer.is_json):
        return Misconfigured("mastodon", f"{said}, the access token is not valid; {LOGIN}")
    if status not in _NO:
        return Broken(said)
    if not (answer.is_json or answer.speaks_html):
        return Retryable(f"{said}, not JSON")
    return Refused(str(status), _NO[status])


def doubt(what: str, after: float | None = None, *, posts: bool) -> Retryable:
    """Nothing is known of what happened; where something may have been posted, that must be looked for."""
    return Unclear(what, after) if posts else Retryable(what, after)
