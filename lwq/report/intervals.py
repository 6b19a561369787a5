"""How sure the damage is: errors by blocks of windows, 95 % intervals, and each row against one, window by window."""

from __future__ import annotations

from typing import Final

import numpy as np

from lwq.metrics.arrays import Doubles
from lwq.metrics.paired import MIN_WINDOWS, block_stderr, mean_interval, ratio_interval
from lwq.metrics.values import Interval
from lwq.record.record import Record, Row
from lwq.report.numerals import brief, rounded, rounded_range
from lwq.report.rows import alike, tensor_bytes
from lwq.report.tables import MODEL, Column, Table, columns, kld_text, label

_UNIT: Final = 1e-5
"""The last decimal of a running mean; a window's own figure is known to n − ½ of it."""
MEANING: Final = (
    "llama-perplexity's own ± treats all tokens as independent; neighbouring tokens and windows are not. The intervals"
    " here come from whole windows (a studentized bootstrap that keeps their correlation), and rows are compared window"
    " by window: all saw the same ones."
)


def tables(record: Record) -> tuple[Table, ...]:
    """One table for each group of rows that may be compared and has enough windows."""
    groups = (group for group in alike(record.rows) if len(group[0].evaluation.window_ln_ppl_ratio()) >= MIN_WINDOWS)
    return tuple(_table(group) for group in groups)


def too_few(record: Record) -> str:
    """That there are too few windows for intervals, where that is so; empty otherwise."""
    least = min((len(row.evaluation.chunk_kld) for row in record.rows), default=MIN_WINDOWS)
    if least >= MIN_WINDOWS:
        return ""
    return f"With {least} windows no interval is given: at least {MIN_WINDOWS} are needed."


def rival(row: Row, rows: tuple[Row, ...]) -> Row | None:
    """The row that another is compared with: of our stock mixes (of all files without any) the nearest in size."""
    files = [r for r in rows if r.origin != "base" and r is not row]
    stock = [r for r in files if r.origin == "ours" and not (r.tensor_type_patterns or r.search or r.pruned_layers)]
    if row.origin == "base" or not files:
        return None
    return min(stock or files, key=lambda r: (abs(tensor_bytes(r) - tensor_bytes(row)), not r.uses_imatrix, r.name))


def _table(rows: tuple[Row, ...]) -> Table:
    compared = any(rival(row, rows) for row in rows)
    more = (
        Column(title="vs", right=False),
        *columns("Difference in KLD (95 %)"),
        Column(title="Verdict", right=False),
    )
    beside = " Beside each stands the stock mix that is nearest in size." if compared else ""
    return Table(
        caption=f"95 % intervals of the damage, from windows.{beside}",
        columns=(
            MODEL,
            *columns("μKLD (nats)", "± by blocks", "95 %", "PPL(Q)/PPL(base)", "95 %"),
            *(more if compared else ()),
        ),
        rows=tuple((*_own(row), *(_compared(row, rival(row, rows)) if compared else ())) for row in rows),
    )


def _own(row: Row) -> tuple[str, ...]:
    damage, judged = row.evaluation, row.origin != "base"  # the base differs from its stored self by storing alone
    kld, ratios = np.array(damage.window_kld()), np.array(damage.window_ln_ppl_ratio())
    return (
        label(row),
        kld_text(row),
        brief(block_stderr(kld), 2) if judged else "–",
        _interval(mean_interval(kld)) if judged and _is_seen(kld) else "–",
        rounded(damage.ppl_ratio),
        _interval(ratio_interval(ratios)) if judged and _is_seen(ratios) else "–",
    )


def _is_seen(windows: Doubles) -> bool:
    """Whether some window's figure is more than the rounding of printed means can make (base against itself: none)."""
    return bool(np.abs(windows).max() > (len(windows) - 0.5) * _UNIT)


def _compared(row: Row, other: Row | None) -> tuple[str, str, str]:
    if other is None:
        return "–", "–", "–"
    interval = mean_interval(np.subtract(row.evaluation.window_kld(), other.evaluation.window_kld()))
    difference = row.evaluation.kld.value - other.evaluation.kld.value
    if interval is None:
        return other.name, f"{difference:+.3g}", "–"
    conclusion = (
        "closer to the base" if interval.high < 0 else "farther from the base" if interval.low > 0 else "not told apart"
    )
    decimals = len(rounded_range(interval.low, interval.high)[0].partition(".")[2])
    return other.name, f"{difference:+.{decimals}f} ({_interval(interval)})", conclusion


def _interval(interval: Interval | None) -> str:
    return " … ".join(rounded_range(interval.low, interval.high)) if interval else "–"
