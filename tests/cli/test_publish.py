"""Looking at files and runs that are there: what `verify`, `index` and `diff` print, and their exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lwq.cli.main import cli
from lwq.errors import LwqError
from lwq.record.record import Record
from lwq.report.record_json import record_to_json
from lwq.report.write import write_report
from tests.report_folder import kept_files, write_report_folder


def lwq(*arguments: object) -> str:
    """What is printed; an error is raised."""
    done = CliRunner().invoke(cli, [str(a) for a in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def failed(*arguments: object) -> LwqError:
    with pytest.raises(LwqError) as caught:
        lwq(*arguments)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def report(tmp_path: Path) -> tuple[Path, Record]:
    return tmp_path / "sample", write_report_folder(tmp_path / "sample")


def test_verify_says_where_a_file_comes_from_and_that_it_is_whole(report: tuple[Path, Record]) -> None:
    folder, record = report
    name = kept_files(record)[0]
    said = lwq("verify", folder / name)
    row = next(row for row in record.rows if row.file == name)
    for told in (name, row.sha256, f"{row.file_bytes:,} bytes", f"{row.name} of the run sample", record.model.source):
        assert told in said
    assert said.splitlines()[-1] == "whole: size and sha256 are the record's"
    values = json.loads(lwq("verify", folder / name, "--json"))
    assert (values["row"], values["faults"], values["record"]) == (row.name, [], "sample")


def test_verify_takes_the_record_that_is_named(report: tuple[Path, Record], tmp_path: Path) -> None:
    folder, record = report
    alone = tmp_path / "downloads" / kept_files(record)[0]
    alone.parent.mkdir()
    alone.write_bytes((folder / alone.name).read_bytes())
    said = lwq("verify", alone)
    assert said.splitlines()[-1].startswith("made by lwq, as it says; header and tensors can be read.")
    assert lwq("verify", alone, "--record", folder).endswith("the record's\n")
    alone.write_bytes(alone.read_bytes() + b"x")
    for options in ((), ("--record", folder / "record.json")):
        error = failed("verify", alone, *options)
        assert (error.exit_code, "1 bytes behind its last tensor" in error.message) == (1, True)
    assert "no record to read" in failed("verify", alone, "--record", tmp_path / "nothing").message


def test_verify_of_what_is_no_gguf_says_so(tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<html>", encoding="utf-8")
    assert "expected b'GGUF'" in failed("verify", tmp_path / "page.gguf").message


def test_index_and_diff_take_folders(report: tuple[Path, Record], tmp_path: Path) -> None:
    folder, record = report
    write_report(replace(record, name="other", rows=record.rows[:-1]), tmp_path / "other", figures=False)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_text("{", encoding="utf-8")
    said = lwq("index", tmp_path)
    assert "left out: " in said
    assert said.endswith(f"index: {tmp_path / 'index.html'} and INDEX.md, 2 runs\n")
    assert lwq("diff", folder, folder / "record.json") == "nothing differs\n"
    lines = lwq("diff", folder, tmp_path / "other").splitlines()
    assert lines[0] == record.rows[-1].name
    assert lines[2].split() == ["row", "in", "the", "record", "–"]
    (change,) = json.loads(lwq("diff", folder, tmp_path / "other", "--json"))
    assert (change["of"], change["before"], change["after"]) == (record.rows[-1].name, "in the record", "–")
    assert failed("index", tmp_path / "nothing").exit_code == 2


def test_publish_prints_its_set_as_json(report: tuple[Path, Record]) -> None:
    folder, record = report
    values: dict[str, Any] = json.loads(lwq("-q", "publish", folder, "--to", "me/it", "--dry-run", "--json"))
    assert [f["path"] for f in values["files"] if f["what"] == "model"] == kept_files(record)
    assert values["n_bytes"] == sum(f["n_bytes"] for f in values["files"])


def test_a_record_of_a_newer_lwq_is_told_with_the_way_out(tmp_path: Path, report: tuple[Path, Record]) -> None:
    text = record_to_json(report[1]).replace('"schema": 4', '"schema": 99')
    (tmp_path / "record.json").write_text(text, encoding="utf-8")
    for command in (("diff", tmp_path, report[0]), ("publish", tmp_path, "--to", "me/it", "--dry-run")):
        error = failed(*command)
        assert ("schema 99" in error.message, "newer lwq" in error.hint) == (True, True)


def test_a_card_that_nobody_edited_is_drawn_again_for_its_repository(report: tuple[Path, Record]) -> None:
    folder, record = report
    assert record.card.repository != "me/it"
    said = lwq("publish", folder, "--to", "me/it", "--dry-run")
    assert "were drawn again, their commands name me/it" in said
    assert "llama-server -hf me/it:" in (folder / "README.md").read_text(encoding="utf-8")
    assert "me/it" in (folder / "index.html").read_text(encoding="utf-8")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = lwq("publish", folder, "--to", "me/it", "--dry-run")
    assert "note:" not in again
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["README.md", "DETAILS.md"])
def test_a_card_that_somebody_edited_stays_and_that_is_told(name: str, report: tuple[Path, Record]) -> None:
    folder = report[0]
    (folder / name).write_text((folder / name).read_text(encoding="utf-8") + "\nMine.\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = lwq("publish", folder, "--to", "me/it", "--dry-run")
    assert "it was edited, or drawn by templates of your own, and stays" in said
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
