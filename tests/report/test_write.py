"""The report folder holds what the texts name, the same bytes each time."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path

from lwq.report.public import publishable
from lwq.report.record_json import record_from_json
from lwq.report.write import write_report
from tests.sample_record import sample_record

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


def bytes_below(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_record_gives_the_same_bytes_in_every_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(sample_record(), tmp_path / name)
    one, two = (bytes_below(tmp_path / name) for name in ("one", "two"))
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


def test_a_record_from_the_first_days_of_its_schema_becomes_a_whole_report(tmp_path: Path) -> None:
    """Written by lwq of 25 November 2026, when schema 4 was new; fields that came later take their defaults."""
    text = gzip.decompress((GOLDEN / "record_schema_4.json.gz").read_bytes()).decode()
    record = record_from_json(text)
    write_report(record, tmp_path)
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"README.md", "DETAILS.md", "index.html", "record.json", "kld_against_size.png"} <= written
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == len(written) - 4
    assert all(escape(row.name, quote=False) in page for row in record.rows)
    assert record.pruning
    assert f"KLD on up to {record.pruning.n_windows} windows" in page
    assert record_from_json((tmp_path / "record.json").read_text(encoding="utf-8")) == publishable(record)


OTHER_FONTS = """
import sys
from pathlib import Path
import matplotlib
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from lwq.report.write import write_report
from tests.sample_record import sample_record

if sys.argv[2] == "with":
    folder = Path.home() / ".fonts"
    folder.mkdir()
    font = TTFont(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif-Bold.ttf")
    for entry in font["name"].names:
        if entry.nameID in (1, 16):
            font["name"].setName("DejaVu Sans", entry.nameID, entry.platformID, entry.platEncID, entry.langID)
    font.save(folder / "impostor.ttf")
    font_manager.fontManager = font_manager._load_fontmanager(try_read_cache=False)
    print([f.name for f in font_manager.fontManager.ttflist if f.fname.endswith("impostor.ttf")])
write_report(sample_record(), Path(sys.argv[1]))
"""


def test_other_fonts_on_a_machine_change_no_byte(tmp_path: Path) -> None:
    for fonts in ("with", "without"):
        home = tmp_path / fonts
        home.mkdir()
        environment = {**os.environ, "HOME": str(home), "MPLCONFIGDIR": str(home / "mpl"), "PYTHONPATH": str(ROOT)}
        command = (sys.executable, "-c", OTHER_FONTS, str(tmp_path / f"{fonts}.report"), fonts)
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert run.stdout == ("['DejaVu Sans']\n" if fonts == "with" else "")
    one, two = (bytes_below(tmp_path / f"{fonts}.report") for fonts in ("with", "without"))
    assert len(one) == 12
    assert one == two
