"""Which recipes are to be carried out, which one is at which step, and what became of each: one sqlite file.

Each row has the hash of itself: one that is not as it was written is no order.

Any number of processes may read and write it; one that is killed at any moment leaves it whole.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from lwq.errors import FileError, SpaceError
from lwq.store.files import lock, os_errors
from lwq.store.living import Living
from lwq.store.orders_table import in_words, prepare, seal_of

State = Literal["queued", "running", "interrupted", "done", "failed", "stopped"]
End = Literal["done", "failed", "stopped"]
_BUSY_SECONDS: Final = 30.0


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
class AtWork:
    """A step that runs beside others; times in seconds since 1970, by the clock of who handed it out."""

    step: str
    where: str
    since: float
    done: int = 0
    total: int = 0
    left_seconds: float | None = None
    """From ``since`` on."""


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
    at_work: tuple[AtWork, ...] = ()
    """All steps that run now, where they run side by side."""


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
    at_work: tuple[AtWork, ...]

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
    "step_total": 0, "n_done": 0, "at_work": "[]",
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
                _change(database, ids[-1], {})
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
            values = asdict(note)
            _change(database, order, values | {"at_work": json.dumps(values["at_work"])})

    def finish(self, order: int, end: End, *, error: str = "", hint: str = "") -> bool:
        """Notes how an order that runs ended; whether somebody had asked it to stop."""
        with self._open() as database:
            found = database.execute("SELECT stop_asked FROM orders WHERE id = ? AND state = 'running'", (order,))
            if (row := found.fetchone()) is None:
                return False
            values = {"state": end, "finished": time.time(), "error": error, "hint": hint, "at_work": "[]"}
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
            found = database.execute("SELECT 1 FROM orders WHERE id = ? AND state = 'queued'", (order,)).fetchone()
            if found:
                _change(database, order, {"state": "stopped", "finished": time.time()})

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

    def fault(self) -> str:
        """What is wrong with the file and its rows; empty where nothing is."""
        if not self.path.exists():
            return ""
        try:
            with self._open("DEFERRED") as database:
                said = str(database.execute("PRAGMA integrity_check(1)").fetchone()[0])
                n_lost = database.execute("SELECT count(*) FROM orders").fetchone()[0] - len(tuple(_orders(database)))
        except FileError as error:
            return error.message
        return said if said != "ok" else f"{n_lost} of its rows are not as they were written" if n_lost else ""

    def mend(self) -> None:
        """Moves the file aside, whole as it is; nothing but the list of runs was in it."""
        with lock(self.path.with_suffix(".lock")), os_errors("move it aside", self.path):
            for end in ("", "-wal", "-shm"):
                part = self.path.with_name(self.path.name + end)
                if part.exists():
                    os.replace(part, self.path.with_name(f"{self.path.stem}.damaged.sqlite{end}"))

    @contextmanager
    def _open(self, begin: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """The database within one transaction, which is kept whole or not at all."""
        with os_errors("make the list of runs", self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            database = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                database.row_factory = sqlite3.Row
                database.text_factory = partial(str, encoding="utf-8", errors="replace")
                prepare(database, self.path)
                with database:
                    database.execute(f"BEGIN {begin}")
                    yield database
            finally:
                database.close()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise in_words(self.path, error) from error


def _orders(database: sqlite3.Connection) -> Iterator[Order]:
    for row in database.execute(f"SELECT {', '.join(_STORED)}, seal FROM orders ORDER BY id").fetchall():
        values = dict(row)
        if values.pop("seal") not in ("", seal_of(values)):
            continue
        try:
            values["arguments"] = json.loads(values["arguments"])
            values["at_work"] = tuple(AtWork(**one) for one in json.loads(values["at_work"]))
        except (ValueError, TypeError, RecursionError):  # of before rows had seals
            continue
        is_active = values["state"] in ("queued", "running")
        is_attended = is_active and Living(pid=values["pid"], born=values["born"]).is_alive()
        if values["state"] == "running" and not is_attended:
            values |= {"state": "interrupted", "at_work": ()}
        yield Order(**values, is_attended=is_attended)


def _change(database: sqlite3.Connection, order: int, values: Mapping[str, Any]) -> None:
    if values:
        names = ", ".join(f"{name} = ?" for name in values)
        database.execute(f"UPDATE orders SET {names} WHERE id = ?", (*values.values(), order))
    row = database.execute(f"SELECT {', '.join(_STORED)} FROM orders WHERE id = ?", (order,)).fetchone()
    if row is not None:  # as sqlite has it: a whole number comes back as a fraction where the column is of such
        database.execute("UPDATE orders SET seal = ? WHERE id = ?", (seal_of(dict(row)), order))
