"""The schema of the journal, as steps that are appended and never edited.

    turns       pending --> running --> settled            actions   pending --> sent
                   ^          |  |                                      |  |
                   |          |  +----> waiting --> settled             |  +-> parked
                   +----------+  |                                      +----> withdrawn
                    (death, edit,+----> parked (three failures)
                     graceful stop)

Times are milliseconds since the Unix epoch. `text` columns and `payload` become NULL or lose
their words when they are erased; the rows stay, because they are what makes a repeated event
a repeated event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlite_utils.migrations import Migrations

if TYPE_CHECKING:
    from sqlite_utils import Database

migrations = Migrations("journal")


@migrations()
def m001_initial(db: Database) -> None:
    """Cursors, places, events, turns, actions, audit, gaps."""
    # Statement by statement: executescript() would commit the transaction that the step runs in.
    for statement in _INITIAL.split(";"):
        if statement.strip():
            db.execute(statement)


@migrations()
def m002_voice(db: Database) -> None:
    """What came with a message, which message a turn is about, and what was heard in it."""
    for statement in _VOICE:
        db.execute(statement)


@migrations()
def m003_policy(db: Database) -> None:
    """The policy document that stands in a place: JSON of its text, who set it and when."""
    db.execute(_POLICY)


@migrations()
def m004_votes(db: Database) -> None:
    """What of a place's documents is in force, how they came to be, and the votes about them."""
    for statement in _VOTES:
        db.execute(statement)


@migrations()
def m005_moved(db: Database) -> None:
    """Where a place has moved to, and who may write its documents and power levels."""
    for statement in _MOVED:
        db.execute(statement)


@migrations()
def m006_links(db: Database) -> None:
    """Link rooms, peers, what was asked over links, and the chained record of it."""
    for statement in _LINKS:
        db.execute(statement)


@migrations()
def m007_ratchet(db: Database) -> None:
    """At which index of which Megolm session an event was encrypted: nobody sends that twice."""
    for statement in _RATCHET:
        db.execute(statement)


@migrations()
def m008_trust(db: Database) -> None:
    """What vouches for the device that encrypted an event (`policies.room.Trust`)."""
    db.execute("ALTER TABLE events ADD COLUMN trust TEXT NOT NULL DEFAULT 'unsigned'")


_INITIAL = """
CREATE TABLE cursors (
    account TEXT PRIMARY KEY,
    cursor TEXT,
    moved_at INTEGER NOT NULL
) STRICT;

CREATE TABLE places (
    account TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    joined INTEGER NOT NULL,
    must_encrypt INTEGER NOT NULL,
    default_power INTEGER NOT NULL,
    members TEXT NOT NULL,
    PRIMARY KEY (account, id)
) STRICT;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    id TEXT NOT NULL,
    place TEXT NOT NULL,
    kind TEXT NOT NULL,
    sender TEXT NOT NULL,
    sender_name TEXT NOT NULL,
    sender_power INTEGER NOT NULL,
    sender_is_bot INTEGER NOT NULL,
    text TEXT,
    sealed TEXT,
    sent_at INTEGER NOT NULL,
    age_ms INTEGER NOT NULL,
    admitted_at INTEGER NOT NULL,
    relates_to TEXT,
    reply_to TEXT,
    thread TEXT,
    own INTEGER NOT NULL,
    context_only INTEGER NOT NULL,
    key TEXT,
    control TEXT,
    handled_at INTEGER,
    UNIQUE (account, id)
) STRICT;
CREATE INDEX events_of_place ON events (account, place, seq);
CREATE INDEX events_related ON events (account, relates_to) WHERE relates_to IS NOT NULL;
CREATE INDEX events_sealed ON events (account) WHERE sealed IS NOT NULL;
CREATE INDEX events_unhandled ON events (seq) WHERE control IS NOT NULL AND handled_at IS NULL;
CREATE INDEX events_with_text ON events (admitted_at) WHERE text IS NOT NULL OR sealed IS NOT NULL;

CREATE TABLE turns (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    place TEXT NOT NULL,
    thread TEXT,
    lane TEXT NOT NULL,
    kind TEXT NOT NULL,
    bot TEXT NOT NULL,
    cause TEXT NOT NULL,
    message TEXT NOT NULL,
    asker TEXT NOT NULL,
    parent INTEGER REFERENCES turns (id),
    state TEXT NOT NULL,
    outcome TEXT,
    code TEXT,
    rule TEXT,
    params TEXT NOT NULL DEFAULT '{}',
    remedy TEXT NOT NULL DEFAULT '',
    features TEXT NOT NULL DEFAULT '{}',
    revision INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    claimed_at INTEGER,
    settled_at INTEGER,
    wait_until INTEGER,
    wait_state TEXT,
    UNIQUE (account, cause)
) STRICT;
CREATE INDEX turns_open ON turns (state, id) WHERE state IN ('pending', 'running', 'waiting');
CREATE INDEX turns_by_asker ON turns (account, asker, created_at);
CREATE INDEX turns_by_place ON turns (account, place, created_at);
CREATE INDEX turns_by_message ON turns (account, message);
CREATE INDEX turns_by_parent ON turns (parent) WHERE parent IS NOT NULL;
CREATE INDEX turns_parked ON turns (id) WHERE state = 'parked';

CREATE TABLE actions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL,
    place TEXT NOT NULL,
    turn INTEGER REFERENCES turns (id),
    kind TEXT NOT NULL,
    role TEXT NOT NULL,
    idx INTEGER NOT NULL,
    payload TEXT NOT NULL,
    target TEXT,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    remote_id TEXT,
    device TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    done_at INTEGER,
    possible_duplicates INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX actions_pending ON actions (account, place, seq) WHERE state = 'pending';
CREATE INDEX actions_parked ON actions (seq) WHERE state = 'parked';
CREATE INDEX actions_of_turn ON actions (turn);
CREATE INDEX actions_by_remote_id ON actions (account, remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX actions_by_target ON actions (target) WHERE target IS NOT NULL;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    account TEXT NOT NULL,
    place TEXT NOT NULL,
    cause TEXT NOT NULL,
    actor TEXT NOT NULL,
    deed TEXT NOT NULL,
    allowed INTEGER NOT NULL,
    code TEXT NOT NULL,
    rule TEXT NOT NULL,
    params TEXT NOT NULL
) STRICT;

CREATE TABLE gaps (
    account TEXT NOT NULL,
    place TEXT NOT NULL,
    since TEXT NOT NULL,
    reason TEXT NOT NULL,
    found_at INTEGER NOT NULL,
    PRIMARY KEY (account, place, since)
) STRICT
"""

