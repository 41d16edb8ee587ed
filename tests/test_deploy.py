"""The unit in deploy/ and the code agree."""

from __future__ import annotations

import configparser
from pathlib import Path

from bridge import app

UNIT = Path(__file__).parent.parent / "deploy" / "hearth.service"


def test_the_unit_waits_longer_than_a_stop_takes() -> None:
    """systemd must not kill Hearth while it still finishes turns and empties the outbox."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have case
    unit.read_string(UNIT.read_text(encoding="utf-8"))
    assert float(unit["Service"]["TimeoutStopSec"]) > app.TURNS_GRACE + app.OUTBOX_GRACE + 5
