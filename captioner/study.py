"""The study: who takes part, and what they answered, kept in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path

from captioner.exports import spreadsheet
from captioner.study_tasks import PAIR, Pool, StudyError, Task

SCHEMA_VERSION = 1
NAME_LENGTH = 40  # characters
LEFT, RIGHT, SAME, NEITHER, UNKNOWN = "left", "right", "same", "neither", "unknown"
PAIR_ANSWERS = (LEFT, RIGHT, SAME, NEITHER)
_PATIENCE = 20  # seconds to wait while others write
_SCHEMA = """
CREATE TABLE study (fingerprint TEXT NOT NULL);
CREATE TABLE reviewers (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE ratings (
    reviewer INTEGER NOT NULL REFERENCES reviewers, task INTEGER NOT NULL, kind TEXT NOT NULL,
    photograph TEXT NOT NULL, caption TEXT NOT NULL, word TEXT NOT NULL, sources TEXT NOT NULL, choices TEXT NOT NULL,
    answer TEXT NOT NULL, seconds REAL NOT NULL, time TEXT NOT NULL, PRIMARY KEY (reviewer, task)
);
"""
_INSERT = "INSERT INTO ratings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"


@dataclass(frozen=True)
class Rating:
    """One answer of one reviewer, with all that is needed to read it without the photographs."""

    reviewer: int
    task: int
    kind: str
    photograph: str  # the name of its file
    caption: str
    word: str
    sources: tuple[str, ...]  # of the maps, from left to right
    choices: tuple[str, ...]  # the words there were to guess from
    answer: str  # one of PAIR_ANSWERS; of a guess, the word chosen or UNKNOWN
    seconds: float  # from the question to the answer
    time: str  # of the answer, UTC, ISO 8601

    @property
    def outcome(self) -> str:
        """The source that was preferred, "same" or "neither"; of a guess "right", "wrong" or "unknown"."""
        if self.kind == PAIR:
            return {LEFT: self.sources[0], RIGHT: self.sources[-1]}.get(self.answer, self.answer)
        if self.answer == UNKNOWN:
            return UNKNOWN
        return "right" if self.answer == self.word else "wrong"


class Study:
    """Photographs, and the answers about them in one file, which is made when the first reviewer starts.

    Any number of sessions may write.
    """

    def __init__(self, database: Path, photographs: Sequence[Path]):
        self.database = database
        self.photographs = tuple(photographs)

    def start(self, name: str, pool: Pool) -> int:
        """The number of the reviewer of this name, 1 for the first; who comes back has the same.

        Raises ``StudyError`` for a name that cannot be used and for a file of another study.
        """
        name = checked_name(name)
        with self._writing() as connection:
            self._check_pool(connection, pool)
            connection.execute("INSERT INTO reviewers (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            return connection.execute("SELECT number FROM reviewers WHERE name = ?", (name,)).fetchone()[0]

    def answered(self, reviewer: int) -> set[int]:
        """The numbers of the tasks that a reviewer has answered. Raises ``StudyError``."""
        with self._reading() as connection:
            rows = connection.execute("SELECT task FROM ratings WHERE reviewer = ?", (reviewer,))
            return {task for (task,) in rows}

    def rate(self, reviewer: int, pool: Pool, task: Task, answer: str, seconds: float) -> None:
        """Keep an answer; of two to the same task the first counts.

        ``answer`` is one of ``PAIR_ANSWERS``, or for a guess one of the choices or ``UNKNOWN``. Raises ``StudyError``
        for any other and where it cannot be kept.
        """
        if answer not in (PAIR_ANSWERS if task.kind == PAIR else (*task.choices, UNKNOWN)):
            raise StudyError("This is no answer to this question. Choose one of the buttons.")
        subject = pool.subjects[task.subject]
        rating = Rating(
            reviewer=reviewer,
            task=task.number,
            kind=task.kind,
            photograph=subject.name,
            caption=" ".join(subject.words),
            word=pool.word(task),
            sources=task.sources,
            choices=task.choices,
            answer=answer,
            seconds=round(seconds, 2),
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        values = [json.dumps(value) if isinstance(value, tuple) else value for value in asdict(rating).values()]
        with self._writing() as connection:
            self._check_pool(connection, pool)
            connection.execute(_INSERT, values)

    def ratings(self) -> list[Rating]:
        """All answers, by reviewer in the order they came; none where nobody has started. Raises ``StudyError``."""
        if not self.database.exists() or not self.database.stat().st_size:
            return []
        with self._reading() as connection:
            rows = connection.execute("SELECT * FROM ratings ORDER BY reviewer, rowid").fetchall()
        return [_rating(row) for row in rows]

    def _check_pool(self, connection: sqlite3.Connection, pool: Pool) -> None:
        kept = connection.execute("SELECT fingerprint FROM study").fetchone()
        if kept is None:
            connection.execute("INSERT INTO study VALUES (?)", (pool.fingerprint,))
        elif kept[0] != pool.fingerprint:
            raise StudyError(
                f"{self.database.name} holds answers about other photographs or another model. "
                "Start the app with another --study-file."
            )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._open() as connection:
            self._check_schema(connection)
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that no other session writes beside; it is undone where anything is raised."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not tables:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._check_schema(connection)
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.database, timeout=_PATIENCE, isolation_level=None)
            with closing(connection):  # which undoes a transaction that was not finished
                yield connection
        except sqlite3.OperationalError as error:
            raise StudyError(
                f"{self.database.name} cannot be read or written ({error}). Check the folder, then try again."
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._foreign() from error

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            raise self._foreign()

    def _foreign(self) -> StudyError:
        return StudyError(
            f"{self.database.name} is no study file of this version. Start the app with another --study-file."
        )


def checked_name(name: str) -> str:
    """A name as it is kept: letters of either case and width, and any run of spaces, count as the same.

    Raises ``StudyError`` for a name that cannot be used.
    """
    if len(name) > NAME_LENGTH:
        raise StudyError(f"Choose a name of at most {NAME_LENGTH} letters.")
    name = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    if not name:
        raise StudyError("Enter a name first; a made-up one will do.")
    if not name.isprintable():
        raise StudyError("This name has letters that cannot be shown. Choose another one.")
    return name


def to_csv(ratings: Sequence[Rating]) -> bytes:
    """One row a rating, with its sources. Reviewers are numbers: their names stay in the study's file."""
    columns = [*(field.name for field in fields(Rating)), "outcome"]
    return spreadsheet(columns, (_row(rating) for rating in ratings))


def _rating(row: Sequence[str | int | float]) -> Rating:
    values = dict(zip((field.name for field in fields(Rating)), row))
    return Rating(**values | {name: tuple(json.loads(values[name])) for name in ("sources", "choices")})


def _row(rating: Rating) -> dict[str, str | int | float]:
    values = asdict(rating) | {"outcome": rating.outcome}
    return {name: " ".join(value) if isinstance(value, tuple) else value for name, value in values.items()}
