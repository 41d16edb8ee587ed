"""The units in deploy/ and the code agree."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

from bridge import app
from models import speech

DEPLOY = Path(__file__).parent.parent / "deploy"


def service(name: str) -> configparser.SectionProxy:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have case
    unit.read_string((DEPLOY / name).read_text(encoding="utf-8"))
    return unit["Service"]


def test_the_unit_waits_longer_than_a_stop_takes() -> None:
    """systemd must not kill Hearth while it still finishes turns and empties the outbox."""
    stop = float(service("hearth.service")["TimeoutStopSec"])
    assert stop > app.TURNS_GRACE + app.OUTBOX_GRACE + 5


def test_what_strangers_send_is_decoded_where_there_is_nothing() -> None:
    """The speech unit has no network and no credentials; its command line is one that the server takes."""
    unit = service("hearth-speech.service")
    assert unit["PrivateNetwork"] == "true"
    assert unit["RestrictAddressFamilies"] == "AF_UNIX"
    assert not [key for key in unit if "Credential" in key or key == "Environment"]
    assert "/etc/hearth" in unit["InaccessiblePaths"]
    assert "/var/lib/hearth" in unit["InaccessiblePaths"]
    command = shlex.split(unit["ExecStart"])
    assert command[1:3] == ["-m", "models.speech"]
    options = speech._options(command[3:])
    assert str(options.socket).startswith(f"/run/{unit['RuntimeDirectory']}/")
