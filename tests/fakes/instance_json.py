"""What a server knows, as the API writes it: the entities of https://docs.joinmastodon.org/entities/."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.instance_state import iso

if TYPE_CHECKING:
    from tests.fakes.instance_state import Account, Json, Media, Notification, State, Status


class Writer:
    """Entities of one server."""

    def __init__(self, state: State) -> None:
        self._state = state

    def account(self, account: Account, *, source: bool = False) -> Json:
        """https://docs.joinmastodon.org/entities/Account/, /entities/Account/#CredentialAccount."""
        written: Json = {
            "id": account.id,
            "username": account.name,
            "acct": account.acct,
            "display_name": account.name.capitalize(),
            "locked": False,
            "bot": account.bot,
            "group": False,
            "created_at": iso(self._state.now()),
            "note": self._state.html(account.note),
            "url": account.url,
            "emojis": [],
            "fields": [],
        }
        if source:
            written["source"] = {
                "privacy": "public",
                "sensitive": False,
                "language": "",
                "note": account.note,
            }
        return written

    def status(self, status: Status, viewer: Account | None) -> Json:
        """https://docs.joinmastodon.org/entities/Status/."""
        parent = status.reply_to
        shown_parent = None if parent is None or parent.gone else parent
        del viewer  # nothing here depends on it: favourites and the like are left out
        return {
            "id": status.id,
            "created_at": iso(status.created_at),
            "edited_at": None if status.edited_at is None else iso(status.edited_at),
            "in_reply_to_id": None if shown_parent is None else shown_parent.id,
            "in_reply_to_account_id": None if shown_parent is None else shown_parent.author.id,
            "sensitive": bool(status.spoiler),
            "spoiler_text": status.spoiler,
            "visibility": status.visibility,
            "language": status.language,
            "uri": f"{self._state.url}/statuses/{status.id}",
            "url": f"{status.author.url}/{status.id}",
            "content": self._state.html(status.text),
            "reblog": None,
            "quote": None,
            "application": {"name": "Web", "website": None},
            "account": self.account(status.author),
            "media_attachments": [self.media(one) for one in status.media],
            "mentions": [
                {"id": one.id, "username": one.name, "url": one.url, "acct": one.acct}
                for one in status.mentions
            ],
            "tags": [],
            "emojis": [],
            "card": None,
            "poll": self._poll(status),
            "filtered": [],
        }

    def _poll(self, status: Status) -> Json | None:
        """https://docs.joinmastodon.org/entities/Poll/."""
        if not status.poll:
            return None
        options = [{"title": title, "votes_count": 0} for title in status.poll]
        return {"id": status.id, "expired": False, "multiple": False, "votes_count": 0, "options": options}

    def media(self, media: Media) -> Json:
        """https://docs.joinmastodon.org/entities/MediaAttachment/; `url` is null while it is processed."""
        kind = media.kind or media.media_type.partition("/")[0]
        original = {} if media.duration is None else {"duration": media.duration}
        return {
            "id": media.id,
            "type": kind if kind in ("image", "video", "gifv", "audio") else "unknown",
            "url": media.url,
            "preview_url": None,
            "remote_url": media.remote_url,
            "meta": {"original": original},
            "description": media.description or None,
            "blurhash": None,
        }

    def notification(self, made: Notification) -> Json:
        """https://docs.joinmastodon.org/entities/Notification/."""
        return {
            "id": made.id,
            "type": made.kind,
            "created_at": iso(made.at),
            "group_key": f"ungrouped-{made.id}",
            "account": self.account(made.by),
            "status": None if made.status is None else self.status(made.status, made.to),
        }

    def instance(self, version: str) -> Json:
        """https://docs.joinmastodon.org/entities/V2_Instance/, /entities/V1_Instance/."""
        state, differs = self._state, self._state.differs
        configuration = {
            "statuses": {
                "max_characters": differs.max_characters,
                "max_media_attachments": 4,
                "characters_reserved_per_url": 23,
            },
            "media_attachments": {"description_limit": 1500, "video_size_limit": 103_809_024},
        }
        stream = f"ws{state.url.removeprefix('http')}" if differs.streaming else ""
        if version == "v1":
            urls = {"streaming_api": stream} if stream else {}
            about = {"uri": state.domain, "title": "Loopback", "version": differs.version, "urls": urls}
            return about | {"configuration": configuration}
        urls = {"streaming": stream} if stream else {}
        told: Json = {
            "domain": state.domain,
            "title": "Loopback",
            "version": differs.version,
            "source_url": differs.source_url,
            "configuration": {"urls": urls, **configuration},
        }
        if differs.api_version is not None:
            told["api_versions"] = {"mastodon": differs.api_version}
        return told
