"""The damage of pruned rows in its parts: of pruning and of quantizing, each with what it is measured against."""

from __future__ import annotations

from typing import Final

from lwq.record.prune import PrunedParts
from lwq.record.record import Record, Row
from lwq.report.markdown import plain
from lwq.report.numerals import count, estimate
from lwq.report.rows import alike
from lwq.report.tables import MODEL, Column, Table, columns, conditions, label

MEANING: Final = (
    "*Total* is the file against the unpruned original, as in the tables above. *Prune part* is the pruned base (16"
    " bits, without the layers, with the repairs) against the unpruned original. *Quant part* is the file against its"
    " own pruned base: it is what the usual card of a pruned model prints, so it is the column to hold beside a card"
    " that scores a pruned model against its own pruned F16. PPL is that of the file, but of the pruned base in the"
    " prune part; what the quant part adds is its ratio to the pruned base's. Parts need not add up to the total."
)
"""What the three damages are, for the reader."""


def table(record: Record) -> Table | None:
    """One line for each row that lost layers and was measured in parts; None without any."""
    rows = [(row, row.parts) for row in record.rows if row.parts]
    if not rows:
        return None
    return Table(
        caption="What pruning cost, what quantizing cost. Damage of pruned files in its parts, on the evaluation"
        f" text.{_apart(record)}",
        columns=(
            MODEL,
            Column(title="Repaired", right=False),
            *columns("Total: KLD against the original (nats)", "Total: PPL"),
            *columns("Prune part: KLD of the pruned base against the original (nats)", "Prune part: PPL"),
            *columns("Quant part: KLD against the pruned base (nats)", "Quant part: PPL"),
            *columns("Quant part: PPL(Q)/PPL(base)"),
            Column(title="Pruned base", right=False, code=True),
        ),
        rows=tuple(_line(row, parts) for row, parts in rows),
    )


def _line(row: Row, parts: PrunedParts) -> tuple[str, ...]:
    return (
        label(row),
        _repaired(parts),
        estimate(row.evaluation.kld, 6),
        estimate(row.evaluation.ppl, 6),
        estimate(parts.prune.kld, 6),
        estimate(parts.prune.ppl, 6),
        estimate(parts.quant.kld, 6),
        estimate(parts.quant.ppl, 6),
        estimate(parts.quant.ppl_ratio, 6),
        parts.base_file,
    )


def _repaired(parts: PrunedParts) -> str:
    if parts.healed is None:
        return "no"
    n = len(parts.healed.tensors)
    return f"{count(n)} tensor{'s' * (n != 1)}" if n else f"no: {parts.healed.note or 'nothing helped'}"


def _apart(record: Record) -> str:
    """Which lines may be compared, where rows were measured on different chunks or against different bases."""
    groups = alike(row for row in record.rows if row.parts)
    if len(groups) < 2:
        return ""
    by_group = "; ".join(f"{', '.join(plain(row.name) for row in group)}: {conditions(group)}" for group in groups)
    return f" Not all were measured alike ({by_group})."
