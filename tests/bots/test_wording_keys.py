"""What is said of keys that are missing: why and what helps, and no code that nobody knows."""

from __future__ import annotations

import pytest

from bots import wording_keys
from bots.base import Encryption
from bots.wording_keys import REASONS, STANDINGS

AT = 1_780_000_000_000


@pytest.mark.parametrize("code", [*REASONS, "", "m.odd", "@room <b>x</b>"])
def test_every_reason_has_something_to_do(code: str) -> None:
    """Named, told why where that is known, and never in codes."""
    said = wording_keys.unreadable("Ada", code)
    assert "`Ada`" in said
    assert said.count(".") >= 2
    assert not code or code not in said


def test_the_doctor_names_what_is_wrong_and_what_helps() -> None:
    """One line each; of many people a few."""
    well = wording_keys.doctor(Encryption("signed", 4, last_read=AT))
    assert "signed by its owner" in well
    assert "All 4 devices" in well
    assert "28 May 2026, 20:26 UTC" in well
    ill = wording_keys.doctor(
        Encryption("foreign", 4, tuple(f"@p{n}:x" for n in range(9)), unread=2, last_unread=AT)
    )
    assert "NOT signed" in ill
    assert "no key here for 2 messages" in ill
    assert "@p4:x" in ill
    assert "@p5:x" not in ill
    assert set(STANDINGS) == {"signed", "foreign", "no_password"}
