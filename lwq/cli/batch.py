"""Several recipes: read and checked, queued, carried out one after another, with one page over their reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from lwq.cli.ahead import Seen, look
from lwq.cli.carry import carry, print_results
from lwq.cli.crash import in_words
from lwq.cli.job import check_writable, in_folder, prepare
from lwq.cli.noting import Noting
from lwq.cli.progress import Progress, showing
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json
from lwq.cli.workers import Pool
from lwq.errors import Interrupted, LwqError, ModelError, SpaceError
from lwq.outlook.expected import DISK_HINT, to_write_together
from lwq.plan.execution import Crew
from lwq.plan.job import Asked
from lwq.plan.queue import StoppedOrder, work_off
from lwq.plan.reading import ReadRecipe, together
from lwq.record.record import Record
from lwq.store.files import human_bytes
from lwq.store.ledger import Asking, Ledger, Order
from lwq.store.living import Living

GO_ON = "`lwq resume` goes on with {}, `lwq status` shows all; finished steps are kept"


def asking_for(
    read: ReadRecipe, settings: Settings, folder: Path, *, model: str | None = None, seconds: float | None = None
) -> Asking:
    """What the ledger has to know of a recipe to carry it out, now or later: all that the command line said.

    Args:
        folder: of its report, as seen from here.
        seconds: that it may take.
    """
    given = dataclasses.asdict(settings) | {"folder": str(folder), "model": model}
    return Asking(
        name=read.asked.recipe.name,
        folder=str(folder.absolute()),
        recipe=str(read.path),
        cwd=str(Path.cwd()),
        arguments=given,
        left_seconds=seconds,
    )


def run_several(read: Sequence[ReadRecipe], settings: Settings, reports: Path, pool: Pool, *, as_json: bool) -> None:
    """Carries out all, after each was checked, and writes the page over ``reports``.

    Raises:
        LwqError: what is wrong with any of them, before the first runs; at the end, which failed.
        Interrupted: by the user; or all that did not fail were stopped.
    """
    ledger = Ledger(settings.cache().root)
    with showing(settings.verbosity) as progress:
        asking = _checked(read, settings, reports, progress)
        progress.note(f"{len(read)} recipes queued; `lwq status` shows them from anywhere")
    ids = ledger.post([dataclasses.replace(a, arguments={**a.arguments, "several": True}) for a in asking], Living.me())
    orders = [order for order in ledger.orders() if order.id in ids]
    asked = dict(zip(ids, (one.asked for one in read), strict=True))
    carry_out_all(ledger, orders, asked, settings, pool=pool, as_json=as_json)


def _checked(read: Sequence[ReadRecipe], settings: Settings, reports: Path, progress: Progress) -> list[Asking]:
    """What is asked for, once all that can be known before a run stands against none of it."""
    faults, asking, seen = list[LwqError](), list[Asking](), list[Seen]()
    for one in read:
        name = one.asked.recipe.name
        progress.show("checking", len(asking), len(read))
        try:
            found = _look(one.asked, settings, progress)
            seconds = _seconds(found, seen)
            seen.append(found)
            asking.append(asking_for(one, settings, reports / name, seconds=seconds))
            check_writable(reports / name)
        except Interrupted:
            raise
        except LwqError as error:
            error.message = f"{name}: {error.message}"
            faults.append(error)
    if faults:
        raise together(faults)
    _check_disk(seen)
    return asking


def _look(asked: Asked, settings: Settings, progress: Progress) -> Seen:
    """What a recipe may take; raises where it cannot be carried out here."""
    seen = look(asked, settings, progress.note)
    if told := [f"{file.name}: cannot be made: {file.obstacle}" for file in seen.files if file.obstacle]:
        raise ModelError("\n".join(told))
    if seen.ahead and seen.ahead.lacks:
        raise SpaceError("\n".join(map(str, seen.ahead.lacks)), hint=seen.ahead.lacks[0].hint)
    if seen.missing:
        progress.note(f"note: {asked.recipe.name}: not here yet: {seen.missing}")
    return seen


def _seconds(one: Seen, before: Iterable[Seen]) -> float | None:
    """What a recipe may take, without steps that those before it do."""
    if one.ahead is None or one.ahead.forecast.seconds is None:
        return None
    done = {key for other in before if other.ahead for key in other.ahead.forecast.by_key}
    return sum(seconds for key, seconds in one.ahead.forecast.by_key.items() if key not in done)


def _check_disk(seen: Iterable[Seen]) -> None:
    """Raises SpaceError where all together need more of the disk than there is, steps that they share once."""
    known = [(one.job, one.ahead) for one in seen if one.job and one.ahead]
    need = to_write_together(((job, ahead.steps) for job, ahead in known), least=True)
    if known and need > (free := known[0][1].free_bytes):
        told = f"all together write at least {human_bytes(need)}; {human_bytes(free)} of the disk are free"
        raise SpaceError(told, hint=f"{DISK_HINT}, or run fewer at a time")


def carry_out_all(
    ledger: Ledger,
    orders: Sequence[Order],
    asked: Mapping[int, Asked | LwqError],
    settings: Settings,
    *,
    pool: Pool,
    as_json: bool,
) -> None:
    """Carries out queued orders of this process, tells what came of each, and writes the page over their reports.

    Args:
        asked: of each order its recipe, or why it cannot be read.

    Raises:
        LwqError: which failed. Interrupted: by the user, or some were stopped.
    """
    client = _ThisClient(ledger=ledger, asked=asked, settings=settings, n_orders=len(orders), as_json=as_json)
    try:
        with showing(settings.verbosity) as progress:
            _work_off(ledger, orders, client, pool, progress.note)
    except Interrupted as error:
        ids = {order.id for order in orders}
        n = sum(order.id in ids and order.state == "queued" for order in ledger.orders())
        left = f"{n} more recipe{'s' if n > 1 else ''} stay{'' if n > 1 else 's'} queued" if n else "it was the last"
        raise Interrupted(f"interrupted; {left}", hint=GO_ON.format("all of them" if n else "it")) from error
    pages = client.write_indexes()
    if as_json:
        print_json({"runs": client.outcomes, "index": pages})
    client.raise_faults()


def _work_off(
    ledger: Ledger, orders: Sequence[Order], client: _ThisClient, pool: Pool, on_note: Callable[[str], None]
) -> None:
    """Orders one after another, or abreast those in a row that have one working directory and one llama.cpp.

    In a row: an order waits for all that were queued before it.
    """
    if not pool.is_of_many:
        work_off(ledger, orders, client.carry, client)
        return
    from lwq.plan.abreast import work_off_abreast

    in_row = groupby(sorted(orders, key=lambda o: o.id), lambda o: (o.cwd, client.settings_of(o)))
    for (cwd, settings), alike in in_row:
        with in_folder(Path(cwd)), pool.crew(settings, on_note) as crew:
            if crew:
                client.n_places = crew.n_places
                work_off_abreast(ledger, list(alike), client.carry, client, crew)


@dataclass(slots=True, kw_only=True)
class _ThisClient:
    """This process as the one that handed the orders in, and carries them out itself."""

    ledger: Ledger
    asked: Mapping[int, Asked | LwqError]
    settings: Settings
    n_orders: int
    as_json: bool
    n_places: Callable[[], int] = lambda: 1
    """How many steps are carried out at a time."""
    n_begun: int = 0
    done: dict[int, tuple[Record, Path]] = field(default_factory=dict)
    faults: list[tuple[str, LwqError]] = field(default_factory=list)
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    reports: dict[Path, None] = field(default_factory=dict)

    def carry(self, order: Order, crew: Crew | None = None) -> None:
        """One order in its working directory, here and now; its steps by a crew, where there is one."""
        asked = self.asked[order.id]
        if isinstance(asked, LwqError):
            raise asked
        with in_folder(Path(order.cwd)):
            self._carry(order, asked, self.settings_of(order), crew)

    def settings_of(self, order: Order) -> Settings:
        """With which it was asked for: other devices and other builds of llama.cpp compute other digits."""
        given = {name: order.arguments[name] for name in ("llama_dir", "threads", "device")}
        return Settings(verbosity=self.settings.verbosity, **given)

    def _carry(self, order: Order, asked: Asked, settings: Settings, crew: Crew | None) -> None:
        self.n_begun += 1
        with showing(settings.verbosity, name=order.name if crew else "") as progress:
            progress.note(
                f"{self.n_begun} of {self.n_orders}" if crew else f"{order.name}, {self.n_begun} of {self.n_orders}"
            )
            progress.noting = Noting(ledger=self.ledger, order=order.id)
            folder = Path(order.arguments["folder"])
            try:
                job = prepare(asked, settings, progress)
                self.done[order.id] = carry(job, folder, progress, crew, self.n_places)
            except (LwqError, BrokenPipeError):
                raise
            except Exception as error:
                raise in_words(error, ["run", order.recipe]) from error

    def waits(self, other: Order) -> None:
        with showing(self.settings.verbosity) as progress:
            progress.note(f"waiting for {other.name}, which process {other.pid} {_is_at(other)}")

    def ended(self, order: Order, fault: LwqError | None) -> None:
        state = "done" if fault is None else "stopped" if isinstance(fault, StoppedOrder) else "failed"
        outcome: dict[str, Any] = {"name": order.name, "state": state, "folder": order.folder}
        if fault:
            self.faults.append((order.name, fault))
            outcome |= {"error": fault.message, "hint": fault.hint}
            click.echo(f"lwq: {order.name}: {fault.message}", err=True)
            if fault.hint and state == "failed":
                click.echo(f"hint: {fault.hint}", err=True)
        else:
            record, card = self.done.pop(order.id)
            outcome["card"] = str(Path(order.folder) / card.name)
            if order.arguments.get("several"):
                self.reports[Path(order.folder).parent] = None
            if not self.as_json:
                click.echo(f"{order.name}\n")
                print_results(record)
                click.echo(f"card: {card}\n")
        self.outcomes.append(outcome)

    def write_indexes(self) -> list[str]:
        """The pages over the folders that reports were written to; what cannot be in one is told."""
        from lwq.report.index import find_runs, write_index

        pages = []
        for folder in self.reports:
            try:
                runs, left_out = find_runs(folder)
                page, text = write_index(runs, folder)
            except LwqError as error:
                click.echo(f"note: no page over all: {error.message}", err=True)
                continue
            for why in left_out:
                click.echo(f"left out: {why}", err=True)
            pages.append(str(page))
            if not self.as_json:
                near = page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page
                click.echo(f"index: {near} and {text.name}, {len(runs)} run{'s' if len(runs) > 1 else ''}")
        return pages

    def raise_faults(self) -> None:
        """Raises an error that names what failed and what was stopped, if anything was."""
        ends: dict[str, list[str]] = {"failed": [], "stopped": []}
        for name, fault in self.faults:
            ends["stopped" if isinstance(fault, StoppedOrder) else "failed"].append(name)
        if told := [f"{len(names)} {how} ({', '.join(names)})" for how, names in ends.items() if names]:
            kind = LwqError if ends["failed"] else Interrupted
            raise kind(f"of {self.n_orders} recipes {' and '.join(told)}", hint=GO_ON.format("them"))


def _is_at(order: Order) -> str:
    return "carries out" if order.state == "running" else "has queued before"
