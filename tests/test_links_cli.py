"""`hearth links`: who is known, what is agreed, what crossed, the proof of it, and the operator's switch."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bots.conversation import Place
from bots.keywords import key_words
from bridge import cli
from bridge.journal import Admission, Journal, crossings, links
from bridge.journal.crossings import Crossing
from bridge.link.bodies import Card
from bridge.platform import Batch, PlaceFacts
from policies.document import Standing
from policies.grant import DAY_MS
from tests.link.samples import CITY, CLUB, PINNED

US, LINK = "@hearth:home.example", "!link:home.example"
NOW = time.time_ns() // 1_000_000
ROOM_RULES = {
    "v": 1,
    "mode": "admin",
    "ask_peers": [CITY],
    "classes_out": ["general"],
    "answer_peers": [CITY],
    "classes_in": ["general"],
}
CARD = Card(
    name="Mill \u202eCity",
    description="Opening hours,\nwaste.",
    key=PINNED[CITY],
    capabilities=("answers", "information"),
    languages=("en", "nl"),
)
OUT = Crossing(
    at=1_800_000_000_000,
    peer=CITY,
    place=LINK,
    way="out",
    kind="ask",
    envelope="0" * 22,
    digest="d" * 64,
    allowed=True,
    code="allowed",
    rule="grant.classes",
    policy="$poll",
    bytes=900,
)
REFUSED = replace(
    OUT, at=OUT.at + 1000, peer=CLUB, way="in", allowed=False, code="no_grant", rule="grant.missing"
)
ROWS = (
    f"2027-01-15 08:00:01  in  {CLUB}  ask  refused  no_grant  grant.missing  900 bytes",
    f"2027-01-15 08:00:00  out  {CITY}  ask  allowed  allowed  grant.classes  900 bytes",
)


def grant(peer: str, key: str, **fields: object) -> str:
    usual = {
        "v": 1, "peer": peer, "app_ed25519": key, "direction": "ask", "classes": ["general"],
        "not_before": NOW - DAY_MS, "until": NOW + DAY_MS, "status": "active", "decided_by": "$poll",
    }  # fmt: skip
    return json.dumps(usual | fields)


async def _fill(path: Path) -> None:
    """A family that is linked with the city, has an ended grant for the club, and two crossings."""
    path.parent.mkdir(parents=True)
    journal = await Journal.open(path)
    grants = (
        (CITY, Standing(grant(CITY, PINNED[CITY]), "@mod:home.example", NOW)),
        (CLUB, Standing(grant(CLUB, PINNED[CITY], until=NOW - 1), "@mod:home.example", NOW)),
    )
    family = Place(
        US, "!family:home.example", name="Family",
        policy=Standing(json.dumps(ROOM_RULES), "@mod:home.example", NOW), grants=grants,
    )  # fmt: skip
    places = (PlaceFacts(family), PlaceFacts(Place(US, LINK), links=(CITY,)))
    await journal.admit(Batch(US, "1", places=places), lambda *_: Admission(), NOW)
    theirs = grant(US.removeprefix("@"), PINNED[CLUB], direction="answer", status="trial")

    def known(db: sqlite3.Connection) -> None:
        links._card(db, US, CITY, CARD, NOW)
        links._upsert(db, US, CITY, theirs=theirs)
        links._card(db, US, CLUB, CARD.model_copy(update={"key": PINNED[CLUB], "name": "Club"}), NOW)
        for one in (OUT, REFUSED):
            crossings.append(db, US, one)

    await journal._store.write(known)
    await journal.close()


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("HEARTH_", "CREDENTIALS_DIRECTORY")):
            monkeypatch.delenv(name)
    Path("hearth.toml").write_text(
        'data_dir = "data"\n[matrix]\nhomeserver = "http://localhost:8008"\n'
        f'user = "{US}"\nallow = ["home.example"]\n'
    )
    asyncio.run(_fill(Path("data/hearth.db")))
    return Path("data/hearth.db")


def _hearth(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["links", *arguments], prog_name="hearth")


def _beside(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, as beside a running bot."""
    return subprocess.run(
        [sys.executable, "-m", "bridge", "links", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _tamper(database: Path, *changes: str) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        for trigger in ("crossings_stay", "crossings_last"):
            db.execute(f"DROP TRIGGER {trigger}")
        for change in changes:
            db.execute(change)


# -- who is known ----------------------------------------------------------------------------------


def _told(text: str) -> dict[str, list[str]]:
    """The lines of `list` below each address, the rest of its own line first."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.startswith(" "):
            name, _, rest = line.partition("  ")
            found[name] = lines = [rest]
        else:
            lines.append(line.strip())
    return found


def _key(peer: str) -> str:
    return f"`{' '.join(key_words(PINNED[peer]))}`  {PINNED[peer]}"


def test_each_peer_is_listed_with_its_key_and_with_what_each_side_allows() -> None:
    """The linked one and the one that only wrote; whose key differs is said, and what has ended."""
    done = _hearth("list")
    assert done.exit_code == 0, done.stderr
    told = _told(done.stdout)
    assert list(told) == [CITY, CLUB]
    ours, theirs = told[CITY][3:]
    assert told[CITY][:3] == [
        "Mill City  (linked)",
        f"shows the key: {_key(CITY)}",
        f"pinned is: {_key(CITY)}",
    ]
    assert ours.startswith("Family: we may ask them, about general knowledge, until ")
    assert theirs.startswith("its grant for us: we may ask them, about general knowledge, on trial until ")
    assert told[CLUB][:2] == ["Club  (not linked)", f"shows the key: {_key(CLUB)}"]
    assert "THE KEY IT SHOWS IS NOT THE PINNED ONE" in told[CLUB][3]
    assert told[CLUB][4].startswith("Family: ended: we may ask them, ")
    assert len(told[CLUB]) == 5


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        ("answer", "we may ask them"),
        ("ask", "they may ask us"),
        ("both", "we may ask each other"),
    ],
)
def test_what_a_peer_allows_is_told_from_our_side(database: Path, theirs: str, told: str) -> None:
    """The peer writes of itself: where it answers, we ask."""
    text = grant(US.removeprefix("@"), PINNED[CLUB], direction=theirs)
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE peers SET theirs = ? WHERE peer = ?", [text, CITY])
    assert f"its grant for us: {told}, about" in _hearth("show", CITY).stdout


def test_one_peer_is_shown_as_it_is_listed() -> None:
    """With or without its `@`; of one who is unknown it says so, and ends with 1."""
    done = _hearth("show", f"@{CITY}")
    assert done.exit_code == 0
    assert _told(done.stdout) == {CITY: _told(_hearth("list").stdout)[CITY]}
    unknown = _hearth("show", "bot:nowhere.example")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "`hearth links list` shows all" in unknown.stderr


def test_programs_read_the_same_as_json() -> None:
    """`--json` has the grants as they were written, times in ms."""
    city, club = json.loads(_hearth("list", "--json").stdout)
    assert json.loads(_hearth("show", CITY, "--json").stdout) == city
    assert (city["address"], city["linked"], city["refused"], city["pinned"]) == (
        CITY,
        True,
        False,
        PINNED[CITY],
    )
    (ours,) = city["ours"]
    assert (ours["room"], ours["grant"]["until"]) == ("Family", NOW + DAY_MS)
    assert city["theirs"]["direction"] == "answer"
    assert (club["linked"], club["key"], club["theirs"]) == (False, PINNED[CLUB], None)


def test_nothing_that_steers_a_terminal_reaches_it(database: Path) -> None:
    """What a stranger calls itself neither clears the screen nor turns the line round nor makes one more."""
    name = "a\x1b[2J\u202eb\n  pinned is: x"
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE peers SET name = ? WHERE peer = ?", [name, CITY])
    assert _told(_hearth("list").stdout)[CITY][0] == "a[2Jb pinned is: x  (linked)"
    assert "\\u001b[2J\\u202eb\\n" in _hearth("list", "--json").stdout


def test_a_grant_that_cannot_be_read_is_said(database: Path) -> None:
    """It allows nothing, as one that is for somebody else; a time that no calendar has is no error."""
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE peers SET theirs = ? WHERE peer = ?", [grant("x:y.example", ""), CITY])
        far = grant(US.removeprefix("@"), PINNED[CLUB], not_before=2**53 - 1, until=2**53)
        db.execute("UPDATE peers SET theirs = ? WHERE peer = ?", [far, CLUB])
    told = _told(_hearth("list").stdout)
    assert "its grant for us: nothing, because it cannot be read" in told[CITY][4]
    assert told[CLUB][5].endswith("until an unknown day")


def test_without_any_peer_it_says_how_to_begin(database: Path) -> None:
    """The first step, instead of nothing."""
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("DELETE FROM peers")
        db.execute("UPDATE places SET grants = '[]', links = NULL")
    assert "say `!link @bot:city.example`" in _hearth("list").stdout


# -- what crossed ----------------------------------------------------------------------------------


def test_what_crossed_is_shown_newest_first() -> None:
    """Allowed and refused, with the rule; of all peers or of one, as many as are wanted."""
    assert _hearth("audit").stdout.splitlines() == [*ROWS]
    assert _hearth("audit", CITY).stdout.splitlines() == [ROWS[1]]
    assert _hearth("audit", "--limit", "1").stdout.splitlines() == [ROWS[0]]
    told = json.loads(_hearth("audit", "--json").stdout)
    assert [Crossing(**one) for one in told] == [REFUSED, OUT]


def test_a_whole_record_is_proven_with_its_head() -> None:
    """The hash that is printed is found again, the way people paste it; another one is missed."""
    done = _hearth("verify")
    assert done.exit_code == 0
    words, _, head = done.stdout.strip().rpartition(" ")
    assert words == "2 crossings, the chain is whole, head"
    assert len(head) == 64
    again = _hearth("verify", "--head", f" {head.upper()}")
    assert (again.exit_code, "still has" in again.stdout) == (0, True)
    other = _hearth("verify", "--head", "0" * 64)
    assert (other.exit_code, other.stdout) == (1, done.stdout)
    assert f"NO LONGER HAS the hash {'0' * 64}" in other.stderr


@pytest.mark.parametrize(
    ("change", "row"),
    [
        ("UPDATE crossings SET allowed = 1 WHERE seq = 2", 2),
        ("UPDATE crossings SET bytes = 901 WHERE seq = 1", 1),
        ("DELETE FROM crossings WHERE seq = 1", 2),
    ],
)
def test_a_record_that_was_tampered_with_is_not_proven(database: Path, change: str, row: int) -> None:
    """The row where it breaks is named, and the status is 1."""
    _tamper(database, change)
    done = _hearth("verify")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"BROKEN at entry {row}:" in done.stderr


def test_a_record_that_was_cut_off_is_missed_by_its_noted_head(database: Path) -> None:
    """What no chain notices by itself."""
    head = _hearth("verify").stdout.split()[-1]
    assert json.loads(_hearth("verify", "--json").stdout)["head"] == head
    _tamper(database, "DELETE FROM crossings WHERE seq = 2")
    assert _hearth("verify").exit_code == 0
    assert _hearth("verify", "--head", head).exit_code == 1


def test_an_empty_record_is_whole(database: Path) -> None:
    """Nothing has crossed yet."""
    _tamper(database, "DELETE FROM crossings")
    assert _hearth("verify").stdout == "0 crossings, the chain is whole, head (empty)\n"
    assert _hearth("audit").stdout == "Nothing has crossed yet.\n"


# -- the switch ------------------------------------------------------------------------------------


def test_the_operator_refuses_and_allows_beside_a_running_bot(database: Path) -> None:
    """Another process that has the journal open sees it with its next look."""

    async def both() -> None:
        journal = await Journal.open(database)
        try:
            done = await asyncio.to_thread(_beside, "revoke", f"@{CITY}")
            assert (done.returncode, done.stderr) == (0, "")
            assert f"`hearth links allow {CITY}`" in done.stdout
            assert await journal.refused_peers(US) == {CITY}
            listed = await asyncio.to_thread(_beside, "list")
            assert f"{CITY}  Mill City  (REFUSED by whoever runs this)" in listed.stdout
            again = await asyncio.to_thread(_beside, "revoke", CITY)
            assert again.returncode == 0
            done = await asyncio.to_thread(_beside, "allow", CITY)
            assert done.stdout == f"What rooms have decided about {CITY} counts again.\n"
            assert await journal.refused_peers(US) == frozenset()
        finally:
            await journal.close()

    asyncio.run(both())


def test_refusing_twice_keeps_the_time_of_the_first(database: Path) -> None:
    """Since when it holds is what an operator looks for afterwards."""
    assert _hearth("revoke", CITY).exit_code == 0
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE peers SET refused_at = 5 WHERE peer = ?", [CITY])
    assert _hearth("revoke", CITY).exit_code == 0
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("SELECT refused_at FROM peers WHERE peer = ?", [CITY]).fetchone() == (5,)


def test_a_peer_that_nobody_knows_can_be_refused_beforehand_and_a_slip_is_said() -> None:
    """An address that is mistyped would refuse nobody: what is unknown is said, what is none is not taken."""
    done = _hearth("revoke", "bot:nowhere.example")
    assert done.exit_code == 0
    assert "is the address right?" in done.stderr
    assert _told(_hearth("list").stdout)["bot:nowhere.example"] == ["  (REFUSED by whoever runs this)"]
    slip = _hearth("revoke", "city")
    assert (slip.exit_code, "bot:server" in slip.stderr) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["show", CITY], ["audit"], ["verify"], ["revoke", CITY], ["allow", CITY]],
    ids=lambda one: one[0],
)
def test_without_an_account_or_a_journal_it_says_what_to_do(database: Path, arguments: list[str]) -> None:
    """One line and status 78, and no empty journal is made."""
    database.rename("away.db")
    done = _hearth(*arguments)
    assert (done.exit_code, "there is no journal yet" in done.stderr) == (78, True)
    assert not database.exists()
    Path("away.db").rename(database)
    Path("hearth.toml").write_text('data_dir = "data"\n')
    done = _hearth(*arguments)
    assert (done.exit_code, done.stderr.startswith("hearth: ")) == (78, True)
