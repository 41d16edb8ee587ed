"""The index over folders of notes: what is found, what changes, what is refused; and answers from it."""

from __future__ import annotations

import os
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from bots.chat import Persona
from bots.librarian import Librarian
from bridge import notes as notes_module
from bridge.notes import LARGEST, LOOK_EVERY, Notes
from policies.room import LOOSEST
from tests.bridge.family import rule
from tests.fakes.process import FakeModel
from tests.fakes.server import ADA, MOD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.bridge.family import Start
    from tests.fakes.server import FakeServer

POOL = "# Pool\n\n## Opening hours\n\nThe pool opens at nine, from Tuesday to Sunday.\n"
QUESTION = "When does the pool open?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "city"
    folder.mkdir()
    (folder / "pool.md").write_text(POOL)
    (folder / "deep").mkdir()
    (folder / "deep" / "library.md").write_text("# Library\n\nBooks can be kept for three weeks.\n")
    return folder


@pytest.fixture
async def index(tmp_path: Path, folder: Path) -> AsyncIterator[Notes]:
    index = Notes(tmp_path / "data" / "notes.db", {"city": folder, "board": tmp_path / "board"})
    yield index
    await index.aclose()


async def found(index: Notes, question: str = QUESTION, *collections: str) -> list[str]:
    passages = await index.search(collections or ("city",), question, 5)
    return [one.source for one in passages]


async def looked_again(index: Notes) -> None:
    """As if the folders had been looked at long ago."""
    index._looked -= 2 * LOOK_EVERY


async def test_what_a_note_says_is_found_with_its_lines(index: Notes) -> None:
    """In the collections that are named, and in no other."""
    assert await found(index) == ["pool.md:3-5"]
    assert await found(index, "how long can a book be kept") == ["deep/library.md:1-3"]
    assert await found(index, QUESTION, "board") == []
    assert await index.search((), QUESTION, 5) == ()
    (passage,) = await index.search(("city",), QUESTION, 5)
    assert (passage.trail, passage.text.splitlines()[-1]) == ("Pool > Opening hours", POOL.splitlines()[-1])


async def test_changes_are_noticed(index: Notes, folder: Path) -> None:
    """New, changed, renamed and deleted notes; what is gone is not in the index's file either."""
    assert await found(index) == ["pool.md:3-5"]
    (folder / "pool.md").write_text("The swimming pool opens at noon.\n")
    assert await found(index) == ["pool.md:3-5"]  # looked at just now
    await looked_again(index)
    assert await found(index) == ["pool.md:1"]
    (folder / "pool.md").rename(folder / "bath.md")
    await looked_again(index)
    assert await found(index) == ["bath.md:1"]
    (folder / "bath.md").unlink()
    await looked_again(index)
    assert await found(index) == []


async def test_an_index_is_kept_and_made_anew(index: Notes, tmp_path: Path, folder: Path) -> None:
    """The next start goes on with it; one that is broken, or of another version, is made again."""
    assert await found(index) == ["pool.md:3-5"]
    path = tmp_path / "data" / "notes.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await index.aclose()
    for spoil in (
        lambda: None,
        lambda: path.write_bytes(b"garbage" * 1000),
        lambda: _of_another_version(path),
    ):
        spoil()
        again = Notes(path, {"city": folder})
        assert await found(again) == ["pool.md:3-5"]
        await again.aclose()


