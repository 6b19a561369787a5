"""The card's folded tables as rows of strings: distributions, types, statistics, texts, times."""

from __future__ import annotations

from collections.abc import Callable

from lwq.metrics.values import Damage
from lwq.record.record import Record, Row, TypeShare
from lwq.report.numerals import count, estimate, fixed, percent, share
from lwq.report.rows import alike, is_compensated, is_healed, mixture
from lwq.report.tables import MODEL, Column, Table, columns, conditions, label

Percentiles = tuple[tuple[str, float], ...]


def distributions(record: Record) -> tuple[Table, ...]:
    """All else that the KLD pass printed: PPL against base, percentiles of KLD and of Δp."""
    groups = alike(record.rows)
    return tuple(
        table
        for group in groups
        for table in (
            _ratios(group, only=f" ({conditions(group)})" if len(groups) > 1 else ""),
            _percentiles(group, "KLD in nats", lambda d: d.kld_percentiles, _kld_text),
            _percentiles(group, "Δp in %", lambda d: d.delta_p_percentiles, _delta_p_text),
        )
    )


def _ratios(rows: tuple[Row, ...], *, only: str) -> Table:
    return Table(
        caption=f"Perplexity against the stored base, and mean Δp{only}.",
        columns=(
            MODEL,
            *columns("PPL(base)", "ln(PPL(Q)/PPL(base))", "PPL(Q)/PPL(base)"),
            *columns("PPL(Q) − PPL(base)", "Mean Δp (%)"),
        ),
        rows=tuple(
            (
                label(row),
                estimate(row.evaluation.ppl_base, 6),
                estimate(row.evaluation.ln_ppl_ratio, 6),
                estimate(row.evaluation.ppl_ratio, 6),
                estimate(row.evaluation.ppl_difference, 6),
                percent(row.evaluation.mean_delta_p, 3),
            )
            for row in rows
        ),
    )


def _percentiles(
    rows: tuple[Row, ...], quantity: str, percentiles_of: Callable[[Damage], Percentiles], text: Callable[[float], str]
) -> Table:
    names = tuple(dict.fromkeys(name for row in rows for name, _ in percentiles_of(row.evaluation)))
    body = []
    for row in rows:
        values = dict(percentiles_of(row.evaluation))
        body.append((label(row), *(text(values[name]) if name in values else "–" for name in names)))
    caption = f"{quantity}: highest, percentiles and lowest over the scored tokens."
    return Table(caption=caption, columns=(MODEL, *columns(*names)), rows=tuple(body))


def _kld_text(nats: float) -> str:
    return fixed(nats, 6)


def _delta_p_text(fraction: float) -> str:
    return fixed(100 * fraction, 3)


def types(record: Record) -> Table:
    """What each ggml type holds of each file."""
    return _shares(record, "ggml type", "Tensors by ggml type.", lambda row: row.types)


def classes(record: Record) -> Table:
    """What each tensor class holds of each file."""
    return _shares(record, "Tensor class", "Tensors by tensor class.", lambda row: row.classes)


def original_types(record: Record) -> str:
    """``f16 (211 tensors), f32 (61 tensors)``: the types of the given model."""
    parts = record.model.original_types
    return ", ".join(f"{s.name} ({count(s.n_tensors)} tensor{'s' * (s.n_tensors != 1)})" for s in parts)


def recipes(record: Record) -> Table:
    """What each file was made with, and the tensor types file that makes it again."""
    stock = any(map(is_compensated, record.rows))
    but = " Of a file with compensated values that is the one with stock values." if stock else ""
    return Table(
        caption="What each file was made with. A tensor types file names every quantizable tensor:"
        f" `llama-quantize --tensor-type-file` makes the file again with it.{but}",
        columns=(
            MODEL,
            *(Column(title=title, right=False) for title in ("Mixture", "imatrix", "Layers removed")),
            *columns("Hand-written patterns", "Fallback types"),
            Column(title="Tensor types file", right=False, code=True),
        ),
        rows=tuple(_recipe(row) for row in record.rows),
    )


