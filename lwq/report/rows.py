"""Which rows of a record may stand side by side, how each was made, and which nobody beats."""

from __future__ import annotations

from collections.abc import Iterable

from lwq.record import Record, Row, TextFacts


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
    """``stock Q4_K_M, imatrix``, ``Q4_K_M, 2 hand-written patterns, imatrix, layer 20 removed``, …"""
    if row.origin == "base":
        return "base"
    if row.origin == "third-party":
        return f"third party, {row.ftype}"
    n_patterns = len(row.tensor_type_patterns)
    parts = [row.ftype if n_patterns or row.pruned_layers else f"stock {row.ftype}"]
    if n_patterns:
        parts.append(f"{n_patterns} hand-written pattern{'s' if n_patterns > 1 else ''}")
    parts.append("imatrix" if row.uses_imatrix else "no imatrix")
    if row.pruned_layers:
        parts.append(f"{layers(row.pruned_layers)} removed")
    return ", ".join(parts)


def chosen_on(record: Record) -> str | None:
    """The role of the text that files were chosen on, or None where the rule keeps every file unseen."""
    return None if record.selection.rule == "all" else record.selection.text


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
