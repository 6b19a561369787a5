"""The card's speeds: tokens per second, the ratio to one row with its interval, load time, memory."""

from __future__ import annotations

from typing import Final

from lwq.metrics.speeds import BUSY, Ratio, busiest, ratio_to
from lwq.metrics.values import Speed
from lwq.record.record import Record, Row
from lwq.report.markdown import either, plain
from lwq.report.numerals import NOT_MEASURED, estimate, fixed, gib, parameters, share
from lwq.report.rows import base_row
from lwq.report.tables import MODEL, Table, columns, label

LOAD_MEANING: Final = (
    "Load is the time from opening the file until the first token can be computed, the median of the rounds; after the"
    " first round the file is in the page cache. Peak memory is the most that llama-bench held at once in any round and"
    " test, mapped parts of the file included, memory of a GPU not."
)
_MEASURED_IN_TURNS: Final = (
    "The files were measured in turns: in each of {times} rounds llama-bench ran every file once, so what slowed the"
    " machine for a while slowed all alike. ± is one standard error of the mean of the rounds (llama-bench prints the"
    " standard deviation)."
)
_MEASURED_ALONE: Final = (
    "± is one standard error of the mean of {times} runs (llama-bench prints the standard deviation). The files were"
    " measured one after another, so what slowed the machine for a while may have slowed one of them alone."
)


def reference(record: Record) -> Row | None:
    """The row that speeds are compared with: the first stock mix of ours, else the base; of those that were timed."""
    stock = (row for row in record.rows if row.origin == "ours" and is_stock(row) and row.speed)
    base = base_row(record)
    return next(stock, base if base and base.speed else None)


def is_stock(row: Row) -> bool:
    """Whether its types are those of the stock mix that it is called after."""
    return not (row.tensor_type_patterns or row.search or row.pruned_layers)


def tables(record: Record) -> tuple[Table, ...]:
    """Tokens per second, one table for each processor and backend."""
    places = tuple(dict.fromkeys((s.cpu, s.backend) for row in record.rows for s in row.speed))
    return tuple(_table(record, place) for place in places)


def _where(record: Record, cpu: str) -> str:
    cpu = cpu or "an unnamed processor"
    device = record.toolchain.device
    return plain(cpu if device == "CPU" else f"{device} beside {cpu}")


def _table(record: Record, place: tuple[str, str]) -> Table:
    against = reference(record)
    timed = tuple(
        (row, size, test)
        for row, size in zip(record.rows, gib(r.file_bytes for r in record.rows), strict=True)
        for test in row.speed
        if (test.cpu, test.backend) == place
    )
    titles = ["Size (GiB)", "Params", "Backend", "Threads", "Test", "t/s"]
    if against:
        titles.append(f"of {against.name}")
    return Table(
        caption=f"Tokens per second measured on {_where(record, place[0])}.",
        columns=(MODEL, *columns(*titles)),
        rows=tuple(_cells(*entry, against) for entry in timed),
    )


def _cells(row: Row, size: str, test: Speed, against: Row | None) -> tuple[str, ...]:
    cells = (
        label(row),
        size,
        parameters(row.n_params),
        test.backend,
        str(test.n_threads),
        test.test,
        estimate(test.tokens_per_second, 2),
    )
    if against is None:
        return cells
    return (*cells, "1" if row is against else ratio_cell(ratio_to(test, against.speed)))


def ratio_cell(ratio: Ratio | None) -> str:
    """``1.05 [1.02, 1.08]``, with ``tied`` where the interval holds 1; ``–`` where nothing pairs the two."""
    if ratio is None:
        return "–"
    interval = f"{fixed(ratio.value, 2)} [{fixed(ratio.low, 2)}, {fixed(ratio.high, 2)}]"
    return f"{interval}, tied" if ratio.is_tied else interval


def meaning(record: Record) -> str:
    """How speeds were measured, what ± and the ratios are, and whether the machine was busy; empty without any."""
    speeds = tuple(test for row in record.rows for test in row.speed)
    if not speeds:
        return ""
    times = either(tuple(str(n) for n in sorted({len(test.samples) for test in speeds})))
    in_turns = all(test.busy is not None for test in speeds)
    how = (_MEASURED_IN_TURNS if in_turns else _MEASURED_ALONE).format(times=times)
    against = reference(record)
    compared = _compared(against) if against and in_turns else ""
    where = "Speeds hold for the processor, backend and threads named; on others the order of the files may differ."
    return " ".join(part for part in (how, compared, where, busy_warning(busiest(speeds))) if part)


def _compared(against: Row) -> str:
    name = plain(against.name)
    return (
        f"“of {name}” is the geometric mean of the rounds' ratios to {name}, in brackets its 95 % interval (Student's t"
        " over the logarithms of the ratios); “tied” where that holds 1, so that the two are not told apart."
    )


def busy_warning(busy: float) -> str:
    """A sentence where other programs used much of the machine; else nothing."""
    if busy <= BUSY:
        return ""
    return (
        f"**The machine was busy:** before a round, others used up to {share(busy, 1, 0)} of its CPUs. Tokens per"
        " second may be too low by that; ratios within rounds suffer less, but their intervals widen."
    )


def loads(record: Record) -> Table | None:
    """Load time and peak memory of each row that was timed in turns, or None without any."""
    timed = tuple((row, row.speed[0]) for row in record.rows if row.speed and row.speed[0].busy is not None)
    if not timed:
        return None
    peaks = gib(speed.peak_bytes or 0 for _, speed in timed)
    sizes = gib(row.file_bytes for row, _ in timed)
    return Table(
        caption="Time to load, and the most memory in use.",
        columns=(MODEL, *columns("Size (GiB)", "Load (s)", "Peak memory (GiB)")),
        rows=tuple(
            (label(row), size, _seconds(speed), peak if speed.peak_bytes else NOT_MEASURED)
            for (row, speed), size, peak in zip(timed, sizes, peaks, strict=True)
        ),
    )


def _seconds(speed: Speed) -> str:
    return NOT_MEASURED if speed.load_seconds is None else fixed(speed.load_seconds, 3)