_VOICE = (
    "ALTER TABLE events ADD COLUMN attachments TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE turns ADD COLUMN about TEXT",
    "ALTER TABLE turns ADD COLUMN unasked INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX turns_about ON turns (account, about) WHERE about IS NOT NULL",
    """CREATE TABLE transcripts (
        account TEXT NOT NULL,
        event TEXT NOT NULL,
        transcript TEXT NOT NULL,
        made_at INTEGER NOT NULL,
        PRIMARY KEY (account, event)
    ) STRICT""",
    # Whatever erases the words of a message erases what was heard in it and the keys to its file.
    """CREATE TRIGGER transcripts_erased AFTER UPDATE OF text ON events WHEN new.text IS NULL BEGIN
        DELETE FROM transcripts WHERE account = new.account AND event = new.id;
        UPDATE events SET attachments = '[]' WHERE seq = new.seq;
    END""",
)

_POLICY = "ALTER TABLE places ADD COLUMN policy TEXT"

_VOTES = (
    # `policy` is the document as it stands in the place; `held` what of it is in force, `base` the limits
    # that the next document is measured by, `grants` what is in force with peers: [[peer, standing], ...].
    "ALTER TABLE places ADD COLUMN held TEXT",
    "ALTER TABLE places ADD COLUMN base TEXT",
    "ALTER TABLE places ADD COLUMN grants TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE places ADD COLUMN policy_power INTEGER NOT NULL DEFAULT 50",
    "UPDATE places SET held = policy",
    """CREATE TABLE documents (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL,
        place TEXT NOT NULL,
        peer TEXT NOT NULL,
        text TEXT NOT NULL,
        set_by TEXT NOT NULL,
        set_at INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX documents_of_place ON documents (account, place, peer, seq)",
    """CREATE TABLE votes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL,
        place TEXT NOT NULL,
        cause TEXT NOT NULL,
        proposer TEXT NOT NULL,
        matter TEXT NOT NULL,
        changes TEXT NOT NULL,
        grant_text TEXT,
        mode TEXT NOT NULL,
        ratio INTEGER NOT NULL,
        voters TEXT NOT NULL,
        opened_at INTEGER NOT NULL,
        due INTEGER NOT NULL,
        extended INTEGER NOT NULL DEFAULT 0,
        poll_key TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '',
        tally TEXT,
        policy_text TEXT,
        closed_at INTEGER,
        UNIQUE (account, cause)
    ) STRICT""",
    "CREATE UNIQUE INDEX votes_open ON votes (account, place, matter) WHERE state IN ('open', 'extended')",
    """CREATE TABLE brakes (
        account TEXT NOT NULL,
        place TEXT NOT NULL,
        peer TEXT NOT NULL,
        member TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (account, place, peer, member)
    ) STRICT""",
    # What a question was about goes with its words.
    """CREATE TRIGGER features_erased AFTER UPDATE OF text ON events WHEN new.text IS NULL BEGIN
        UPDATE turns SET features = json_remove(features, '$.screened', '$.names')
        WHERE account = new.account AND message = new.id;
    END""",
    """CREATE TABLE stopped (
        account TEXT NOT NULL,
        place TEXT NOT NULL,
        peer TEXT NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (account, place, peer)
    ) STRICT""",
    """CREATE TABLE reminders (
        account TEXT NOT NULL,
        place TEXT NOT NULL,
        peer TEXT NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (account, place, peer, until)
    ) STRICT""",
)

_MOVED = (
    "ALTER TABLE places ADD COLUMN levels_power INTEGER NOT NULL DEFAULT 100",
    "ALTER TABLE places ADD COLUMN ruled_by_members INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE places ADD COLUMN moved_to TEXT NOT NULL DEFAULT ''",
)

_LINKS = (
    # JSON list of the peers that are there; NULL: no link room.
    "ALTER TABLE places ADD COLUMN links TEXT",
    """CREATE TABLE peers (
        account TEXT NOT NULL,
        peer TEXT NOT NULL,
        wanted_in TEXT NOT NULL DEFAULT '',
        name TEXT NOT NULL DEFAULT '',
        about TEXT NOT NULL DEFAULT '',
        shown_key TEXT NOT NULL DEFAULT '',
        capabilities TEXT NOT NULL DEFAULT '[]',
        languages TEXT NOT NULL DEFAULT '[]',
        card_at INTEGER NOT NULL DEFAULT 0,
        theirs TEXT NOT NULL DEFAULT '',
        newest INTEGER NOT NULL DEFAULT 0,
        told_card TEXT NOT NULL DEFAULT '',
        told_grant TEXT NOT NULL DEFAULT '',
        refused_at INTEGER,
        PRIMARY KEY (account, peer)
    ) STRICT""",
    # `signed`, `reply`: JSON list of signed headers (never words), the last that of the envelope itself.
    """CREATE TABLE asks (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL,
        peer TEXT NOT NULL,
        id TEXT NOT NULL,
        ours INTEGER NOT NULL,
        digest TEXT NOT NULL,
        room_ref TEXT NOT NULL,
        place TEXT NOT NULL,
        person TEXT NOT NULL,
        turn INTEGER REFERENCES turns (id),
        class TEXT NOT NULL,
        share TEXT NOT NULL,
        hops INTEGER NOT NULL,
        iat INTEGER NOT NULL,
        exp INTEGER NOT NULL,
        key TEXT NOT NULL,
        state TEXT NOT NULL,
        signed TEXT NOT NULL,
        reply TEXT,
        closed_at INTEGER,
        UNIQUE (account, peer, ours, id)
    ) STRICT""",
    "CREATE INDEX asks_open ON asks (account, digest) WHERE state = 'open'",
    "CREATE INDEX asks_of_peer ON asks (account, peer, ours, iat)",
    "CREATE INDEX asks_of_turn ON asks (turn)",
    """CREATE TABLE seen (
        account TEXT NOT NULL,
        peer TEXT NOT NULL,
        id TEXT NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (account, peer, id)
    ) STRICT""",
    "CREATE INDEX seen_until ON seen (account, until)",
    """CREATE TABLE crossings (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        account TEXT NOT NULL,
        peer TEXT NOT NULL,
        place TEXT NOT NULL,
        way TEXT NOT NULL,
        kind TEXT NOT NULL,
        envelope TEXT NOT NULL,
        digest TEXT NOT NULL,
        allowed INTEGER NOT NULL,
        code TEXT NOT NULL,
        rule TEXT NOT NULL,
        policy TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        prev TEXT NOT NULL,
        hash TEXT NOT NULL
    ) STRICT""",
    "CREATE TRIGGER crossings_stay BEFORE UPDATE ON crossings BEGIN SELECT RAISE(ABORT, 'append only'); END",
    "CREATE TRIGGER crossings_last BEFORE DELETE ON crossings BEGIN SELECT RAISE(ABORT, 'append only'); END",
)

_RATCHET = (
    "ALTER TABLE events ADD COLUMN ratchet TEXT",
    "CREATE UNIQUE INDEX events_ratchet ON events (account, ratchet) WHERE ratchet IS NOT NULL",
)