def _recipe(row: Row) -> tuple[str, ...]:
    if row.origin != "ours":
        unknown = "unknown" if row.origin == "third-party" else "–"
        return row.name, row.ftype, unknown, unknown, unknown, unknown, "–"
    return (
        row.name,
        mixture(row),
        "yes" if row.uses_imatrix else "no",
        _removed(row),
        count(len(row.tensor_type_patterns)),
        count(row.n_fallback),
        row.tensor_types_file or "–",
    )


def _removed(row: Row) -> str:
    numbers = ", ".join(map(str, row.pruned_layers)) or "none"
    return f"{numbers}; healed" if is_healed(row) else numbers


def _shares(record: Record, title: str, caption: str, shares_of: Callable[[Row], tuple[TypeShare, ...]]) -> Table:
    name = Column(title=title, right=False, code=True)
    return Table(
        caption=f"{caption} Shares are of the tensor bytes of the file.",
        columns=(MODEL, name, *columns("Tensors", "Bytes", "Share", "Elements", "BPW")),
        rows=tuple(
            (
                label(row),
                part.name,
                count(part.n_tensors),
                count(part.n_bytes),
                share(part.n_bytes, sum(s.n_bytes for s in shares_of(row))),
                count(part.n_elements),
                fixed(8 * part.n_bytes / part.n_elements, 4) if part.n_elements else "–",
            )
            for row in record.rows
            for part in shares_of(row)
        ),
    )


def layer_statistics(record: Record) -> Table:
    """The per-layer averages, with the digits of ``llama-imatrix --show-statistics``."""
    return Table(
        caption="Importance matrix, averages per layer weighted by the number of channels.",
        columns=columns("Layer", "μΣ(Act²)", "μZD (%)", "μCosSim"),
        rows=tuple(
            (str(s.layer), fixed(s.mean_sum_sq, 2), fixed(100 * s.zd, 4), _cosine(s.cossim))
            for s in record.layer_statistics
        ),
    )


def _cosine(value: float | None) -> str:
    return "nan" if value is None else fixed(value, 4)


def tensor_statistics(record: Record) -> Table:
    """All columns of ``llama-imatrix --show-statistics`` for each tensor, with its digits."""
    titles = ("Σ(Act²)", "Min", "Max", "μ", "σ", "Active (%)", "N", "Entropy", "E (norm, %)", "ZD (%)")
    return Table(
        caption="Importance matrix, per tensor.",
        columns=(Column(title="Tensor", right=False, code=True), *columns("Layer", *titles, "CosSim")),
        rows=tuple(
            (
                s.tensor,
                "–" if s.layer is None else str(s.layer),
                fixed(s.sum_sq, 2),
                fixed(s.min, 4),
                fixed(s.max, 4),
                fixed(s.mean, 2),
                fixed(s.std, 2),
                fixed(100 * s.active, 2),
                count(s.n),
                fixed(s.entropy, 4),
                fixed(100 * s.entropy_norm, 2),
                fixed(100 * s.zd, 2),
                _cosine(s.cossim),
            )
            for s in record.tensor_statistics
        ),
    )


def texts(record: Record) -> Table:
    """Each text: role, file, source, bytes, window, chunks, sha256."""
    return Table(
        caption="Texts, and how much of each was used: chunks of n_ctx tokens from its start.",
        columns=(
            Column(title="Role", right=False),
            Column(title="File", right=False, code=True),
            Column(title="Source", right=False, code=True),
            *columns("Bytes", "n_ctx", "Chunks"),
            Column(title="sha256", right=False, code=True),
        ),
        rows=tuple(
            (t.role, t.file, t.source, count(t.n_bytes), count(t.n_ctx), count(t.n_chunks), t.sha256)
            for t in record.texts
        ),
    )


def step_times(record: Record) -> Table:
    """Wall seconds of each step when it really ran, and those of them spent in llama.cpp."""
    return Table(
        caption="Wall time of each step when it really ran, and the part of it spent in llama.cpp programs.",
        columns=(Column(title="Step", right=False, code=True), *columns("Seconds", "In llama.cpp")),
        rows=tuple((s.step, fixed(s.seconds, 1), fixed(s.tool_seconds, 1)) for s in record.provenance.steps),
    )
