"""The card's main tables as rows of strings: sizes, quality, tasks, speed, selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lwq.record.record import FileHash, Record, Row
from lwq.report.markdown import code_cell, file_link, plain
from lwq.report.numerals import (
    NOT_MEASURED,
    count,
    estimate,
    fixed,
    gib,
    mib,
    parameters,
    percent,
    rounded,
    rounded_percent,
    rounded_ppl,
    share,
)
from lwq.report.rows import alike, base_row, chosen_on, how_made, removal


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's title and how its cells are set."""

    title: str
    right: bool = True
    code: bool = False
    is_file: bool = False
    """Cells are names of files beside the card, shown as links to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells as plain text (templates escape them); the caption is Markdown."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


MODEL: Final = Column(title="Model", right=False)


def columns(*titles: str) -> tuple[Column, ...]:
    """Right-aligned columns of figures."""
    return tuple(Column(title=title) for title in titles)


def label(row: Row) -> str:
    """The row's name with what a reader must not overlook: base, third party, layers removed, healed."""
    marks = ["base"] if row.origin == "base" else ["third party"] if row.origin == "third-party" else []
    marks += removal(row)
    return f"{row.name} ({', '.join(marks)})" if marks else row.name


def kld_text(row: Row) -> str:
    """KLD from the base, which is 0 for the base: what storing its log-probabilities costs is the floor."""
    return "0" if row.origin == "base" else rounded(row.evaluation.kld)


def sizes(record: Record) -> Table:
    """File, how it was made, bytes, GiB, share of the base, bpw, parameters, predicted against real."""
    base = base_row(record)
    in_gib = gib(row.file_bytes for row in record.rows)
    return Table(
        caption="Sizes of the files. Bytes, BPW and parameters are read off each file; the prediction was"
        " made before the file was written.",
        columns=(
            Column(title="File", right=False, code=True),
            Column(title="How made", right=False),
            *columns("Bytes", "GiB", "Of base", "BPW", "Parameters", "Predicted size"),
        ),
        rows=tuple(
            (
                row.file,
                how_made(row),
                count(row.file_bytes),
                size,
                share(row.file_bytes, base.file_bytes) if base else "–",
                fixed(row.bpw, 4),
                parameters(row.n_params),
                _prediction(row),
            )
            for row, size in zip(record.rows, in_gib, strict=True)
        ),
    )


def _prediction(row: Row) -> str:
    if row.predicted_file_bytes is None:
        return "not predicted"
    off = row.file_bytes - row.predicted_file_bytes
    return "exact" if off == 0 else f"{count(row.predicted_file_bytes)} (real {off:+,})"


def projector(record: Record) -> Table | None:
    """File, type, bytes, MiB and parameters of the tower's file, or None where the original has none."""
    if (tower := record.projector) is None:
        return None
    size = (count(tower.file_bytes), mib(tower.file_bytes), parameters(tower.n_params))
    return Table(
        caption="The projector: the original's vision or audio tower, the same for every file above. llama.cpp takes it"
        f" beside one of them, by `--mmproj {tower.file}`. It is passed on, not measured.",
        columns=(Column(title="File", right=False, code=True), *columns("Type", "Bytes", "MiB", "Parameters")),
        rows=((tower.file, tower.types[0].name.upper(), *size),),
    )


def checksums(record: Record) -> Table:
    """File and sha256."""
    return Table(
        caption="Checksums and exact parameter counts.",
        columns=(
            Column(title="File", right=False, code=True),
            Column(title="sha256", right=False, code=True),
            Column(title="Parameters"),
        ),
        rows=(*(cells for row in record.rows for cells in _checksums(row)), *_checksum_of_tower(record)),
    )


def _checksums(row: Row) -> tuple[tuple[str, str, str], ...]:
    """A line for the file; for a split model one for each shard, the parameters of all beside the first."""
    files = row.shards or (FileHash(file=row.file, sha256=row.sha256),)
    return tuple((f.file, f.sha256, "" if i else count(row.n_params)) for i, f in enumerate(files))


