"""Writes docs/screens anew: the page of the sample record, as Chromium shows it; ``python -m tests.screens``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lwq.record.record import Record
from lwq.report.write import write_report
from tests.browser import answered
from tests.sample_damage import ODD_NAME
from tests.sample_record import sample_record

SCREENS = Path(__file__).parents[1] / "docs" / "screens"
PLACES = {"top": None, "table": "#choose-a-file", "figure": "main > figure"}
SIZES = ((360, 740), (1440, 900))


def shown() -> Record:
    """The sample without what is odd only to try the page."""
    record = sample_record()
    card = replace(record.card, title="SmolLM2-135M-Instruct, quantized", description="", author="")
    rows = tuple(row for row in record.rows if row.name != ODD_NAME)
    return replace(record, rows=rows, card=card, model=replace(record.model, notes=(), sha256="0" * 64))


def main() -> None:
    """Writes top, table and figure at 360 and 1440 pixels, light and dark."""
    SCREENS.mkdir(exist_ok=True)
    screens = [
        {
            "file": str(SCREENS / f"{place}-{width}-{scheme}.png"), "width": width, "height": height,
            "colorScheme": scheme, "from": element,
        }
        for place, element in PLACES.items()
        for width, height in SIZES
        for scheme in ("light", "dark")
    ]  # fmt: skip
    with TemporaryDirectory() as folder:
        write_report(shown(), Path(folder))
        answered("screens.mjs", {"page": str(Path(folder) / "index.html"), "screens": screens})


if __name__ == "__main__":
    main()
