"""What a Mastodon server knows: accounts, statuses, notifications, media, tokens; no HTTP in here.

The rules that a client can run into are kept: who may see which status, who is told of a mention, what a
key means for an hour, how often an account may ask and post. `Differs` are the ways in which other servers
that speak the API do otherwise. Written from https://docs.joinmastodon.org; each rule names its page.
"""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.fakes.instance_text import MENTION, length, to_html

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Json = dict[str, Any]
KEY_MS = 3_600_000
"""https://docs.joinmastodon.org/methods/statuses/#create: keys are stored for up to one hour."""
REQUESTS, REQUESTS_MS = 300, 300_000
"""https://docs.joinmastodon.org/api/rate-limits/: 300 requests in 5 minutes for an account."""
POSTS, POSTS_MS = 300, 10_800_000
"""Mastodon's `app/lib/rate_limiter.rb`: 300 statuses in 3 hours for an account."""
WIDE = ("public", "unlisted")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Refusal(Exception):
    """An answer that is not the one hoped for. Bodies as recorded from Mastodon 4.7.3."""

    def __init__(self, status: int, error: str, *, html: bool = False) -> None:
        super().__init__(f"{status} {error}")
        self.status = status
        self.error = error
        self.html = html


@dataclass(frozen=True)
class Differs:
    """How a server differs from Mastodon 4.4; measured on each (research/mastodon.md, feature table)."""

    version: str = "4.7.3"
    api_version: int | None = 11
    source_url: str = "https://github.com/mastodon/mastodon"
    """https://docs.joinmastodon.org/entities/Instance/#source_url: of the software that runs."""
    keeps_keys: bool = True
    ulids: bool = False
    rate_reset: str = "iso"
    """`iso`, `epoch`, or `""` for no headers."""
    streaming: str = "sse"
    """`sse` (with websocket), `websocket`, or `""`."""
    long_acct: bool = False
    has_policy: bool = True
    reads_many: bool = True
    orphans: bool = False
    """A reply to what is gone is posted, as a reply to nothing."""
    bad_token: int = 401
    raw_length: bool = False
    max_characters: int = 500


MASTODON = Differs()
GOTOSOCIAL = Differs(
    "0.20.0+git-9a1b2c3",
    None,
    "https://codeberg.org/superseriousbusiness/gotosocial",
    keeps_keys=False,
    ulids=True,
    streaming="websocket",
    has_policy=False,
    reads_many=False,
    raw_length=True,
    max_characters=5000,
)
TAKAHE = Differs(
    "takahe/0.11.0",
    None,
    "https://github.com/jointakahe/takahe/",
    keeps_keys=False,
    rate_reset="",
    streaming="",
    long_acct=True,
    has_policy=False,
    reads_many=False,
    orphans=True,
    bad_token=400,
    raw_length=True,
)
PLEROMA = Differs(
    "2.7.2 (compatible; Pleroma 2.9.0)",
    None,
    "https://git.pleroma.social/pleroma/pleroma",
    ulids=True,
    rate_reset="",
    streaming="websocket",
    has_policy=False,
    reads_many=False,
    max_characters=5000,
)
PIXELFED = Differs(
    "3.5.3 (compatible; Pixelfed 0.12.4)",
    None,
    "https://github.com/pixelfed/pixelfed",
    keeps_keys=False,
    rate_reset="epoch",
    streaming="",
    has_policy=False,
    reads_many=False,
)


def _usual_policy() -> dict[str, str]:
    """https://docs.joinmastodon.org/entities/NotificationPolicy/; the defaults since 4.3."""
    kinds = ("for_not_following", "for_not_followers", "for_new_accounts")
    return {
        **dict.fromkeys(kinds, "accept"),
        "for_private_mentions": "filter",
        "for_limited_accounts": "filter",
    }


@dataclass
class Account:
    id: str
    name: str
    domain: str | None
    state: State = field(repr=False)
    bot: bool = False
    note: str = ""
    follows: set[str] = field(default_factory=set)
    policy: dict[str, str] = field(default_factory=_usual_policy)

    @property
    def acct(self) -> str:
        """https://docs.joinmastodon.org/entities/Account/#acct: without a domain for local people."""
        if self.domain is not None:
            return f"{self.name}@{self.domain}"
        return f"{self.name}@{self.state.domain}" if self.state.differs.long_acct else self.name

    @property
    def address(self) -> str:
        return f"@{self.name}@{self.domain or self.state.domain}"

    @property
    def url(self) -> str:
        return f"https://{self.domain}/@{self.name}" if self.domain else f"{self.state.url}/@{self.name}"

    def post(self, text: str, **more: Any) -> Status:
        """As a person does in a client; see `State.post`."""
        return self.state.post(self, text, **more)

    def edit(self, status: Status, text: str) -> None:
        self.state.edit(status, text)

    def delete(self, status: Status) -> None:
        self.state.delete(status)


