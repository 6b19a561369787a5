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
    assert len(one) == 12
    assert one == two


def test_without_figures_none_is_drawn_or_named(tmp_path: Path) -> None:
    write_report(sample_record(), tmp_path, figures=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DETAILS.md", "README.md", "index.html", "record.json"]
    assert "figures/" not in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "<svg" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_every_figure_that_the_card_names_is_written_and_drawn_on_the_page(tmp_path: Path) -> None:
    write_report(sample_record(), tmp_path)
    cards = "".join((tmp_path / name).read_text(encoding="utf-8") for name in ("README.md", "DETAILS.md"))
    named = set(re.findall(r"figures/[\w.]+", cards))
    assert named == {f"figures/{p.name}" for p in (tmp_path / "figures").iterdir()}
    assert (tmp_path / "index.html").read_text(encoding="utf-8").count("<svg") == 2 * len(named) == 16


def test_svg_that_stood_there_for_the_page_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("layers.svg", "my own.svg"):
        (tmp_path / "figures" / name).touch()
    write_report(sample_record(), tmp_path)
    assert [p.name for p in (tmp_path / "figures").glob("*.svg")] == ["my own.svg"]
