"""The community's key is made once, kept to itself, and never replaced by accident."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from bridge.credentials import CredentialFiles
from bridge.link.key import link_key, public_text
from bridge.platform import Misconfigured

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_made_once(tmp_path: Path) -> None:
    """The next start has the same one; only its owner can read it."""
    files = CredentialFiles((tmp_path,), tmp_path)
    key = link_key(files)
    assert public_text(link_key(CredentialFiles((tmp_path,), tmp_path))) == public_text(key)
    assert len(public_text(key)) == 43
    assert stat.S_IMODE((tmp_path / "link-key").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "garbage", "A" * 42, "A" * 44, "Ä" * 43])
def test_a_damaged_one_is_not_replaced(tmp_path: Path, text: str) -> None:
    """The remedy is said, and the file stays as it is."""
    path = tmp_path / "link-key"
    path.touch(mode=0o600)
    path.write_text(text, "utf-8")
    with pytest.raises(Misconfigured, match="link-key"):
        link_key(CredentialFiles((tmp_path,), tmp_path))
    assert path.read_text("utf-8") == text


def test_one_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """Whoever has it speaks for the community."""
    link_key(CredentialFiles((tmp_path,), tmp_path))
    (tmp_path / "link-key").chmod(0o640)
    with pytest.raises(Misconfigured, match="chmod 600"):
        link_key(CredentialFiles((tmp_path,), tmp_path))
