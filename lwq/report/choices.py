"""What a reader sees first: which files there are to choose from, what each is for, and what it takes."""

from __future__ import annotations

from statistics import fmean
from typing import Final

from lwq.metrics.speeds import Ratio, ratio_to
from lwq.record.record import Record, Row
from lwq.report.domain_section import closest
from lwq.report.markdown import code, either, plain
from lwq.report.numerals import NOT_MEASURED, fixed, hub_size, in_gb, rounded, rounded_percent, tokens
from lwq.report.rows import alike, is_compensated, text_of
from lwq.report.speed_table import is_stock, reference
from lwq.report.tables import Column, Table, columns
from lwq.report.task_section import mean_score

_MUCH_SLOWER: Final = 0.95
"""Below which share of the other's speed a file is called slower, if the whole interval is."""
_UNQUANTIZED: Final = ("f32",)
_DOES: Final = {"pp": "reads prompts,", "tg": "writes,"}


def offered(record: Record) -> tuple[Row, ...]:
    """Our files that are kept, smallest first."""
    left_out = {verdict.row for verdict in record.selection.verdicts if not verdict.kept}
    ours = (row for row in record.rows if row.origin == "ours" and row.name not in left_out)
    return tuple(sorted(ours, key=lambda row: (row.file_bytes, row.name)))


def files(record: Record) -> Table:
    """File, damage, size as the Hub shows it, what it is, memory, speed beside a reference, average of tasks."""
    rows, against = offered(record), reference(record)
    contexts = tuple(dict.fromkeys(memory.n_ctx for row in rows for memory in row.contexts))
    tasked = tuple(dict.fromkeys((task.name, task.n_items) for row in rows for task in row.tasks))
    titles = ["Same top p (%)"]
    followed = next((row.continuation for row in rows if row.continuation), None)
    titles += [f"Same first tokens (of {followed.n_tokens})"] if followed else []
    titles += [f"Writing speed vs {against.name}"] if against else []
    titles += ["Tasks (%)"] if tasked else []
    return Table(
        caption="The files, smallest first." if len(rows) > 1 else "The file.",
        columns=(
            Column(title="File", right=False, is_file=True),
            *columns("KLD (nats)", "Size"),
            Column(title="What it is", right=False),
            *columns(*(f"RAM at {tokens(n)} (GB)" for n in contexts), *titles),
        ),
        rows=tuple(
            (
                row.file,
                rounded(row.evaluation.kld),
                hub_size(row.file_bytes),
                purpose(row, rows, record),
                *(_memory(row, n) for n in contexts),
                rounded_percent(row.evaluation.same_top_p),
                *([_followed(row)] if followed else []),
                *([_speed(row, against)] if against else []),
                *([_tasks(row, len(tasked))] if tasked else []),
            )
            for row in rows
        ),
    )


def purpose(row: Row, rows: tuple[Row, ...], record: Record) -> str:
    """Its place among the files, and how its types were chosen or what is missing from it."""
    place = ""
    if len(rows) > 1 and row is rows[0]:
        place = "the smallest"
    if len(rows) > 1 and row is closest(record, rows):
        place = "smallest and closest to the original" if place else "closest to the original"
    return f"{place}; {_made(row)}" if place else _made(row)


def _made(row: Row) -> str:
    if row.pruned_layers:
        return "layers removed"
    if row.search:
        return row.search.chosen if row.search.ships_stock else "mix chosen by measurement"
    return "hand-made mix" if row.tensor_type_patterns else f"stock {row.ftype}"


def _followed(row: Row) -> str:
    """The mean of all prompts."""
    return fixed(fmean(row.continuation.agreed), 0) if row.continuation else NOT_MEASURED


def _tasks(row: Row, n_tasks: int) -> str:
    found = mean_score(row.tasks, n_tasks)
    return rounded_percent(found) if found else "–"


def _memory(row: Row, n_ctx: int) -> str:
    """Gigabytes of the file, its context and its buffers."""
    found = next((m for m in row.contexts if m.n_ctx == n_ctx), None)
    return in_gb(row.file_bytes + found.cache_bytes + found.compute_bytes) if found else NOT_MEASURED


def _speed(row: Row, against: Row) -> str:
    """Of the longest test of writing alone; the interval in brackets."""
    if row is against:
        return "1"
    writing = [test for test in row.speed if test.test.startswith("tg")]
    ratio = ratio_to(writing[-1], against.speed) if writing else None
    return _ratio(ratio) if ratio else NOT_MEASURED


def _ratio(ratio: Ratio) -> str:
    if ratio.is_tied:
        return "tied"
    return f"{fixed(ratio.value, 2)} [{fixed(ratio.low, 2)}, {fixed(ratio.high, 2)}]"


def meaning(record: Record) -> str:
    """What the columns say."""
    text = text_of(record, "evaluation")
    n_windows = max((len(group[0].evaluation.chunk_kld) for group in alike(record.rows)), default=0)
    where = f", on {n_windows} windows of {code(text.file)}" if text else ""
    parts = [
        f"KLD is how far the file's predictions are from the original's{where}: 0 is the original, lower is better."
        " Same top p is how often both rank the same next word first."
    ]
    if followed := next((row.continuation for row in offered(record) if row.continuation), None):
        parts.append(
            "Same first tokens: given the same text, both write the same for that many tokens, on average over"
            f" {len(followed.agreed)} places."
        )
    if any(row.contexts for row in offered(record)):
        parts.append(
            "RAM (or VRAM) holds the file, the KV cache of one conversation in F16 and buffers, as llama.cpp itself"
            " accounts for them; the program and the system come on top."
        )
    if any(row.speed for row in record.rows):
        parts.append("Speeds are ratios with 95 % intervals; tied: no clear difference.")
    if any(map(is_compensated, offered(record))):
        parts.append("The files need no special build of llama.cpp.")
    return " ".join(parts)


def warnings(record: Record) -> tuple[str, ...]:
    """What a reader must not find out alone: files of chosen types that are surely slower than the stock mix of that
    name."""
    return tuple(told for row in offered(record) if (told := _slower(row, record)))


def _slower(row: Row, record: Record) -> str:
    stock = next((r for r in record.rows if r.ftype == row.ftype and is_stock(r) and r is not row), None)
    if stock is None or is_stock(row):
        return ""
    found = ((speed.test, ratio_to(speed, stock.speed)) for speed in row.speed)
    slower = tuple(
        f"{_DOES.get(test[:2], 'does')} {test}, at {_ratio(ratio)} of its speed"
        for test, ratio in found
        if ratio and ratio.high < _MUCH_SLOWER
    )
    return f"{plain(row.name)} is slower than {plain(stock.name)} here: it {either(slower)}." if slower else ""


def holds(record: Record) -> tuple[str, ...]:
    """Which types the files of chosen types hold: the name on the Hub says their size alone."""
    return tuple(f"**{plain(row.name)}** holds {_types(row)}." for row in offered(record) if not is_stock(row))


def _types(row: Row) -> str:
    shares = [share for share in row.types if share.name not in _UNQUANTIZED]
    return either(tuple(f"{plain(s.name.upper())} in {s.n_tensors} tensor{'s' * (s.n_tensors > 1)}" for s in shares))
