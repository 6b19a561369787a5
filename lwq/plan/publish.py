"""The files that a card's commands need, beside it: GGUFs, importance matrices, tensor types, texts."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from lwq.plan.finished import Run
from lwq.plan.logo import public_name
from lwq.steps import cut, heal, imatrix, items, sensitivity
from lwq.store.files import link_or_copy, os_errors, sha256_file, write_atomic

_SHARED: Final = (imatrix, sensitivity, heal, cut, items)
"""Steps whose outputs the commands of several rows need."""


def publish_files(run: Run, folder: Path) -> None:
    """Puts what the card's commands need beside it: GGUFs, imatrix, tensor types, texts and task items.

    Made files are hard links into the cache where the disk allows; files of rows that the recipe no
    longer has are removed.
    """
    with os_errors("make the report folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
    shared = (step for step in run.plan.steps if step.module in _SHARED)
    made = [row.own for row in run.plan.rows if row.own]
    placed = set()
    for step in (run.plan.convert, *shared, *(m.allocation for m in made), *(m.quantize for m in made)):
        entry = run.entry(step)
        for name, facts in entry.outputs.items():
            _put(entry.path(name), folder / name, str(facts["sha256"]))
            placed.add(name)
    for other in run.sources.third_party.values():
        for path, file in zip(other.paths, other.files(), strict=True):
            _put(path, folder / file.file, file.sha256)
            placed.add(file.file)
    for path in run.sources.model.fetched.paths:
        if path.is_file() and not (folder / path.name).exists():
            with suppress(OSError):  # another disk: the convert command then lacks its input, nothing else does
                os.link(path.resolve(), folder / path.name)
    if run.logo:
        write_atomic(folder / public_name(run.logo), run.logo.read_bytes())
    used = {r: f for r, f in run.sources.texts.items() if r != "calibration" or run.recipe.targets}
    for text in used.values():
        write_atomic(folder / text.given.name, text.paths[0].read_bytes())
    for name in _rows_before(folder) - placed:
        (folder / name).unlink(missing_ok=True)


def _put(source: Path, target: Path, sha256: str) -> None:
    if target.exists() and (target.samefile(source) or sha256_file(target) == sha256):
        return
    link_or_copy(source, target)


def _rows_before(folder: Path) -> set[str]:
    """Files that the folder's last record says lwq made."""
    try:
        rows = json.loads((folder / "record.json").read_text(encoding="utf-8"))["rows"]
        mine = [row for row in rows if row["origin"] == "ours"]
        return {Path(str(name)).name for row in mine for name in (row["file"], row["tensor_types_file"]) if name}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
