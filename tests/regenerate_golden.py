"""Writes tests/golden anew from the sample record: ``python -m tests.regenerate_golden``, then read the diff."""

from __future__ import annotations

from pathlib import Path

from lwq.report.card import card, details
from lwq.report.ties import of_scores
from tests import published_gemma
from tests.documents import whole_page
from tests.published_rows import AVERAGES
from tests.sample_record import sample_record

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    """Writes card.md, details.md, page.html, published_rows.md and published_gemma.md."""
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / "card.md").write_text(card(sample_record()), encoding="utf-8")
    (GOLDEN / "details.md").write_text(details(sample_record()), encoding="utf-8")
    (GOLDEN / "page.html").write_text(whole_page(sample_record()), encoding="utf-8")
    (GOLDEN / "published_rows.md").write_text(of_scores(AVERAGES) + "\n", encoding="utf-8")
    gemma = of_scores(published_gemma.AVERAGES)
    (GOLDEN / "published_gemma.md").write_text(gemma + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
