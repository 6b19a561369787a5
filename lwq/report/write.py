"""The report folder: card, page, figures, record."""

from __future__ import annotations

from pathlib import Path

from lwq.files import os_errors, write_atomic
from lwq.record import Record
from lwq.report.card import card, page
from lwq.report.plots import figures
from lwq.report.record_json import record_to_json


def write_report(record: Record, folder: Path) -> Path:
    """The path of the card, after everything a record gives was written; record.json comes last.

    Raises:
        FileError: the folder cannot be written.
        SpaceError: the disk is full.
    """
    with os_errors("make the report folder", folder):
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, data in figures(record).items():
        write_atomic(folder / "figures" / name, data)
    write_atomic(folder / "README.md", card(record))
    write_atomic(folder / "index.html", page(record))
    write_atomic(folder / "record.json", record_to_json(record))
    return folder / "README.md"