def _checksum_of_tower(record: Record) -> tuple[tuple[str, str, str], ...]:
    tower = record.projector
    return ((tower.file, tower.sha256, count(tower.n_params)),) if tower else ()


def contents(record: Record) -> Table:
    """What each file holds: size, bpw, layers removed, and the share of its bytes in each type."""
    in_gib = gib(row.file_bytes for row in record.rows)
    return Table(
        caption="What the files hold.",
        columns=(MODEL, *columns("GiB", "BPW"), Column(title="Types by bytes", right=False)),
        rows=tuple(
            (label(row), size, fixed(row.bpw, 4), _types(row)) for row, size in zip(record.rows, in_gib, strict=True)
        ),
    )


def _types(row: Row) -> str:
    total = sum(t.n_bytes for t in row.types)
    return ", ".join(f"{t.name} {share(t.n_bytes, total, 0)}" for t in row.types if t.n_bytes > 0.005 * total)


def quality(record: Record, *, exact: bool = False) -> tuple[Table, ...]:
    """The reference card's table, one for each group of rows that may be compared.

    Args:
        exact: with all digits that the tools print, else as many as the errors leave.
    """
    groups = alike(record.rows)
    return tuple(_quality(group, beside_others=len(groups) > 1, exact=exact) for group in groups)


def _quality(rows: tuple[Row, ...], *, beside_others: bool, exact: bool) -> Table:
    caption = "Damage against the base, measured on the evaluation text."
    caption += " All digits that the tools print." if exact else ""
    if beside_others:
        caption += f" Only these rows can be compared with each other: {conditions(rows)}."
    return Table(
        caption=caption,
        columns=(MODEL, *columns("BPW", "μPPL", "ρPPL", "μKLD (nats)", "RMS Δp (%)", "Same top p (%)")),
        rows=tuple(
            (
                label(row),
                fixed(row.bpw, 4),
                estimate(row.evaluation.ppl, 6) if exact else rounded_ppl(row.evaluation),
                f"{fixed(100 * row.evaluation.cor_ln_ppl, 2)}%",
                estimate(row.evaluation.kld, 6) if exact else kld_text(row),
                *(
                    percent(share, 3) if exact else rounded_percent(share)
                    for share in (row.evaluation.rms_delta_p, row.evaluation.same_top_p)
                ),
            )
            for row in rows
        ),
    )


def conditions(rows: tuple[Row, ...]) -> str:
    """Under what a group of rows was measured."""
    damage = rows[0].evaluation
    return f"{len(damage.chunk_kld)} chunks, PPL(base) {fixed(damage.ppl_base.value, 6)}"


def selection(record: Record) -> Table:
    """Each row's verdict, with the figures of the selection text where it was scored on one."""
    rows = {row.name: row for row in record.rows}
    scored = any(row.selection for row in record.rows)
    figures = columns("μPPL (selection)", "μKLD (selection, nats)") if scored else ()
    reason = (Column(title="Kept", right=False), Column(title="Why", right=False))
    body = []
    for verdict in record.selection.verdicts:
        row = rows.get(verdict.row)
        cells = _selection_figures(row) if scored else ()
        name = label(row) if row else verdict.row
        body.append((name, "kept" if verdict.kept else "left out", *cells, verdict.reason))
    role = chosen_on(record)
    return Table(
        caption=f"Verdicts, judged on the {plain(role)} text." if role else "Verdicts.",
        columns=(MODEL, reason[0], *figures, reason[1]),
        rows=tuple(body),
    )


def _selection_figures(row: Row | None) -> tuple[str, str]:
    if row is None or row.selection is None:
        return NOT_MEASURED, NOT_MEASURED
    return rounded_ppl(row.selection), rounded(row.selection.kld)


def table_rows(table: Table) -> str:
    """The table in Markdown, without its caption."""
    heads = [plain(column.title) for column in table.columns]
    rules = ["--:" if column.right else ":--" for column in table.columns]
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(rules)} |"]
    for row in table.rows:
        cells = (_cell(cell, column) for cell, column in zip(row, table.columns, strict=True))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(text: str, column: Column) -> str:
    if column.is_file:
        return file_link(text)
    return code_cell(text) if column.code and text != "–" else plain(text)
