"""One page over many runs: which models there are, which runs of each, which files they keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lwq.errors import FileError, LwqError
from lwq.record.record import Record, Row
from lwq.report.choices import offered
from lwq.report.markdown import code, plain
from lwq.report.numerals import count, fixed, hub_size, rounded, rounded_percent
from lwq.report.page import html_page
from lwq.report.record_json import read_record
from lwq.report.rows import how_made, text_of
from lwq.report.tables import Column, Table, columns, table_rows
from lwq.store.files import write_atomic

PAGE: Final = "index.html"
TEXT: Final = "INDEX.md"
_TITLE: Final = "Models and runs"
_DESCRIPTION: Final = "Each model that was quantized here, its runs, and the files that they keep."


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun:
    """A record and where it lies below the folder of all."""

    place: str
    """``quickstart``; ``.`` for a record in the folder itself."""
    record: Record


def find_runs(folder: Path) -> tuple[tuple[FoundRun, ...], tuple[str, ...]]:
    """(runs, why others could not be read), by place; hidden folders are not looked into.

    Raises:
        FileError: there is no record below the folder that could be read, or one in it.
    """
    runs, left_out = [], []
    for path in sorted(folder.rglob("record.json")):
        place = path.parent.relative_to(folder)
        if place == Path():
            what = "is the folder of one run, whose page the index would take the place of"
            raise FileError(f"{folder}: {what}", hint="name the folder above it, reports/")
        if any(part.startswith(".") for part in place.parts):
            continue
        try:
            runs.append(FoundRun(place=place.as_posix(), record=read_record(path)[0]))
        except LwqError as error:
            left_out.append(error.message)
    if not runs:
        more = f" that can be read: {left_out[0]}" if left_out else ""
        raise FileError(f"{folder}: no record.json below it{more}", hint="name the folder of reports")
    return tuple(runs), tuple(left_out)


def write_index(runs: tuple[FoundRun, ...], folder: Path) -> tuple[Path, Path]:
    """The page and the Markdown, written into the folder that the runs were found in."""
    write_atomic(folder / PAGE, html_page(_TITLE, _DESCRIPTION, index(runs, PAGE)))
    write_atomic(folder / TEXT, index(runs, "README.md"))
    return folder / PAGE, folder / TEXT


def index(runs: tuple[FoundRun, ...], document: str) -> str:
    """The Markdown; runs are linked by this document in their folders."""
    by_model: dict[str, list[FoundRun]] = {}
    for run in runs:
        by_model.setdefault(run.record.model.name, []).append(run)
    parts = [f"# {_TITLE}", _DESCRIPTION]
    n = 0
    for name in sorted(by_model, key=str.casefold):
        parts += [f"## {plain(name)}", _sources(by_model[name])]
        for table in _tables(by_model[name], document):
            n += 1
            parts += [f"**Table {n}.** {table.caption}", table_rows(table)]
    return "\n\n".join(parts) + "\n"


def _sources(runs: Iterable[FoundRun]) -> str:
    """Where a model of that name is from, and how large it is."""
    told = dict.fromkeys(
        f"{code(m.source)} ({plain(m.architecture)}, {m.n_layer} layers, {count(m.n_params)} parameters)"
        for m in (run.record.model for run in runs)
    )
    return f"From {', '.join(told)}."


def _tables(runs: list[FoundRun], document: str) -> Iterator[Table]:
    yield _runs_table(runs, document)
    groups: dict[tuple[str, str, int, int], list[FoundRun]] = {}
    for run in runs:
        text = text_of(run.record, "evaluation")
        measured = (text.sha256, text.n_ctx, text.n_chunks) if text else ("", 0, 0)
        groups.setdefault((run.record.model.sha256, *measured), []).append(run)
    for group in groups.values():
        if any(offered(run.record) for run in group):
            yield _files_table(group, document, is_alone=len(groups) == 1)


def _runs_table(runs: list[FoundRun], document: str) -> Table:
    return Table(
        caption="Runs.",
        columns=(
            Column(title="Run", right=False, is_file=True),
            Column(title="Finished", right=False),
            *columns("Files kept"),
            Column(title="Sizes", right=False),
            Column(title="lwq", right=False),
            Column(title="llama.cpp", right=False, code=True),
        ),
        rows=tuple(_run(run, document) for run in runs),
    )


def _run(run: FoundRun, document: str) -> tuple[str, ...]:
    record = run.record
    rows = offered(record)
    sizes = dict.fromkeys(hub_size(row.file_bytes) for row in (rows[0], rows[-1])) if rows else ("–",)
    finished, version = record.provenance.finished[:10], record.provenance.lwq_version
    commit = record.toolchain.commit[:10]
    return (_link(run, document), finished, count(len(rows)), " … ".join(sizes), version, commit)


def _link(run: FoundRun, document: str) -> str:
    return f"{run.place}/{document}"


def _files_table(runs: list[FoundRun], document: str, *, is_alone: bool) -> Table:
    """The files that runs of one model, measured on the same windows, keep, smallest first."""
    text = text_of(runs[0].record, "evaluation")
    where = f", measured on {text.n_chunks} windows of {code(text.source)}" if text else ""
    beside = "" if is_alone else " Figures of other tables cannot be compared with these."
    rows = sorted(
        ((run, row) for run in runs for row in offered(run.record)), key=lambda r: (r[1].file_bytes, r[0].place)
    )
    return Table(
        caption=f"Files that are kept{where}.{beside}",
        columns=(
            Column(title="File", right=False, code=True),
            *columns("Size", "BPW", "KLD (nats)", "Same top p (%)"),
            Column(title="How made", right=False),
            Column(title="Run", right=False, is_file=True),
        ),
        rows=tuple(_file(run, row, document) for run, row in rows),
    )


def _file(run: FoundRun, row: Row, document: str) -> tuple[str, ...]:
    figures = (rounded(row.evaluation.kld), rounded_percent(row.evaluation.same_top_p))
    return (row.file, hub_size(row.file_bytes), fixed(row.bpw, 2), *figures, how_made(row), _link(run, document))
