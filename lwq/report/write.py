"""The report folder: card, details, page, figures, record."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Final

from lwq.record.record import Record
from lwq.report.card import card, details, page
from lwq.report.public import publishable
from lwq.report.record_json import record_to_json
from lwq.store.files import os_errors, write_atomic

_PICTURES: Final = {".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}


def write_report(record: Record, folder: Path, *, figures: bool = True, templates: Path | None = None) -> Path:
    """The path of the card, after everything a record gives was written; record.json comes last.

    Local paths in the recipe, the sources and the commands are cut to file names first. Without
    ``figures`` none are drawn and the texts name none. Templates in the folder ``templates`` take the place of lwq's.

    Raises:
        FileError: the folder cannot be written, or a template of the publisher's does what it cannot.
        SpaceError: the disk is full.
    """
    record = publishable(record)
    with os_errors("make the report folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
    drawn = _drawn(record, folder / "figures") if figures else None
    write_atomic(folder / "README.md", card(record, figures=figures, templates=templates))
    write_atomic(folder / "DETAILS.md", details(record, figures=figures, templates=templates))
    write_atomic(folder / "index.html", page(record, drawn, logo=_logo(record, folder), templates=templates))
    write_atomic(folder / "record.json", record_to_json(record))
    return folder / "README.md"


def write_for(record: Record, folder: Path, repository: str) -> Record | None:
    """The record as of that repository on the Hub, after its card, details and page were drawn again for it.

    None, and nothing is written, where card or details there are not what lwq draws of the record: they were edited,
    or are of the publisher's own templates.
    """
    for name, draw in (("README.md", card), ("DETAILS.md", details)):
        path = folder / name
        with os_errors("read it", path):
            text = path.read_bytes() if path.is_file() else b""
        if text not in {draw(publishable(record), figures=figures).encode() for figures in (True, False)}:
            return None
    figures = any((folder / "figures").glob("*.png"))
    record = replace(record, card=replace(record.card, repository=repository))
    write_report(record, folder, figures=figures)
    return record


def _logo(record: Record, folder: Path) -> str:
    """The picture beside the card as an address that holds it; empty where there is none."""
    name = record.card.logo
    path = folder / name
    kind = _PICTURES.get(path.suffix)
    if Path(name).name != name or not kind or not path.is_file():
        return ""
    with os_errors("read the logo", path):
        return f"data:{kind};base64,{b64encode(path.read_bytes()).decode()}"


def _drawn(record: Record, folder: Path) -> dict[str, str]:
    """The figures as HTML, after they were written as PNG; the SVG that stood there for the page goes."""
    from lwq.report.plots import drawings

    drawn = drawings(record)
    with os_errors("make the folder of figures", folder):
        folder.mkdir(exist_ok=True)
    for name, drawing in drawn.items():
        write_atomic(folder / f"{name}.png", drawing.png)
        with os_errors("remove", folder / f"{name}.svg"):
            (folder / f"{name}.svg").unlink(missing_ok=True)
    return {name: drawing.html for name, drawing in drawn.items()}
