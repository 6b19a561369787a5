"""A report folder as a run leaves it, without a run: small GGUFs in place of the sample record's files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from lwq.record.record import Record, Row, Verdict
from lwq.report.choices import offered
from lwq.report.write import write_report
from tests.sample_record import sample_record

IMATRIX = "sample.imatrix.gguf"
RECIPE = "sample.toml"


def write_gguf(path: Path, keys: dict[str, str], *, seed: int = 0, n_rows: int = 64) -> None:
    """A GGUF of one tensor whose metadata says this."""
    writer = GGUFWriter(path, "llama")
    for key, value in keys.items():
        writer.add_string(key, value)
    values = np.random.default_rng(seed).standard_normal((n_rows, 32), dtype=np.float32)
    writer.add_tensor("token_embd.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_report_folder(folder: Path, record: Record | None = None, *, figures: bool = False) -> Record:
    """The record whose files, card, recipe and types lie in the folder; the inputs too, and what was left out."""
    record = record or sample_record(tasks=False, searched=False, pruned=False)
    folder.mkdir(parents=True, exist_ok=True)
    write_gguf(folder / IMATRIX, {"general.type": "imatrix"})
    rows = tuple(_written(folder, record, row, seed) for seed, row in enumerate(record.rows))
    for name in ("calibration.txt", "evaluation.txt", "selection.txt"):
        (folder / name).write_text("an input, in /home/me", encoding="utf-8")
    record = replace(record, rows=rows)
    write_report(record, folder, figures=figures)
    (folder / RECIPE).write_text(record.recipe, encoding="utf-8")
    return record


def _written(folder: Path, record: Record, row: Row, seed: int) -> Row:
    """The row of a file that was just written."""
    keys = {"general.name": row.name}
    if row.origin == "ours":
        types = f"{row.name}=q4_K\n"
        (folder / str(row.tensor_types_file)).write_text(types, encoding="utf-8")
        keys["lwq.base_sha256"] = record.model.base_sha256
        keys["lwq.tensor_types_sha256"] = hashlib.sha256(types.encode()).hexdigest()
    if row.uses_imatrix:
        keys["quantize.imatrix.file"] = IMATRIX
    path = folder / row.file
    write_gguf(path, keys, seed=seed)
    data = path.read_bytes()
    types_of = (("token_embd.weight", "f32"),) if row.origin == "ours" else ()
    return replace(row, file_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), tensor_types=types_of)


def keeping_all(record: Record) -> Record:
    """The record whose selection left nothing out."""
    verdicts = tuple(Verdict(row=v.row, kept=True, reason=v.reason) for v in record.selection.verdicts)
    return replace(record, selection=replace(record.selection, verdicts=verdicts))


def kept_files(record: Record) -> list[str]:
    return [row.file for row in offered(record)]
