"""Writes tests/golden anew from the sample record: ``python tests/regenerate_golden.py``, then read the diff."""

from __future__ import annotations

from pathlib import Path

import published_gemma
from published_rows import AVERAGES
from sample_record import sample_record

from lwq.report.card import card, page
from lwq.report.ties import of_scores

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    """Writes card.md, page.html, published_rows.md and published_gemma.md."""
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / "card.md").write_text(card(sample_record()), encoding="utf-8")
    (GOLDEN / "page.html").write_text(page(sample_record()), encoding="utf-8")
    (GOLDEN / "published_rows.md").write_text(of_scores(AVERAGES) + "\n", encoding="utf-8")
    gemma = of_scores(published_gemma.AVERAGES)
    (GOLDEN / "published_gemma.md").write_text(gemma + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
