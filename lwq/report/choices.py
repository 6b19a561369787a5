"""What a reader sees first: which files there are to choose from, what each is for, and how to start one."""

from __future__ import annotations

import shlex
from typing import Final

from lwq.metrics.speeds import Ratio, ratio_to
from lwq.record.record import Projector, Record, Row
from lwq.report.markdown import code, plain
from lwq.report.numerals import NOT_MEASURED, fixed, hub_size, rounded, rounded_percent
from lwq.report.rows import alike, is_compensated, text_of
from lwq.report.speed_table import reference
from lwq.report.tables import Column, Table, columns
from lwq.report.task_section import average

_N_CTX: Final = 4096


def offered(record: Record) -> tuple[Row, ...]:
    """Our files that are kept, smallest first."""
    left_out = {verdict.row for verdict in record.selection.verdicts if not verdict.kept}
    ours = (row for row in record.rows if row.origin == "ours" and row.name not in left_out)
    return tuple(sorted(ours, key=lambda row: (row.file_bytes, row.name)))


def files(record: Record) -> Table:
    """File, size as the Hub shows it, what it is for, damage, speed beside the reference row, tasks' average."""
    rows, against = offered(record), reference(record)
    tasked = tuple(dict.fromkeys((task.name, task.n_items) for row in rows for task in row.tasks))
    titles = ["KLD (nats)", "Same top p (%)"]
    titles += [f"Writing speed ÷ {against.name}"] if against else []
    titles += ["Tasks (%)"] if tasked else []
    return Table(
        caption="The files, smallest first.",
        columns=(
            Column(title="File", right=False, is_file=True),
            *columns("Size"),
            Column(title="What it is", right=False),
            *columns(*titles),
        ),
        rows=tuple(
            (
                row.file,
                hub_size(row.file_bytes),
                purpose(row, rows),
                rounded(row.evaluation.kld),
                rounded_percent(row.evaluation.same_top_p),
                *([_speed(row, against)] if against else []),
                *([average(row.tasks, len(tasked))] if tasked else []),
            )
            for row in rows
        ),
    )


def purpose(row: Row, rows: tuple[Row, ...]) -> str:
    """Its place among the files, and how its types were chosen or what is missing from it."""
    place = ""
    if len(rows) > 1 and row is rows[0]:
        place = "the smallest"
    if row is min(rows, key=lambda r: r.evaluation.kld.value):
        place = "smallest and closest to the original" if place else "closest to the original"
    return f"{place}; {_made(row)}" if place else _made(row)


def _made(row: Row) -> str:
    if row.pruned_layers:
        return "layers removed"
    if row.search:
        return row.search.chosen if row.search.ships_stock else "types chosen by measurement"
    return "types by hand" if row.tensor_type_patterns else f"stock {row.ftype}"


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
        " Same top p is how often both hold the same next word likeliest."
    ]
    if any(row.speed for row in record.rows):
        parts.append("Speeds are ratios with 95 % intervals; tied where these hold 1.")
    if any(map(is_compensated, offered(record))):
        parts.append("Every llama.cpp runs these files.")
    return " ".join(parts)


def example(record: Record) -> Row | None:
    """The file that commands are shown of: the largest whose types were chosen, else the closest to the original."""
    rows = offered(record)
    chosen = [row for row in rows if row.search]
    return chosen[-1] if chosen else min(rows, key=lambda r: r.evaluation.kld.value, default=None)


def how_to_run(row: Row) -> str:
    """What the commands below do."""
    return (
        f"With [llama.cpp](https://github.com/ggml-org/llama.cpp) and {plain(row.file)} in this folder: a chat in the"
        " terminal, and a server with a web page and OpenAI's interface on port 8080."
    )


def run_lines(row: Row, tower: Projector | None) -> str:
    """Commands that start a file, one a line."""
    file = shlex.quote(row.file)
    more = f" --mmproj {shlex.quote(tower.file)}" if tower else ""
    return f"llama-cli -m {file} -c {_N_CTX}\nllama-server -m {file} -c {_N_CTX}{more}"
