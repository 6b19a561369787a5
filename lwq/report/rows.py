"""Which rows of a record may stand side by side, how each was made, and which nobody beats."""

from __future__ import annotations

from collections.abc import Iterable

from lwq.record.record import Record, Row, TextFacts
from lwq.record.search import Search, stock_name


def alike(rows: Iterable[Row]) -> tuple[tuple[Row, ...], ...]:
    """The rows in groups that were measured on the same chunks against the same base, in order.

    The stored base gives the same ``Mean PPL(base)`` to every row that was measured against it.
    """
    groups: dict[tuple[float, int], list[Row]] = {}
    for row in rows:
        key = (row.evaluation.ppl_base.value, len(row.evaluation.chunk_kld))
        groups.setdefault(key, []).append(row)
    return tuple(map(tuple, groups.values()))


def base_row(record: Record) -> Row | None:
    """The row of the base, or None where the record has none."""
    return next((row for row in record.rows if row.origin == "base"), None)


def text_of(record: Record, role: str) -> TextFacts | None:
    """The text with that role, or None."""
    return next((text for text in record.texts if text.role == role), None)


def n_scored(text: TextFacts) -> int:
    """Tokens scored: the second half of each window, less the one that has no successor."""
    return text.n_chunks * (text.n_ctx - 1 - text.n_ctx // 2)


def how_made(row: Row) -> str:
    """``stock Q4_K_M, imatrix``, ``lwq allocation, imatrix``, ``Q4_K_M, 2 hand-written patterns, imatrix``, …"""
    if row.origin == "base":
        return "base"
    if row.origin == "third-party":
        return f"third party, {row.ftype}" + (f", {len(row.shards)} shards" if row.shards else "")
    n_patterns = len(row.tensor_type_patterns)
    is_stock = not (n_patterns or row.pruned_layers or row.search)
    parts = [stock_name(row.ftype) if is_stock else mixture(row)]
    if n_patterns:
        parts.append(f"{n_patterns} hand-written pattern{'s' if n_patterns > 1 else ''}")
    parts.append("imatrix" if row.uses_imatrix else "no imatrix")
    parts += ["compensated values"] if is_compensated(row) else []
    parts += removal(row)
    return ", ".join(parts)


def mixture(row: Row) -> str:
    """The ftype, or ``lwq allocation``, with the name of the stock mix where none beat that."""
    if row.search is None:
        return row.ftype
    return f"lwq allocation: {row.search.chosen}" if row.search.ships_stock else "lwq allocation"


def searched(record: Record) -> tuple[tuple[Row, Search], ...]:
    """The rows whose allocation lwq chose within a budget, with how, in the card's order."""
    return tuple((row, row.search) for row in record.rows if row.search)


def chosen_on(record: Record) -> str | None:
    """The role of the text that files were chosen on, or None where the rule keeps every file unseen."""
    return None if record.selection.rule == "all" else record.selection.text


def is_compensated(row: Row) -> bool:
    """Whether some tensor of the file has other values than llama-quantize's own."""
    return row.compensated is not None and row.compensated.n_tensors > 0


def removal(row: Row) -> list[str]:
    """``layers 4, 5 removed`` and ``healed``, as far as they are true of the row."""
    removed = [f"{layers(row.pruned_layers)} removed"] if row.pruned_layers else []
    return [*removed, "healed"] if is_healed(row) else removed


def is_healed(row: Row) -> bool:
    """Whether the row's pruned base has repaired tensors."""
    return row.parts is not None and row.parts.healed is not None and bool(row.parts.healed.tensors)


def healed_on(record: Record) -> str:
    """The role of the text that repairs were judged on."""
    return "selection" if text_of(record, "selection") else "evaluation"


def layers(numbers: tuple[int, ...]) -> str:
    """``layer 20``, ``layers 4, 5``."""
    return f"layer{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def pareto(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows, smallest first, for which no other is as small and has a lower KLD (or the reverse).

    Small means bytes of tensors: a few words of metadata more or less beat nobody.
    """
    front: list[Row] = []
    for row in sorted(rows, key=lambda r: (tensor_bytes(r), r.evaluation.kld.value)):
        if not front or row.evaluation.kld.value < front[-1].evaluation.kld.value:
            front.append(row)
    return tuple(front)


def tensor_bytes(row: Row) -> int:
    """Bytes of all tensors of a file; those of the file where its types are not known."""
    return sum(share.n_bytes for share in row.types) or row.file_bytes
