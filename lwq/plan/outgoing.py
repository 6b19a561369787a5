"""The files of a report folder that are published, each as the record says it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lwq.errors import FileError
from lwq.gguf.header import read_one
from lwq.record.hub_terms import REPOSITORY
from lwq.record.record import Record, Row
from lwq.report.choices import offered
from lwq.report.public import publishable
from lwq.store.files import sha256_file

_TEXTS: Final = {"README.md": "card", "DETAILS.md": "details", "index.html": "page", "record.json": "record"}
_FIGURE: Final = re.compile(r"\bfigures/[\w.-]+\.(?:png|svg)\b")
_RUN: Final = "`lwq run` with its recipe makes it whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutFile:
    """A file that is published: where it lies below the folder, what it is, and its content."""

    path: str
    what: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByRecord:
    """A file of the set before it is looked at; what the record says of it, where it does."""

    path: str
    what: str
    n_bytes: int | None = None
    sha256: str = ""


def publish_set(record: Record, folder: Path) -> tuple[OutFile, ...]:
    """What is published of a run, in the order in which it is shown; all is read and hashed.

    Kept files and the projector, types and importance matrices that they were made with, recipe, card, details, page,
    the figures that these show, record. Neither the original and the texts nor what the selection left out.

    Raises:
        FileError: licence or base model is missing; no file is kept; files are missing or not as the record says.
    """
    _check_stated(record, folder)
    _check_names(record, folder)
    faults: list[str] = []
    wanted = (*_large(record), *_small(record, folder))
    found = [_looked_at(file, folder, faults) for file in wanted]
    files = tuple(file for file in found if file)
    if not faults:
        faults += _disagreements(record, folder, files)
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise FileError(f"{folder}: the files are not as the record says:{listed}", hint=_RUN)
    return files


def _check_stated(record: Record, folder: Path) -> None:
    """What a card on the Hub cannot do without."""
    missing = []
    if not record.card.licence:
        missing.append('licence = "apache-2.0"')
    if not any(REPOSITORY.fullmatch(name) for name in record.card.base_model):
        missing.append('base_model = ["OWNER/NAME"]')
    if missing:
        what = " and ".join(text.split(" = ")[0].replace("_", " ") for text in missing)
        cost = "nothing is measured anew"
        if not record.card.licence:
            cost = "the licence stands in the files, so these are written and measured anew"
        hint = f"write {' and '.join(missing)} below [card] in the recipe, then `lwq run` again: {cost}"
        raise FileError(f"{folder}: the record states no {what}", hint=hint)
    if not offered(record):
        raise FileError(f"{folder}: the record keeps no file that lwq made", hint="`lwq run` makes such files")


def _check_names(record: Record, folder: Path) -> None:
    """A record, which others may have written, names no files elsewhere."""
    named = [
        name for row in offered(record) for name in (row.file, row.tensor_types_file or "", *_importance(row, folder))
    ]
    named += [f"{record.name}.toml", record.card.logo, record.projector.file if record.projector else ""]
    strange = [name for name in named if name and Path(name).name != name]
    if strange:
        hint = "the record was edited; `lwq run` writes it anew"
        raise FileError(f"{folder}: the record names a file elsewhere: {strange[0]}", hint=hint)


def _large(record: Record) -> Iterator[_ByRecord]:
    """The files whose size and hash stand in the record."""
    for row in offered(record):
        yield _ByRecord(path=row.file, what="model", n_bytes=row.file_bytes, sha256=row.sha256)
    if tower := record.projector:
        yield _ByRecord(path=tower.file, what="projector", n_bytes=tower.file_bytes, sha256=tower.sha256)


def _small(record: Record, folder: Path) -> Iterator[_ByRecord]:
    rows = offered(record)
    for name in dict.fromkeys(row.tensor_types_file for row in rows if row.tensor_types_file):
        yield _ByRecord(path=name, what="tensor types")
    for name in dict.fromkeys(name for row in rows for name in _importance(row, folder)):
        yield _ByRecord(path=name, what="importance matrix")
    yield _ByRecord(path=f"{record.name}.toml", what="recipe")
    if record.card.logo:
        yield _ByRecord(path=record.card.logo, what="logo")
    for name, what in _TEXTS.items():
        yield _ByRecord(path=name, what=what)
    for name in sorted(
        {name for text in ("README.md", "DETAILS.md") for name in _FIGURE.findall(_text(folder / text))}
    ):
        yield _ByRecord(path=name, what="figure")


def _importance(row: Row, folder: Path) -> tuple[str, ...]:
    """The importance matrix that a file says it was made with."""
    path = folder / Path(row.file).name
    name = read_one(path).text("quantize.imatrix.file") if row.uses_imatrix and path.is_file() else ""
    return (name,) if name else ()


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace") if path.is_file() else ""


def _looked_at(file: _ByRecord, folder: Path, faults: list[str]) -> OutFile | None:
    """The file as it lies there; None and a fault where it is missing or another."""
    path = folder / file.path
    if not path.is_file():
        faults.append(f"{file.path}: is missing ({file.what})")
        return None
    n_bytes = path.stat().st_size
    if file.n_bytes is not None and n_bytes != file.n_bytes:
        faults.append(f"{file.path}: has {n_bytes:,} bytes, the record says {file.n_bytes:,}")
        return None
    sha256 = sha256_file(path)
    if file.sha256 and sha256 != file.sha256:
        faults.append(f"{file.path}: has sha256 {sha256}, the record says {file.sha256}")
        return None
    return OutFile(path=file.path, what=file.what, n_bytes=n_bytes, sha256=sha256)


def _disagreements(record: Record, folder: Path, files: Iterable[OutFile]) -> Iterator[str]:
    """Where the small files are not those that the large ones were made with."""
    have = {file.path: file for file in files}
    for row in offered(record):
        stated = read_one(folder / row.file).text("lwq.tensor_types_sha256")
        if row.tensor_types_file and stated and have[row.tensor_types_file].sha256 != stated:
            yield f"{row.tensor_types_file}: has other types than {row.file} says it was made with"
    recipe = f"{record.name}.toml"
    if _text(folder / recipe) != publishable(record).recipe:
        yield f"{recipe}: is another recipe than the record's"
