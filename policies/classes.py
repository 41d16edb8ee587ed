"""Classes of questions: what kind of thing would leave a room."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Class(StrEnum):
    """What a question is about; `SENSITIVE` ones leave a room only where a document names them."""

    GENERAL = "general"
    """Anybody could ask it anywhere."""
    LOCAL_KNOWLEDGE = "local-knowledge"
    """Opening hours, timetables, how things are done here."""
    SHARED_NOTES = "shared-notes"
    """What stands in the notes that a community shares."""
    HEALTH = "health"
    CHILDREN = "children"
    LOCATION = "location"
    """Where somebody lives or is."""


SENSITIVE: Final = frozenset({Class.HEALTH, Class.CHILDREN, Class.LOCATION})
