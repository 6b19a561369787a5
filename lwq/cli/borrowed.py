"""``lwq allocate --from``: the types that a record's files have, for another model of the same shape."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from lwq.cli.measured import Subject
from lwq.cli.progress import Progress
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json, print_table
from lwq.errors import FileError, ModelError
from lwq.gguf.allocation import Allocation
from lwq.gguf.header import GgufHeader
from lwq.gguf.types import bits_per_weight, fallback_type, known_type
from lwq.plan.job import Job
from lwq.plan.planner import Planner
from lwq.recipe.family import name_of
from lwq.record.record import Record, Row, TextFacts, shares
from lwq.store.files import write_atomic

_HINT = "`lwq allocate MODEL --budget …` measures this model itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Borrowed:
    """A row's types, and what they give on this model."""

    row: Row
    n_bytes: int
    bpw: float


def borrow(path: Path, subject: Subject, settings: Settings, out: Path | None, *, as_json: bool) -> None:
    """Prints what the types of a record's searched files give on another model, and writes them to ``out``.

    Raises:
        FileError: no record, or none of its files has types that a search found.
        ModelError: the model is not of that shape.
    """
    from lwq.report.record_json import read_record

    record, _ = read_record(path)
    progress = Progress(settings.verbosity)
    part = partial(Planner.measurement, layers=False)
    job = Job.prepare(subject.asked(), settings.machine(), settings.cache(), progress.note, part, look=True)
    if (header := job.header()) is None:
        raise ModelError(f"{subject.reference}: not known before it is converted", hint="`lwq toolchain converter`")
    if not (rows := [row for row in record.rows if row.search and row.tensor_types and not row.pruned_layers]):
        raise FileError(f"{path}: no file in it has types that were searched for all layers", hint=_HINT)
    found = [_borrowed(row, header) for row in rows]
    name = job.sources.model.name
    if as_json:
        print_json([_values(one, record, name) for one in found])
    else:
        _show(found, record, name)
    for one in found if out else ():
        _write(one, job, out or Path(), [text for text in record.texts if text.role == "calibration"])


def _borrowed(row: Row, header: GgufHeader) -> Borrowed:
    there = {share.name: (share.n_tensors, share.n_elements) for share in row.classes}
    here = {s.name: (s.n_tensors, s.n_elements) for s in shares(header.tensors, lambda t: t.tensor_class)}
    for name in (*there, *here):
        if (theirs := there.get(name, (0, 0))) != (ours := here.get(name, (0, 0))):
            told = " there, ".join(f"{n:,} tensors with {of:,} elements" for n, of in (theirs, ours))
            raise ModelError(f"{header.path.name}: has not the shape of {row.name}: {name}: {told} here", hint=_HINT)
    types, known = {name: known_type(q) for name, q in row.tensor_types}, {t.name for t in header.tensors}
    if strange := next((name for name in types if name not in known), ""):
        raise ModelError(f"{header.path.name}: has no tensor {strange!r}, as {row.name} has", hint=_HINT)
    tensors = [replace(t, ggml_type=types.get(t.name, t.ggml_type)) for t in header.tensors]
    if unfit := next((t for t in tensors if fallback_type(t.ggml_type, t.ne[0]) != t.ggml_type), None):
        raise ModelError(f"{header.path.name}: rows of {unfit.name} do not fit {unfit.ggml_type}", hint=_HINT)
    return Borrowed(row=row, n_bytes=sum(t.n_bytes for t in tensors), bpw=bits_per_weight(tensors))


def _values(one: Borrowed, record: Record, name: str) -> dict[str, object]:
    return {
        "row": one.row.name,
        "model": name,
        "n_bytes": one.n_bytes,
        "bpw": one.bpw,
        "borrowed_from": {
            "model": record.model.name,
            "sha256": record.model.sha256,
            "kld": one.row.evaluation.kld.value,
        },
        "types": dict(one.row.tensor_types),
    }


def _show(found: list[Borrowed], record: Record, name: str) -> None:
    click.echo(f"borrowed from {record.model.name}: its types, by its sensitivity; nothing was measured of {name}")
    kld = f"KLD of {record.model.name}"
    rows = [
        (
            one.row.name,
            f"{one.n_bytes / 2**20:.2f}",
            f"{one.bpw:.4f}",
            f"{one.row.evaluation.kld.value:.5f}",
            " ".join(f"{q}:{n}" for q, n in Counter(dict(one.row.tensor_types).values()).most_common()),
        )
        for one in found
    ]
    print_table(("row", "MiB", "bpw", kld, "tensors by type"), rows)
    if any(one.row.compensated for one in found):
        click.echo("types alone are borrowed: compensated values are of the model that they were found for")


def _write(one: Borrowed, job: Job, folder: Path, texts: list[TextFacts]) -> None:
    """The tensor-type file and the commands that obey it."""
    types, model = one.row.tensor_types, job.sources.model
    label = name_of(one.row.name, 90)
    names = tuple(name for name, _ in types)
    allocation = Allocation(ftype=one.row.ftype, types=types, quantizable=names, pruned_layers=(), n_fallback=0)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{label}.tensor_types.txt"
    write_atomic(file, allocation.lines())
    base = str(model.fetched.paths[0]) if model.kind == "gguf" else job.plan.convert.inputs.file
    matrix = (f"{model.name}.imatrix.gguf",) if one.row.uses_imatrix else ()
    for name in matrix:  # the model's own: what enters its multiplications is not borrowed
        windows = [word for t in texts for word in ("-f", t.file, "-c", str(t.n_ctx), "--chunks", str(t.n_chunks))]
        click.echo(shlex.join(("llama-imatrix", "-m", base, *windows, "-o", name)))
    made = str(folder / f"{model.name}-{label}.gguf")
    options = ("--imatrix", *matrix) if matrix else ()
    command = ("llama-quantize", *options, "--tensor-type-file", str(file), base, made, one.row.ftype)
    click.echo(shlex.join(command))
