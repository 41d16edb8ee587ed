"""What we post: answers to one person each, under a key, and never twice.

Promises: an answer goes to the author of its question, as narrowly as it was asked, in reply to it (each
further part in reply to the one before); what became an orphan, because its question vanished while we
posted, is taken back; a post whose fate is unknown is found by what it says and what it replies to, also
on servers that ignore idempotency keys. Refuses to say anything that replies to nothing.

Source: https://docs.joinmastodon.org/methods/statuses/#create (Idempotency-Key: an hour), #context.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import structlog

from bots import wording_public
from bots.conversation import Redact, Revise, Say
from bridge.mastodon import audience, render
from bridge.mastodon.length import measure
from bridge.mastodon.manners import wants_no_bots
from bridge.mastodon.text import plain
from bridge.mastodon.translate import dict_of, dicts_of, mentions_us, ms_of, text_of
from bridge.platform import Broken, Found, Parts, Refused, Retryable, Unclear

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.mastodon.client import Client
    from bridge.platform import StoredAction
    from bridge.schedule import Clock

log = structlog.get_logger(__name__)

FRESH: Final = 60.0
"""Seconds for which a look at the question counts as a look just before the answer."""
UNKNOWN_MENTION: Final = 60
"""Characters left for a mention that is not known when an answer is cut."""
OWN_POSTS: Final = 40
SKEW_MS: Final = 600_000

_GONE: Final = frozenset({"404", "410"})
_DROPPED: Final = "the question is gone, or no longer mentions the bot; nothing is to be done"
_WORDS = re.compile(r"\w", re.UNICODE)


class Poster:
    """Performs and finds the actions of one account. `client` is open.

    `gone` is told of a question (status id, place) that turns out to be gone.
    """

    def __init__(
        self, client: Client, *, clock: Clock, language: str, gone: Callable[[str, str], None]
    ) -> None:
        self._client = client
        self._clock = clock
        self._language = language
        self._gone = gone

    # -- doing -------------------------------------------------------------------------------------

    async def perform(self, action: StoredAction) -> str | None:
        """Do `action` under its key; see `Platform.perform`."""
        match action.action:
            case Say() as say:
                return await self._say(action, say)
            case Revise() as revise:
                return await self._revise(action, revise)
            case Redact():
                return await self._redact(action)
        raise Broken("upload: this platform shows no files")

    async def _say(self, action: StoredAction, say: Say) -> str | None:
        if say.reply_to is None:
            raise Broken("say: an answer on Mastodon replies to something")
        asked = await self._asked(say.reply_to, action.place)
        author = dict_of(asked.get("account"))
        if say.unasked and wants_no_bots(author.get("note")):
            log.info("refusal_not_said", key=action.key, reason="#nobot")
            return None
        wait = self._client.limits.before_post(text_of(author.get("id")), self._clock.now())
        if wait > 0:
            raise Retryable("the account has posted as often as its server allows", wait)
        parent = action.target if say.follows is not None else say.reply_to
        warning = _warning(asked)
        try:
            status = await self._client.call(
                "status_post",
                _addressed(asked, say.text),
                in_reply_to_id=parent,
                visibility=audience.reply_visibility(asked.get("visibility")),
                spoiler_text=warning or None,
                sensitive=bool(warning),
                language=audience.language(asked, self._language),
                idempotency_key=action.key,
                posts=True,
            )
        except Unclear:
            self._posted(author)
            raise
        except Refused as error:
            if error.rule not in _GONE:
                raise
            self._client.forget(say.reply_to)
            await self._asked(say.reply_to, action.place)  # raises, where it is the question that went
            raise Refused("gone", "the part before this one was deleted; nothing is to be done") from error
        self._posted(author)
        posted = text_of(dict_of(status).get("id"))
        if not posted:
            raise Unclear("status_post: the answer is no status")
        if text_of(dict_of(status).get("in_reply_to_id")) != parent:
            log.info("orphan_taken_back", key=action.key)
            await self._delete(posted)
            self._client.forget(say.reply_to)
            self._gone(say.reply_to, action.place)
            raise Refused("gone", _DROPPED)
        return posted

    async def _asked(self, status_id: str, place: str) -> Mapping[str, Any]:
        """The question as it is now; raises `Refused`, and says so to the feed, where it is gone."""
        asked = await self._client.status(status_id, max_age=FRESH)
        if asked is None or not mentions_us(asked, self._client.me):
            self._gone(status_id, place)
            raise Refused("gone", _DROPPED)
        return asked

    def _posted(self, author: Mapping[str, Any]) -> None:
        self._client.limits.posted(text_of(author.get("id")), self._clock.now())

    async def _revise(self, action: StoredAction, revise: Revise) -> str:
        target = _target(action)
        standing = await self._client.status(target)
        if standing is None:
            raise Refused("gone", "the post that was to be revised was deleted; nothing is to be done")
        parent = text_of(standing.get("in_reply_to_id"))
        asked = await self._client.status(parent, max_age=FRESH) if parent else None
        warning = text_of(standing.get("spoiler_text"))
        text = revise.text if asked is None else _addressed(asked, revise.text)
        await self._client.call(
            "status_update", target, text, spoiler_text=warning or None, sensitive=bool(warning), posts=True
        )
        self._client.forget(target)
        return target

    async def _redact(self, action: StoredAction) -> str:
        await self._delete(_target(action))
        return _target(action)

    async def _delete(self, status_id: str) -> None:
        self._client.forget(status_id)
        try:
            await self._client.call("status_delete", status_id)
        except Refused as error:
            if error.rule not in _GONE:
                raise

    # -- finding -----------------------------------------------------------------------------------

    async def find(self, action: StoredAction) -> str | Found:
        """Look whether `action` was done; see `Platform.find`."""
        match action.action:
            case Redact():
                target = _target(action)
                return target if await self._client.status(target) is None else Found.ABSENT
            case Revise(text=text):
                target = _target(action)
                status = await self._client.status(target)
                return target if status is not None and self._says(status, text) else Found.ABSENT
            case Say(text=text, reply_to=str() as question, follows=follows):
                parent = action.target if follows is not None else question
                return Found.ABSENT if parent is None else await self._reply(action, parent, text)
        return Found.ABSENT

    async def _reply(self, action: StoredAction, parent: str, text: str) -> str | Found:
        """Our post that replies to `parent` with these words: in its thread, then among our newest posts."""
        me = self._client.me.id
        try:
            context = dict_of(await self._client.call("status_context", parent))
            below = dicts_of(context.get("descendants"))
        except Refused as error:
            if error.rule not in _GONE:
                return Found.UNKNOWN
            below = []
        ours = [one for one in below if dict_of(one.get("account")).get("id") == me]
        found = self._same(ours, parent, text)
        if found is not None:
            return found
        # A server may show a thread late; what we posted ourselves it knows at once.
        since = action.created_at - SKEW_MS
        try:
            newest = await self._client.call("account_statuses", me, exclude_reblogs=True, limit=OWN_POSTS)
        except (Refused, Broken):
            return Found.UNKNOWN
        posts = dicts_of(newest)
        found = self._same(posts, parent, text)
        if found is not None:
            return found
        ahead = self._client.server_now() - self._clock.now()
        whole = len(posts) < OWN_POSTS or ms_of(posts[-1].get("created_at")) - ahead < since
        return Found.ABSENT if whole else Found.UNKNOWN

    def _same(self, posts: list[Mapping[str, Any]], parent: str, text: str) -> str | None:
        for one in posts:
            if text_of(one.get("in_reply_to_id")) == parent and self._says(one, text):
                return text_of(one.get("id")) or None
        return None

    def _says(self, status: Mapping[str, Any], text: str) -> bool:
        """Whether a post of ours has these words; the mention before them, and how they are set, aside."""
        html = text_of(status.get("content"))
        shown = plain(html, dicts_of(status.get("mentions")), me_id="", quoted=False)
        return _letters(shown).endswith(_letters(text))

    # -- cutting -----------------------------------------------------------------------------------

    def parts(self, text: str, reply_to: str | None) -> Parts:
        """Cut the answer to `reply_to` into posts; near the server's limit the last one says so."""
        client = self._client
        asked = None if reply_to is None else client.known(reply_to)
        if asked is None:
            taken = UNKNOWN_MENTION + audience.LONGEST_SPOILER
        else:
            taken = measure(_addressed(asked, ""), client.instance) + measure(
                _warning(asked), client.instance
            )
        soon = client.limits.low(self._clock.now())
        note = "" if soon is None else f"\n\n{wording_public.posts_nearly_spent(soon)}"
        room = client.instance.max_characters - taken - measure(note, client.instance)
        cut = render.parts(text, room, client.instance, offer=wording_public.more())
        return Parts((*cut.shown[:-1], cut.shown[-1] + note), cut.rest)


def _addressed(asked: Mapping[str, Any], text: str) -> str:
    """`text` for the author of `asked`: their mention is what delivers it to them, and to nobody else."""
    return f"@{text_of(dict_of(asked.get('account')).get('acct'))} {text}"


def _warning(asked: Mapping[str, Any]) -> str:
    return render.neutralise(audience.spoiler(asked.get("spoiler_text")))


def _letters(text: str) -> str:
    return "".join(_WORDS.findall(text)).casefold()


def _target(action: StoredAction) -> str:
    if action.target is None:
        raise Broken(f"{action.action.kind}: the post that it refers to was never made")
    return action.target