@dataclass
class Status:
    id: str
    author: Account
    text: str
    visibility: str
    created_at: int
    reply_to: Status | None = None
    spoiler: str = ""
    language: str | None = None
    media: list[Media] = field(default_factory=list)
    poll: tuple[str, ...] = ()
    mentions: list[Account] = field(default_factory=list)
    edited_at: int | None = None
    gone: bool = False


@dataclass
class Media:
    id: str
    owner: Account
    data: bytes
    media_type: str
    description: str = ""
    polls: int = 0
    """How often it is still said to be processing."""
    url: str | None = None
    remote_url: str | None = None
    kind: str = ""
    duration: float | None = None


@dataclass
class Notification:
    id: str
    to: Account
    by: Account
    status: Status | None
    kind: str
    at: int


@dataclass
class Token:
    account: Account | None
    scopes: frozenset[str]
    revoked: bool = False


@dataclass
class State:
    """One server. `clock` gives ms; `skew` is how far its own clock is ahead of that."""

    clock: Callable[[], int]
    differs: Differs = MASTODON
    url: str = ""
    skew: int = 0
    requests: int = REQUESTS
    posts: int = POSTS
    """How many an account may make in `REQUESTS_MS` and `POSTS_MS`."""
    accounts: dict[str, Account] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)
    notifications: list[Notification] = field(default_factory=list)
    tokens: dict[str, Token] = field(default_factory=dict)
    media: dict[str, Media] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    posted: dict[str, list[int]] = field(default_factory=dict)
    asked: dict[str, list[int]] = field(default_factory=dict)
    told: Callable[[Account, str, str], None] = lambda _to, _kind, _payload: None
    """Who is told what over the streams."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def domain(self) -> str:
        return self.url.partition("://")[2]

    def now(self) -> int:
        return self.clock() + self.skew

    def new_id(self) -> str:
        number = next(self._numbers)
        if not self.differs.ulids:
            return str(112_000_000_000_000_000 + number)
        letters = ""
        for _ in range(26):
            number, rest = divmod(number, 32)
            letters = _CROCKFORD[rest] + letters
        return letters

    # -- people ------------------------------------------------------------------------------------

    def account(self, name: str, domain: str | None = None, **more: Any) -> Account:
        account = Account(self.new_id(), name, domain, self, **more)
        self.accounts[account.id] = account
        return account

    def token(self, account: Account, scopes: str = "read write") -> str:
        token = secrets.token_urlsafe(16)
        self.tokens[token] = Token(account, frozenset(scopes.split()))
        return token

    def revoke(self, token: str) -> None:
        self.tokens[token].revoked = True

    def find(self, name: str, domain: str | None) -> Account | None:
        here = None if domain in (None, self.domain) else domain
        return next((a for a in self.accounts.values() if (a.name, a.domain) == (name, here)), None)

    # -- posting -----------------------------------------------------------------------------------

    def post(
        self,
        author: Account,
        text: str,
        *,
        visibility: str = "public",
        reply_to: Status | None = None,
        cw: str = "",
        language: str | None = "en",
        media: list[Media] | None = None,
        poll: tuple[str, ...] = (),
    ) -> Status:
        """https://docs.joinmastodon.org/methods/statuses/#create."""
        status = Status(self.new_id(), author, text, visibility, self.now(), reply_to, cw, language)
        status.media, status.poll = media or [], poll
        status.mentions = self._mentioned(text)
        self.statuses[status.id] = status
        self._notify(status, status.mentions)
        return status

    def _mentioned(self, text: str) -> list[Account]:
        found = [self.find(one[1], one[2]) for one in MENTION.finditer(text)]
        return list({one.id: one for one in found if one is not None}.values())

    def _notify(self, status: Status, people: list[Account]) -> None:
        for one in people:
            if one.id != status.author.id and one.domain is None and not self._filtered(one, status):
                self.notify(one, status.author, status, "mention")

    def _filtered(self, to: Account, status: Status) -> bool:
        """https://docs.joinmastodon.org/entities/NotificationPolicy/: private mentions of strangers."""
        if not self.differs.has_policy or to.policy["for_private_mentions"] == "accept":
            return False
        stranger = status.author.id not in to.follows
        asked = status.reply_to is not None and status.reply_to.author.id == to.id
        return status.visibility == "direct" and stranger and not asked

    def notify(self, to: Account, by: Account, status: Status | None, kind: str) -> Notification:
        made = Notification(self.new_id(), to, by, status, kind, self.now())
        self.notifications.append(made)
        self.told(to, "notification", made.id)
        return made

    def edit(self, status: Status, text: str) -> None:
        """https://docs.joinmastodon.org/methods/statuses/#edit; who is mentioned anew is often not told."""
        status.text, status.edited_at = text, self.now()
        status.mentions = self._mentioned(text)

    def delete(self, status: Status) -> None:
        """The notifications of it go too; replies stay, and reply to nothing that can be read."""
        status.gone = True
        del self.statuses[status.id]
        self.notifications = [one for one in self.notifications if one.status is not status]
        for one in self.accounts.values():
            if self.sees(one, status):
                self.told(one, "delete", status.id)

    def create(self, author: Account, body: Json, key: str | None) -> Status:
        """A status as a client posts it, with the rules that apply to it."""
        known = self.keys.get((author.id, key or ""))
        if key and known and self.differs.keeps_keys and self.clock() - known[1] < KEY_MS:
            return self.statuses[known[0]]
        text, spoiler = str(body.get("status") or ""), str(body.get("spoiler_text") or "")
        if any(one not in self.media for one in body.get("media_ids", [])):
            raise Refusal(422, "Validierung ist fehlgeschlagen: Medien nicht gefunden")
        media = [self.media[one] for one in body.get("media_ids", [])]
        if any(one.url is None for one in media):
            raise Refusal(422, "Dateien, die noch verarbeitet werden, können nicht angehängt werden")
        if not text and not media and not body.get("poll"):
            raise Refusal(422, "Validierung ist fehlgeschlagen: Text darf nicht leer sein")
        self.check_length(text, spoiler)
        parent: Status | None = None
        if body.get("in_reply_to_id"):
            parent = self.statuses.get(str(body["in_reply_to_id"]))
            if (parent is None or not self.sees(author, parent)) and not self.differs.orphans:
                raise Refusal(404, "Record not found")
        visibility = str(body.get("visibility") or "public")
        if visibility not in ("public", "unlisted", "private", "direct"):
            raise Refusal(422, "Validierung ist fehlgeschlagen: Sichtbarkeit ist ungültig")
        status = self.post(
            author,
            text,
            visibility=visibility,
            reply_to=parent,
            cw=spoiler,
            language=body.get("language"),
            media=media,
            poll=tuple(dict(body.get("poll") or {}).get("options", ())),
        )
        self.posted.setdefault(author.id, []).append(self.clock())
        if key:
            self.keys[author.id, key] = (status.id, self.clock())
        return status

    def check_length(self, text: str, spoiler: str) -> None:
        differs = self.differs
        counted = len(text) if differs.raw_length else length(text, spoiler)
        if counted > differs.max_characters:
            said = f"Validierung ist fehlgeschlagen: Zeichenlimit von {differs.max_characters} überschritten"
            raise Refusal(400 if differs.raw_length else 422, said)

    # -- who sees what -----------------------------------------------------------------------------

    def sees(self, viewer: Account | None, status: Status) -> bool:
        """https://docs.joinmastodon.org/entities/Status/#visibility."""
        if status.visibility in WIDE:
            return True
        if viewer is None:
            return False
        if viewer.id == status.author.id or any(one.id == viewer.id for one in status.mentions):
            return True
        return status.visibility == "private" and status.author.id in viewer.follows

    def visible(self, viewer: Account | None, status_id: str) -> Status:
        status = self.statuses.get(status_id)
        if status is None or not self.sees(viewer, status):
            raise Refusal(404, "Record not found")
        return status

    def ancestors(self, viewer: Account | None, status: Status) -> list[Status]:
        """https://docs.joinmastodon.org/methods/statuses/#context: what is gone or hidden ends it."""
        found: list[Status] = []
        parent = status.reply_to
        while parent is not None and not parent.gone:
            if self.sees(viewer, parent):
                found.append(parent)
            parent = parent.reply_to
        return found[::-1]

    def descendants(self, viewer: Account | None, status: Status) -> list[Status]:
        found: list[Status] = []
        for one in self.statuses.values():
            if one.reply_to is status and self.sees(viewer, one):
                found += [one, *self.descendants(viewer, one)]
        return found

    # -- limits ------------------------------------------------------------------------------------

    def ask(self, account: Account) -> tuple[int, int]:
        """Count a request; what is left and when all is back (ms). Raises `Refusal` over the limit."""
        return self._used(self.asked.setdefault(account.id, []), self.requests, REQUESTS_MS, count=True)

    def may_post(self, account: Account) -> tuple[int, int]:
        return self._used(self.posted.setdefault(account.id, []), self.posts, POSTS_MS, count=False)

    def _used(self, uses: list[int], limit: int, window: int, *, count: bool) -> tuple[int, int]:
        now = self.clock()
        uses[:] = [at for at in uses if at > now - window]
        if len(uses) >= limit:
            raise Refusal(429, "Too many requests")
        if count:
            uses.append(now)
        return limit - len(uses), (uses[0] if uses else now) + window

    # -- entities ----------------------------------------------------------------------------------

    def html(self, text: str) -> str:
        def link_of(name: str, domain: str | None) -> tuple[str, str] | None:
            found = self.find(name, domain)
            return None if found is None else (found.url, found.name)

        return to_html(text, link_of, self.url)


def iso(ms: int) -> str:
    """A time as the API writes it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
