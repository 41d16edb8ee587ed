"""What a homeserver answers, read without trust: whatever it sends, these give a value. Pure."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def json_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object in `text`; empty for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def events(part: object) -> list[dict[str, Any]]:
    """The objects among the `events` of a part of a sync answer."""
    events = part.get("events") if isinstance(part, dict) else None
    return [event for event in events if isinstance(event, dict)] if isinstance(events, list) else []


def is_to_device(event: Mapping[str, Any]) -> bool:
    """Whether an object has the shape of a to-device event."""
    return (
        isinstance(event.get("type"), str)
        and isinstance(event.get("sender"), str)
        and isinstance(event.get("content"), dict)
    )


def texts(values: object) -> list[str]:
    """The strings in a list."""
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def date(header: str | None) -> int | None:
    """The `Date` of an answer (RFC 9110, section 6.6.1) in ms since the epoch; None where it is none."""
    try:
        return None if header is None else int(parsedate_to_datetime(header).timestamp()) * 1000
    except (ValueError, OverflowError, OSError):
        return None
