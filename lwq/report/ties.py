"""What scores tell apart and what they do not, in sentences: paired items of this run, or rows of a published table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from statistics import fmean
from typing import Final

from lwq.metrics.ties import (
    Comparison,
    Outcomes,
    Ties,
    difference_stderr,
    grouped,
    mean_estimate,
    of_one_size,
    ranked,
    row_discordance,
)
from lwq.metrics.values import Estimate, smallest_visible, smallest_visible_unpaired
from lwq.record.record import Record, Row
from lwq.report.choices import offered
from lwq.report.markdown import either, plain
from lwq.report.numerals import fixed, rounded

_LEAST_P: Final = 0.001
_EXCHANGED: Final = "99,999 random exchanges of the two rows' outcomes of each item, as sets differ in size"


def of_items(rows: Mapping[str, Outcomes], reference: str | None = None) -> str:
    """The paragraph of rows that answered the same items: exact McNemar over all sets, Holm over the rows.

    Args:
        rows: row → set → whether each item was right; one row alone gives no paragraph.
        reference: the row that others are compared with; the highest average when None.
    """
    if len(rows) < 2:
        return ""
    ties = ranked(rows, reference)
    others = [row_discordance(rows[c.name], rows[ties.reference]) for c in ties.comparisons]
    n_items, share = others[0].n_items, sum(d.share for d in others) / len(others)
    sets = len(rows[ties.reference])
    per_set = f"{n_items:,} items" + (f" in {sets} sets" if sets > 1 else "")
    seen = smallest_visible(n_items, share)
    power = (
        f"With {per_set}, of which two rows answer {fixed(100 * share, 1)}% differently on average, differences under"
        f" {fixed(100 * seen, 1)} points cannot be seen (power 80 %)."
    )
    test = "exact McNemar tests over all items" if of_one_size(rows[ties.reference]) else _EXCHANGED
    how = (
        "Intervals are of the averages' differences, from items drawn anew in pairs; p from"
        f" {test}, adjusted for the number of rows (Holm)."
    )
    return " ".join((*_sentences(ties), power, how))


def of_scores(rows: Mapping[str, Estimate], reference: str | None = None) -> str:
    """The paragraph of a published table, of which only scores and their standard errors are known."""
    if len(rows) < 2:
        return ""
    ties = grouped(rows, reference)
    errors = [difference_stderr(rows[c.name], rows[ties.reference]) for c in ties.comparisons]
    seen = smallest_visible_unpaired(fmean(errors))
    power = f"With such errors, differences under {fixed(100 * seen, 1)} points cannot be seen (power 80 %)."
    how = (
        "p from z-tests of published scores, adjusted for the number of rows (Holm), as if every row had been asked"
        " other items; with the items themselves, smaller differences could be told apart."
    )
    return " ".join((*_sentences(ties), power, how))


def paragraph(record: Record) -> str:
    """What the task scores of a record tell apart: rows that answered every set, item by item.

    Where no outcome of an item is known, as in published tables, by scores and their errors.
    """
    if any(task.outcomes for row in record.rows for task in row.tasks):
        return of_items(_answered(record, record.rows))
    n_sets = max((len(row.tasks) for row in record.rows), default=0)
    whole = {row.name: row.tasks for row in record.rows if row.tasks and len(row.tasks) == n_sets}
    return of_scores({name: mean_estimate([task.score for task in tasks]) for name, tasks in whole.items()})


def unranked(record: Record) -> str:
    """Which files KLD ranks and the tasks do not: from the closest on, until one is told apart from it."""
    rows = sorted(offered(record), key=lambda row: row.evaluation.kld.value)
    outcomes = _answered(record, rows)
    rows = [row for row in rows if row.name in outcomes]
    if len(rows) < 2:
        return ""
    told_apart = {c.name for c in ranked(outcomes, rows[0].name).comparisons if c.is_told_apart}
    alike = tuple(takewhile(lambda row: row.name not in told_apart, rows))
    if len(alike) < 2:
        return ""
    names = either(tuple(plain(row.name) for row in alike))
    return (
        f"KLD ranks {names} (up to {rounded(alike[-1].evaluation.kld)} nats), the tasks do not: with these items none"
        f" of them is told apart from {plain(alike[0].name)}. Among them size and speed may decide."
    )


def _answered(record: Record, rows: Iterable[Row]) -> dict[str, Outcomes]:
    """Outcomes by name of the rows that answered every set."""
    names = [s.name for s in record.task_sets]
    return {
        row.name: {t.name: t.right() for t in row.tasks}
        for row in rows
        if names and [t.name for t in row.tasks if t.outcomes] == names
    }


def _sentences(ties: Ties) -> tuple[str, ...]:
    """The reference, the ties, and who is surely lower or higher; each only where there is one."""
    opening = "The highest average is" if ties.is_highest else "Compared with"
    head = f"{opening} {plain(ties.reference)}'s ({fixed(100 * ties.score, 2)}%)."
    if not ties.is_highest:
        head = f"{opening} {plain(ties.reference)} ({fixed(100 * ties.score, 2)}%):"
    parts = (
        ("Not told apart from it:", ties.tied),
        ("Surely lower:", ties.lower),
        ("Surely higher:", ties.higher),
    )
    sentences = (f"{name} {either(tuple(map(_difference, rows)))}." for name, rows in parts if rows)
    return (head, *sentences)


def _difference(row: Comparison) -> str:
    held = f", 95 % {_points(row.interval.low)} to {_points(row.interval.high)}" if row.interval else ""
    return f"{plain(row.name)} ({_points(row.difference)} points{held}, {p_value(row.p)})"


def _points(share: float) -> str:
    sign = "−" if share < 0 else "+" if share > 0 else "±"
    return f"{sign}{fixed(100 * abs(share), 2)}"


def p_value(p: float) -> str:
    """``p = .41``, ``p < .001``, ``p = 1``; two digits that count below .1."""
    if p < _LEAST_P:
        return f"p < {fixed(_LEAST_P, 3).removeprefix('0')}"
    text = fixed(p, 2 if p >= 0.0995 else 3)
    return f"p = {'1' if float(text) >= 1 else text.removeprefix('0')}"