def _of_another_version(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("DROP TABLE files")
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()


async def test_what_is_no_note_is_not_read(
    index: Notes, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links, hidden files, rubbish and what is too large; the rest is found all the same."""
    secret = tmp_path / "secret.md"
    secret.write_text("The pool has a secret opening.")
    (folder / "link.md").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    (folder / ".hidden.md").write_text("The pool is hidden.")
    (folder / "binary.md").write_bytes(b"pool open \0\xff")
    (folder / "large.md").write_text("pool open\n" * (LARGEST // 10 + 1))
    (folder / "line\nbreak.md").write_text("The pool opens.")
    (folder / "latin.md").write_bytes("Das Café öffnet.".encode("latin-1"))
    (folder / "picture.png").write_text("The pool opens.")
    os.mkfifo(folder / "pipe.md")
    assert await found(index) == ["pool.md:3-5"]
    assert await found(index, "Das Caf") == ["latin.md:1"]
    real = notes_module._text

    def vanishes(path: Path) -> str:
        path.unlink()
        return real(path)

    monkeypatch.setattr(notes_module, "_text", vanishes)
    (folder / "new.md").write_text("The pool opens tomorrow.")
    await looked_again(index)
    assert await found(index) == ["pool.md:3-5"]


async def test_a_folder_that_is_not_there_is_said(index: Notes, folder: Path) -> None:
    """And a folder that appears later is read."""
    board, city = await index.state()
    assert (board.problem, board.notes) == ("there is no such folder", 0)
    assert (city.problem, city.notes, city.passages) == ("", 2, 3)
    (folder.parent / "board").mkdir()
    (folder.parent / "board" / "plan.md").write_text("# Plan")
    board, _ = await index.state()
    assert (board.problem, board.notes) == ("", 1)


@pytest.mark.parametrize(
    "question", ["", "   ", '"', "pool*", "NEAR(pool open)", "a" * 100_000, "\ud800", "pool:open"]
)
async def test_no_question_breaks_the_search(index: Notes, question: str) -> None:
    """What is syntax elsewhere is words here."""
    assert set(await found(index, question)) <= {"pool.md:1", "pool.md:3-5"}


async def test_an_answer_names_what_it_was_read_in(server: FakeServer, start: Start, index: Notes) -> None:
    """The model is given the passage as data, the asker its source; `!why` tells which notes were read."""
    model = FakeModel(["At ", "nine."])
    process = await start(bot=Librarian(Persona("Hearth", "You are Hearth.")), notes=index, model=model)
    question = server.say(f"@hearth {QUESTION}", by=ADA)
    await process.idle()
    assert server.shown()[-1].text == "At nine.\n\nFrom: `pool.md:3-5`"
    system, asked = model.read
    assert "nine" not in system
    assert asked.startswith("<notes>\nPool > Opening hours\n## Opening hours")
    assert asked.endswith(f"</notes>\nAda: {QUESTION}")
    server.say("!why", by=ADA, reply_to=question)
    await process.idle()
    assert "I read the notes `city`." in server.shown()[-1].text
    server.say("@hearth Tell me a joke", by=ADA)
    await process.idle()
    assert server.shown()[-1].text == "At nine."
    assert "<notes>" not in model.read[-1]


async def test_a_room_says_which_notes_are_read(server: FakeServer, start: Start, index: Notes) -> None:
    """What it leaves out is neither read for an answer nor shown by `!notes`."""
    model = FakeModel()
    librarian = Librarian(Persona("Hearth", "You are Hearth."))
    process = await start(bot=librarian, notes=index, model=model, policy=LOOSEST)
    server.say("!notes", by=ADA)
    server.say("!notes pool opening", by=ADA)
    await process.idle()
    listed, shown = [one.text for one in server.shown()[-2:]]
    assert "`board`, `city`" in listed
    assert shown.startswith("`pool.md:3-5`\n> ## Opening hours")
    rule(server, by=MOD, notes=["board"])
    server.say("!notes", by=ADA)
    server.say("!notes pool opening", by=ADA)
    server.say(f"@hearth {QUESTION}", by=ADA)
    server.say("!policy", by=ADA)
    await process.idle()
    listed, shown, answer, card = [one.text for one in server.shown()[-4:]]
    assert "`city`" not in listed
    assert shown == "My notes say nothing about that."
    assert answer == "Yes."
    assert "Which notes I read: `board`" in card
