"""Writes tests/golden anew from the sample record: ``python tests/regenerate_golden.py``, then read the diff."""

from __future__ import annotations

from pathlib import Path

from sample_record import sample_record

from lwq.report.card import card, page

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    """Writes card.md and page.html."""
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / "card.md").write_text(card(sample_record()), encoding="utf-8")
    (GOLDEN / "page.html").write_text(page(sample_record()), encoding="utf-8")


if __name__ == "__main__":
    main()
