# SPDX-License-Identifier: Apache-2.0
"""Jobs and their events in SQLite; the one thing that survives any crash.

One connection belongs to one thread. The broker writes; the data thread only reads.
"""

import json
import sqlite3
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path

from crowdgaussian_shared.errors import DamagedFileError
from crowdgaussian_shared.formats.json_fields import Field
from crowdgaussian_shared.protocol.codec import from_field
from crowdgaussian_shared.protocol.messages import ENDED, Artifact, Event, JobState, Progress

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs(
    job TEXT PRIMARY KEY, owner TEXT, state TEXT, key TEXT, photo_name TEXT, photo_bytes INTEGER,
    photo_blake2b TEXT, preset TEXT, settings TEXT, created REAL, changed REAL, queued REAL,
    progress TEXT, error TEXT, last_seq INTEGER, attempts INTEGER, edit TEXT DEFAULT '');
CREATE INDEX IF NOT EXISTS jobs_state ON jobs(state, queued);
CREATE INDEX IF NOT EXISTS jobs_key ON jobs(key);
CREATE INDEX IF NOT EXISTS jobs_owner ON jobs(owner, created);
CREATE TABLE IF NOT EXISTS events(
    job TEXT, seq INTEGER, body TEXT, PRIMARY KEY(job, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS artifacts(
    job TEXT, name TEXT, blake2b TEXT, size INTEGER, newest INTEGER,
    PRIMARY KEY(job, name, blake2b)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results(
    key TEXT PRIMARY KEY, bytes INTEGER, complete INTEGER, artifacts TEXT);
"""
VERSION = 2  # of the schema
OWNERS = 1024  # whose turns are remembered, as many as may be connected
KEYED, LOCAL = "key:", "local:"  # owners begin so
ACTIVE = ("uploading", "queued", "running")


@dataclass(frozen=True)
class JobRow:
    """One job as stored."""

    job: str
    owner: str
    state: JobState
    key: str  # of its result, see result_key.py
    photo_name: str
    photo_bytes: int
    photo_blake2b: str
    preset: str
    settings: dict[str, str]
    created: float
    changed: float
    queued: float = 0.0  # when it joined the queue, which is its place in it
    progress: Progress = field(default_factory=Progress)
    error: str = ""
    last_seq: int = 0
    attempts: int = 0  # how often a worker has started it
    edit: str = ""  # corrections of the result, as in SUBMIT

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def keyed(self) -> bool:
        """Whether its owner showed a key, and is not just on this computer."""
        return self.owner.startswith(KEYED)


class Store:
    """The database of one service."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=10.0)
        self._db.row_factory = sqlite3.Row
        self._begun: dict[str, int] = {}  # by owner, the newest last; forgotten with the process
        self._count = count(1)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            raise DamagedFileError(
                f"{path} cannot be used ({error}); move it away, or choose another --data."
            ) from error

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        version = self._value("PRAGMA user_version")
        if version not in (0, 1, VERSION):
            raise sqlite3.DatabaseError(f"version {version}, this program knows {VERSION}")
        if version == 1:  # from before there were edits
            self._db.execute("ALTER TABLE jobs ADD COLUMN edit TEXT DEFAULT ''")
        self._db.executescript(_SCHEMA)
        if version != VERSION:  # nothing is written where the disk may be full
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        self._db.close()

    def put(self, row: JobRow) -> None:
        """Inserts a job, or replaces its row."""
        record = asdict(row) | {
            "settings": json.dumps(row.settings),
            "progress": json.dumps(asdict(row.progress)),
        }
        marks = ", ".join(f":{name}" for name in record)
        with self._db:
            self._db.execute(
                f"INSERT OR REPLACE INTO jobs({', '.join(record)}) VALUES ({marks})", record
            )

    def get(self, job: str) -> JobRow | None:
        rows = self._rows("SELECT * FROM jobs WHERE job = ?", job)
        return rows[0] if rows else None

    def in_state(self, *states: str) -> list[JobRow]:
        """All jobs in these states, the longest waiting first."""
        marks = ", ".join("?" * len(states))
        return self._rows(
            f"SELECT * FROM jobs WHERE state IN ({marks}) ORDER BY queued, created", *states
        )

    def of_owner(self, owner: str, limit: int = 100) -> list[JobRow]:
        """An owner's jobs, newest first."""
        return self._rows(
            "SELECT * FROM jobs WHERE owner = ? ORDER BY created DESC LIMIT ?", owner, limit
        )

    def with_key(self, key: str) -> list[JobRow]:
        """All jobs that share one result."""
        return self._rows("SELECT * FROM jobs WHERE key = ?", key)

    def has_sent(self, owner: str, photo_blake2b: str) -> bool:
        """Whether a job of this owner got as far as its photo being here and checked."""
        query = (
            "SELECT EXISTS(SELECT 1 FROM jobs WHERE owner = ? AND photo_blake2b = ? AND "
            "(queued > 0 OR state = 'done'))"
        )
        return bool(self._value(query, owner, photo_blake2b))

    def ended_before(self, moment: float) -> list[JobRow]:
        """Jobs that ended before a moment (seconds since 1970), the oldest first."""
        marks = ", ".join("?" * len(ENDED))
        return self._rows(
            f"SELECT * FROM jobs WHERE state IN ({marks}) AND changed < ? ORDER BY changed",
            *ENDED,
            moment,
        )

    def count_active(self, owner: str | None = None) -> int:
        """Jobs that are not over yet, of one owner or of all."""
        marks = ", ".join("?" * len(ACTIVE))
        query = f"SELECT count(*) FROM jobs WHERE state IN ({marks})"
        if owner is None:
            return self._value(query, *ACTIVE)
        return self._value(query + " AND owner = ?", *ACTIVE, owner)

    def turns(self) -> list[str]:
        """The ids of all queued jobs, the next one first.

        Owners take turns: whoever has fewer jobs at work and before this one comes first, among
        equals whoever had none begun for longest, and then whoever has waited longest.
        """
        rows = self._db.execute(
            "SELECT job, owner, state FROM jobs WHERE state IN ('running', 'queued') "
            "ORDER BY state = 'queued', queued, created"
        )
        before: Counter[str] = Counter()
        turns = []
        for job, owner, state in rows:
            if state == "queued":
                turns.append((before[owner], self._begun.get(owner, 0), job))
            before[owner] += 1
        return [job for *_, job in sorted(turns, key=lambda turn: turn[:2])]

    def begin(self, owner: str) -> None:
        """A job of this owner is begun, which is behind others now."""
        self._begun.pop(owner, None)
        self._begun[owner] = next(self._count)
        while len(self._begun) > OWNERS:
            self._begun.pop(next(iter(self._begun)))

    def position(self, row: JobRow) -> int:
        """Place in the queue, 1 is next; 0 when it is not queued."""
        turns = self.turns() if row.state == "queued" else []
        return 1 + turns.index(row.job) if row.job in turns else 0

    def delete(self, job: str) -> None:
        """Removes a job with its events."""
        with self._db:
            for table in ("jobs", "events", "artifacts"):
                self._db.execute(f"DELETE FROM {table} WHERE job = ?", (job,))

    def append(self, row: JobRow, artifacts: tuple[Artifact, ...] = ()) -> JobRow:
        """Stores a job's new state as its next event, with the artefacts that are new."""
        row = replace(row, last_seq=row.last_seq + 1, changed=time.time())
        body = {
            "state": row.state,
            "progress": asdict(row.progress),
            "error": row.error,
            "artifacts": [asdict(a) for a in artifacts],
        }
        with self._db:
            self._db.execute(
                "INSERT INTO events VALUES (?, ?, ?)",
                (row.job, row.last_seq, json.dumps(body, separators=(",", ":"))),
            )
            for item in artifacts:
                self._db.execute(
                    "UPDATE artifacts SET newest = 0 WHERE job = ? AND name = ?",
                    (row.job, item.name),
                )
                self._db.execute(
                    "INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?, 1)",
                    (row.job, item.name, item.blake2b, item.size),
                )
            self._db.execute(
                "UPDATE jobs SET state = ?, progress = ?, error = ?, last_seq = ?, changed = ? "
                "WHERE job = ?",
                (
                    row.state,
                    json.dumps(asdict(row.progress)),
                    row.error,
                    row.last_seq,
                    row.changed,
                    row.job,
                ),
            )
        return row

    def events(self, job: str, after: int, limit: int) -> list[Event]:
        """The next events of a job, in order."""
        rows = self._db.execute(
            "SELECT seq, body FROM events WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?",
            (job, after, limit),
        )
        return [_event(job, row["seq"], row["body"]) for row in rows]

    def artifact(self, job: str, name: str, blake2b: str = "") -> Artifact | None:
        """An announced artefact: of that hash, or the newest one of the name."""
        which, value = ("blake2b", blake2b) if blake2b else ("newest", 1)
        row = self._db.execute(
            f"SELECT name, size, blake2b FROM artifacts WHERE job = ? AND name = ? AND {which} = ?",
            (job, name, value),
        ).fetchone()
        return Artifact(**row) if row else None

    def newest(self, job: str) -> tuple[Artifact, ...]:
        """Every artefact of a job as it is now."""
        rows = self._db.execute(
            "SELECT name, size, blake2b FROM artifacts WHERE job = ? AND newest = 1 ORDER BY name",
            (job,),
        )
        return tuple(Artifact(**row) for row in rows)

    def needed(self, key: str) -> set[str]:
        """Hashes under a result that it or one of its jobs has as the newest version of a file."""
        rows = self._db.execute(
            "SELECT DISTINCT blake2b FROM artifacts JOIN jobs USING (job) "
            "WHERE key = ? AND newest = 1",
            (key,),
        )
        return {row[0] for row in rows} | {a.blake2b for a in self.complete_result(key) or ()}

    def put_result(
        self, key: str, size: int, complete: bool, artifacts: tuple[Artifact, ...]
    ) -> None:
        """Remembers what lies under a result's key."""
        text = json.dumps([asdict(a) for a in artifacts])
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)", (key, size, complete, text)
            )

    def complete_result(self, key: str) -> tuple[Artifact, ...] | None:
        """The artefacts of a finished result, or None."""
        row = self._db.execute("SELECT artifacts FROM results WHERE key = ? AND complete", (key,))
        found = row.fetchone()
        return None if found is None else tuple(Artifact(**a) for a in json.loads(found[0]))

    def delete_result(self, key: str) -> None:
        with self._db:
            self._db.execute("DELETE FROM results WHERE key = ?", (key,))

    def finished_keys(self) -> set[str]:
        """The keys of all results that are whole, or were as whole as they get."""
        query = "SELECT key FROM jobs WHERE state = 'done' UNION SELECT key FROM results WHERE "
        return {row[0] for row in self._db.execute(query + "complete")}

    def keys(self) -> set[str]:
        """The keys of all results that a job has."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT key FROM jobs")}

    def result_keys(self) -> set[str]:
        """The keys of all results that are remembered."""
        return {row[0] for row in self._db.execute("SELECT key FROM results")}

    def result_bytes(self) -> int:
        """Bytes of all results together."""
        return self._value("SELECT coalesce(sum(bytes), 0) FROM results")

    def _rows(self, query: str, *values: object) -> list[JobRow]:
        return [_job_row(row) for row in self._db.execute(query, values)]

    def _value(self, query: str, *values: object) -> int:
        return self._db.execute(query, values).fetchone()[0]


def _job_row(row: sqlite3.Row) -> JobRow:
    record = dict(row)
    record["settings"] = json.loads(record["settings"])
    record["progress"] = Progress(**json.loads(record["progress"]))
    return JobRow(**record)


def _event(job: str, seq: int, body: str) -> Event:
    record = json.loads(body) | {"request": 0, "job": job, "seq": seq}
    return from_field(Event, Field(record, "the job store", ""))
