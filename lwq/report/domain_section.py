"""Damage by domain: each file on each text of evaluation, its mean over domains, and where it is worst."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from lwq.metrics.values import Damage, Estimate
from lwq.record.record import Record, Row
from lwq.report.markdown import either, plain
from lwq.report.numerals import rounded, rounded_percent
from lwq.report.tables import MODEL, Column, Table, columns, label


def table(record: Record) -> Table | None:
    """Mean KLD and that of each domain; None where there is one domain alone."""
    rows = _measured(record)
    if not rows:
        return None
    names = tuple(domain.name for domain in record.domains)
    return Table(
        caption="KLD from the base by domain, in nats, and the mean over domains.",
        columns=(MODEL, *columns("Mean", *names), Column(title="Worst", right=False)),
        rows=tuple(
            (
                label(row),
                *_klds(record, row),
                _worst(record, row) if row.origin != "base" else "–",
            )
            for row in rows
        ),
    )


def _klds(record: Record, row: Row) -> tuple[str, ...]:
    """The mean and each domain's; 0 for the base, whose own are the floor."""
    found = (_mean(record, row), *(damage.kld for damage in _damages(row)))
    return ("0",) * len(found) if row.origin == "base" else tuple(map(rounded, found))


def closest(record: Record, rows: Sequence[Row]) -> Row:
    """The row of lowest mean KLD over the domains, where all were measured on them; else on the evaluation text."""
    if {row.name for row in rows} <= {row.name for row in _measured(record)}:
        return min(rows, key=lambda row: _mean(record, row).value)
    return min(rows, key=lambda row: row.evaluation.kld.value)


def worst_of(record: Record, row: Row) -> str:
    """A sentence on the domain that a file is worst in, with a space before it; empty where there is one alone."""
    if row not in _measured(record):
        return ""
    at = _worst_at(row)
    told = f"{plain(record.domains[at].name)}, where its KLD is {rounded(_damages(row)[at].kld)}"
    first = plain(record.domains[0].name)
    return f" That is on {first}; its worst domain is {told}." if at else f" That is on {first}, its worst domain."


def meaning(record: Record) -> str:
    """How the mean is weighted, and which domain suffers most; empty where there is one alone."""
    rows = [row for row in _measured(record) if row.origin != "base"]
    if not rows:
        return ""
    weights = tuple(f"{domain.weight:g} for {plain(domain.name)}" for domain in record.domains)
    alike = len({domain.weight for domain in record.domains}) == 1
    told = "Domains count alike in the mean." if alike else f"Weights in the mean: {either(weights)}."
    worst, n = Counter(_worst(record, row) for row in rows).most_common(1)[0]
    files = "every file" if n == len(rows) else f"{n} of {len(rows)} files"
    return f"{told} The worst domain of {files} is {plain(worst)}."


def each(record: Record) -> tuple[Table, ...]:
    """KLD, same top p and ratio of perplexities, one table for each domain."""
    return tuple(_of(record, at, domain.name) for at, domain in enumerate(record.domains) if _measured(record))


def _of(record: Record, at: int, name: str) -> Table:
    text = next((t for t in record.texts if t.role == record.domains[at].role), None)
    on = f", {text.n_chunks} windows of {text.n_ctx} tokens" if text else ""
    return Table(
        caption=f"Damage in the domain {plain(name)}{on}.",
        columns=(MODEL, *columns("KLD (nats)", "Same top p (%)", "PPL(Q) ÷ PPL(base)")),
        rows=tuple(
            (label(row), rounded(d.kld), rounded_percent(d.same_top_p), rounded(d.ppl_ratio))
            for row in _measured(record)
            for d in (_damages(row)[at],)
        ),
    )


def _measured(record: Record) -> tuple[Row, ...]:
    """The rows that were measured on all domains, where there are several."""
    n = len(record.domains)
    return tuple(row for row in record.rows if n > 1 and len(row.domains) == n - 1)


def _damages(row: Row) -> tuple[Damage, ...]:
    return (row.evaluation, *row.domains)


def _mean(record: Record, row: Row) -> Estimate:
    """Weighted, its error from those of the domains, which share no token."""
    weights = [domain.weight for domain in record.domains]
    klds = [damage.kld for damage in _damages(row)]
    value = sum(w * k.value for w, k in zip(weights, klds, strict=True)) / sum(weights)
    stderr = math.hypot(*(w * (k.stderr or 0) for w, k in zip(weights, klds, strict=True))) / sum(weights)
    return Estimate(value=value, stderr=stderr, unit="nats")


def _worst(record: Record, row: Row) -> str:
    return record.domains[_worst_at(row)].name


def _worst_at(row: Row) -> int:
    klds = [damage.kld.value for damage in _damages(row)]
    return klds.index(max(klds))
