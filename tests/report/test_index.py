"""One page over many runs: what can be compared stands in one table, nothing is lost, any text is shown as text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lwq.errors import FileError
from lwq.record.record import Record
from lwq.report.choices import offered
from lwq.report.index import find_runs, index, write_index
from lwq.report.record_json import record_to_json
from tests.sample_record import sample_record


def _put(folder: Path, record: Record) -> None:
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(record_to_json(record), encoding="utf-8")


def _named(record: Record, name: str) -> Record:
    return replace(record, model=replace(record.model, name=name, sha256=name * 8))


def _tables(text: str) -> dict[str, list[list[str]]]:
    """Caption → rows of cells."""
    found = re.findall(r"^\*\*Table \d+\.\*\* (.*?)\n\n(\|.*?)(?:\n\n|\Z)", text, re.M | re.S)
    return {
        caption: [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.strip().splitlines()[2:]]
        for caption, table in found
    }


def test_every_run_and_every_kept_file_is_named(tmp_path: Path) -> None:
    record = sample_record()
    _put(tmp_path / "first", record)
    _put(tmp_path / "deep" / "second", replace(record, name="second"))
    runs, left_out = find_runs(tmp_path)
    assert ([run.place for run in runs], left_out) == (["deep/second", "first"], ())
    (all_runs, files) = _tables(index(runs, "README.md")).values()
    assert [row[0] for row in all_runs] == [
        "[deep/second/README.md](deep/second/README.md)",
        "[first/README.md](first/README.md)",
    ]
    kept = [row.file for row in offered(record)]
    assert sorted(cell[0].strip("`") for cell in files) == sorted(kept * 2)
    sizes = [row.file_bytes for row in offered(record) for _ in range(2)]
    assert sizes == sorted(sizes)
    assert all(row[3] for row in files)


def test_only_what_was_measured_alike_stands_in_one_table(tmp_path: Path) -> None:
    record = sample_record()
    longer = replace(record, texts=tuple(replace(text, n_chunks=2 * text.n_chunks) for text in record.texts))
    _put(tmp_path / "a", record)
    _put(tmp_path / "b", longer)
    _put(tmp_path / "c", _named(record, "Another"))
    text = index(find_runs(tmp_path)[0], "README.md")
    assert re.findall("^## (.*)", text, re.M) == ["Another", record.model.name]
    kept = [caption for caption in _tables(text) if caption.startswith("Files")]
    assert sum("cannot be compared" in caption for caption in kept) == 2
    assert text.count("**Table ") == 5


def test_page_and_markdown_are_written_and_say_the_same(tmp_path: Path) -> None:
    record = sample_record()
    _put(tmp_path / "odd <name> & more", replace(record, model=replace(record.model, name="<script>x</script>")))
    page, text = write_index(find_runs(tmp_path)[0], tmp_path)
    html, markdown = page.read_text(encoding="utf-8"), text.read_text(encoding="utf-8")
    assert (page.name, text.name) == ("index.html", "INDEX.md")
    assert "<script>x" not in html
    assert "odd%20%3Cname%3E%20%26%20more/index.html" in html
    assert "odd%20%3Cname%3E%20%26%20more/README.md" in markdown
    assert not re.search(r'(?:src|href)="https?:', html)
    before = html
    write_index(find_runs(tmp_path)[0], tmp_path)
    assert page.read_text(encoding="utf-8") == before


def test_a_record_that_cannot_be_read_is_left_out_with_the_reason(tmp_path: Path) -> None:
    _put(tmp_path / "good", sample_record())
    for name, text in (("bad", "{"), ("newer", '{"schema": 99}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(text, encoding="utf-8")
    runs, left_out = find_runs(tmp_path)
    assert [run.place for run in runs] == ["good"]
    assert ["is not JSON" in left_out[0], "schema 99" in left_out[1]] == [True, True]


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "record.json").write_text(record_to_json(sample_record()), encoding="utf-8")
    with pytest.raises(FileError, match=r"no record\.json"):
        find_runs(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_text("[]", encoding="utf-8")
    with pytest.raises(FileError, match="that can be read: .*schema None"):
        find_runs(tmp_path)


def test_the_folder_of_one_run_keeps_its_page(tmp_path: Path) -> None:
    _put(tmp_path / "run", sample_record())
    with pytest.raises(FileError, match="is the folder of one run"):
        find_runs(tmp_path / "run")
