"""Which recipes are to be carried out, which one is at which step, and what became of each: one sqlite file.

Any number of processes may read and write it; one that is killed at any moment leaves it whole.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from lwq.errors import FileError, SpaceError
from lwq.store.files import lock, os_errors
from lwq.store.living import Living

State = Literal["queued", "running", "interrupted", "done", "failed", "stopped"]
End = Literal["done", "failed", "stopped"]
SCHEMA: Final = 1
_BUSY_SECONDS: Final = 30.0
_WAL_PAGES: Final = 16
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, folder TEXT NOT NULL, recipe TEXT NOT NULL,
    cwd TEXT NOT NULL, arguments TEXT NOT NULL, state TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL,
    queued REAL NOT NULL, started REAL, finished REAL, step TEXT NOT NULL DEFAULT '', step_since REAL,
    step_done INTEGER NOT NULL DEFAULT 0, step_total INTEGER NOT NULL DEFAULT 0,
    n_done INTEGER NOT NULL DEFAULT 0, n_steps INTEGER NOT NULL DEFAULT 0, left_seconds REAL,
    error TEXT NOT NULL DEFAULT '', hint TEXT NOT NULL DEFAULT '', stop_asked INTEGER NOT NULL DEFAULT 0)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What is asked for: a recipe, and all that it is carried out with."""

    name: str
    folder: str
    """Of the report, absolute."""
    recipe: str
    """The file as it was named, of a recipe or of the family that ``name`` is of."""
    cwd: str
    arguments: Mapping[str, Any]
    left_seconds: float | None = None
    """What it may take, where that could be foretold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNote:
    """How far a run is."""

    step: str
    step_since: float
    step_done: int = 0
    step_total: int = 0
    n_done: int
    n_steps: int
    left_seconds: float | None
    """From ``step_since`` on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A recipe that was handed in to be carried out, and what became of it; times in seconds since 1970."""

    id: int
    name: str
    folder: str
    recipe: str
    cwd: str
    arguments: Mapping[str, Any]
    state: State
    pid: int
    born: str
    is_attended: bool
    """Whether the process that is to carry it out, or does, is alive."""
    queued: float
    started: float | None
    finished: float | None
    step: str
    step_since: float | None
    step_done: int
    step_total: int
    n_done: int
    n_steps: int
    left_seconds: float | None
    error: str
    hint: str
    stop_asked: int

    @property
    def process(self) -> Living:
        return Living(pid=self.pid, born=self.born)

    @property
    def is_open(self) -> bool:
        """Whether it can be gone on with: it is not done, and no process is at it."""
        return self.state != "done" and not (self.state == "queued" and self.is_attended) and self.state != "running"


_STORED: Final = tuple(field.name for field in fields(Order) if field.name != "is_attended")
_ANEW: Final = {
    "finished": None, "stop_asked": 0, "error": "", "hint": "", "step": "", "step_since": None, "step_done": 0,
    "step_total": 0, "n_done": 0,
}  # fmt: skip
"""What an order that begins has not got yet."""


class Ledger:
    """Orders in ``orders.sqlite`` below the cache's root, in the order in which they came."""

    def __init__(self, root: Path) -> None:
        self.path = root / "orders.sqlite"

    def orders(self) -> tuple[Order, ...]:
        """All of them; what is noted as running by a process that is no more is interrupted."""
        if not self.path.exists():
            return ()
        with self._open("DEFERRED") as database:
            return tuple(_orders(database))

    def post(self, asked: Iterable[Asking], process: Living, *, running: bool = False) -> tuple[int, ...]:
        """Ids of new orders, which the process will carry out; earlier ones with the same report folder go.

        Args:
            running: the process is at it.
        """
        now, ids = time.time(), []
        with self._open() as database:
            over = [order for order in _orders(database) if order.state == "done" or order.is_open]
            for one in asked:
                gone = [(order.id,) for order in over if order.folder == one.folder]
                database.executemany("DELETE FROM orders WHERE id = ?", gone)
                values = asdict(one) | {"arguments": json.dumps(dict(one.arguments)), "queued": now}
                values |= asdict(process) | {"state": "running" if running else "queued"}
                values |= {"started": now} if running else {}
                names, marks = ", ".join(values), ", ".join("?" * len(values))
                statement = f"INSERT INTO orders ({names}) VALUES ({marks})"
                ids.append(database.execute(statement, tuple(values.values())).lastrowid or 0)
        return tuple(ids)

    def take(self, order: int) -> tuple[bool, Order | None]:
        """Whether it is noted as running now; else which order comes before it, or None where it is queued no more.

        What its own process could not note as ended (a full disk) holds it up no longer.
        """
        with self._open() as database:
            found = {each.id: each for each in _orders(database)}
            if order not in found or found[order].state != "queued":
                return False, None
            ours = found[order].process
            for other in found.values():
                is_before = other.state == "queued" and other.is_attended and other.id < order
                if is_before or (other.state == "running" and other.process != ours):
                    return False, other
            _change(database, order, {**_ANEW, "state": "running", "started": time.time()})
        return True, None

    def note(self, order: int, note: StepNote) -> None:
        """Notes how far it is; that it could not be noted is no reason to end a run."""
        with suppress(FileError, SpaceError), self._open() as database:
            _change(database, order, asdict(note))

    def finish(self, order: int, end: End, *, error: str = "", hint: str = "") -> bool:
        """Notes how an order that runs ended; whether somebody had asked it to stop."""
        with self._open() as database:
            found = database.execute("SELECT stop_asked FROM orders WHERE id = ? AND state = 'running'", (order,))
            if (row := found.fetchone()) is None:
                return False
            values = {"state": end, "finished": time.time(), "error": error, "hint": hint}
            _change(database, order, values | ({"left_seconds": None} if end == "done" else {}))
        return bool(row[0])

    def queue_again(self, orders: Iterable[int], process: Living) -> tuple[Order, ...]:
        """Those of the orders that no other process has taken meanwhile, queued again for this one."""
        wanted = set(orders)
        with self._open() as database:
            taken = [order.id for order in _orders(database) if order.id in wanted and order.is_open]
            for order in taken:
                again = {"state": "queued", "queued": time.time(), "finished": None, "stop_asked": 0}
                _change(database, order, again | asdict(process))
            return tuple(order for order in _orders(database) if order.id in taken)

    def take_out(self, order: int) -> None:
        """Notes a queued order as stopped; one that runs by now stays."""
        with self._open() as database:
            statement = "UPDATE orders SET state = 'stopped', finished = ? WHERE id = ? AND state = 'queued'"
            database.execute(statement, (time.time(), order))

    def ask_to_stop(self, order: int) -> Living | None:
        """The process that carries it out, which finds that it was asked; None where it does not run."""
        with self._open() as database:
            found = next((o for o in _orders(database) if o.id == order and o.state == "running"), None)
            if found:
                _change(database, order, {"stop_asked": 1})
        return found.process if found else None

    def forget(self, orders: Iterable[int]) -> None:
        """Takes orders off the list."""
        with self._open() as database:
            database.executemany("DELETE FROM orders WHERE id = ?", [(order,) for order in orders])

    @contextmanager
    def _open(self, begin: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """The database within one transaction, which is kept whole or not at all."""
        with os_errors("make the list of runs", self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            database = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                database.row_factory = sqlite3.Row
                self._prepare(database)
                with database:
                    database.execute(f"BEGIN {begin}")
                    yield database
            finally:
                database.close()
        except UnicodeDecodeError as error:
            raise _in_words(self.path, sqlite3.DatabaseError(str(error))) from error
        except sqlite3.Error as error:
            raise _in_words(self.path, error) from error

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        if not _version(database):
            with lock(self.path.with_suffix(".lock")):  # two that begin it at once are not made to wait by sqlite
                if not _version(database):
                    database.execute("PRAGMA journal_mode = WAL")
                    database.execute(_TABLE)
                    database.execute(f"PRAGMA user_version = {SCHEMA}")
        if _version(database) != SCHEMA:
            hint = "use that version, or move the file away: nothing but the list of runs is in it"
            raise FileError(f"{self.path}: was written by another version of lwq", hint=hint)


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _orders(database: sqlite3.Connection) -> Iterator[Order]:
    for row in database.execute(f"SELECT {', '.join(_STORED)} FROM orders ORDER BY id").fetchall():
        values = dict(row)
        try:
            values["arguments"] = json.loads(values["arguments"])
        except (ValueError, TypeError, RecursionError) as error:
            raise sqlite3.DatabaseError(f"an order is not as it was written: {error}") from None
        is_active = values["state"] in ("queued", "running")
        is_attended = is_active and Living(pid=values["pid"], born=values["born"]).is_alive()
        if values["state"] == "running" and not is_attended:
            values["state"] = "interrupted"
        yield Order(**values, is_attended=is_attended)


def _change(database: sqlite3.Connection, order: int, values: Mapping[str, Any]) -> None:
    names = ", ".join(f"{name} = ?" for name in values)
    database.execute(f"UPDATE orders SET {names} WHERE id = ?", (*values.values(), order))


def _in_words(path: Path, error: sqlite3.Error) -> FileError | SpaceError:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        return SpaceError(f"{path}: no room left to note what runs", hint="free some, or set LWQ_HOME to a larger disk")
    hint = "check the disk and who owns the file"
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, None):
        hint = "move it away: nothing but the list of runs is in it, and finished steps stay"
    return FileError(f"{path}: the list of runs cannot be used: {error}", hint=hint)
