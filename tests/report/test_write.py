"""The report folder holds what the texts name, the same bytes each time."""

from __future__ import annotations

import re
from pathlib import Path

from lwq.report.write import write_report
from tests.sample_record import sample_record


def test_same_record_gives_the_same_bytes_in_every_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(sample_record(), tmp_path / name)
    one, two = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("one", "two")
    )
    assert len(one) == 20
    assert one == two


def test_without_figures_none_is_drawn_or_named(tmp_path: Path) -> None:
    write_report(sample_record(), tmp_path, figures=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DETAILS.md", "README.md", "index.html", "record.json"]
    assert "figures/" not in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "<img" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_every_figure_that_card_or_page_names_is_written(tmp_path: Path) -> None:
    write_report(sample_record(), tmp_path)
    texts = (p.read_text(encoding="utf-8") for p in tmp_path.iterdir() if p.suffix in (".md", ".html"))
    named = set(re.findall(r"figures/[\w.]+", "".join(texts)))
    assert named == {f"figures/{p.name}" for p in (tmp_path / "figures").iterdir()}
