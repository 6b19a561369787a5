"""A file is told to be whole where it is, and what is wrong with it where it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lwq.errors import ModelError
from lwq.record.origin import whereabouts
from lwq.record.record import FileHash, Projector, Record
from lwq.store.files import sha256_file
from tests.report_folder import IMATRIX, kept_files, write_gguf, write_report_folder
from tests.tiny_models import write_split_llama


@pytest.fixture
def report(tmp_path: Path) -> tuple[Path, Record]:
    return tmp_path, write_report_folder(tmp_path)


def test_a_file_of_the_record_is_whole_and_says_what_it_was_made_from(report: tuple[Path, Record]) -> None:
    folder, record = report
    for name in kept_files(record):
        found = whereabouts(folder / name, record)
        (row,) = (row for row in record.rows if row.file == name)
        assert (found.faults, found.row, found.is_lwqs) == ((), row.name, True)
        assert found.files == (FileHash(file=name, sha256=row.sha256),)
        assert ("lwq.base_sha256", record.model.base_sha256) in found.said
        assert (("quantize.imatrix.file", IMATRIX) in found.said) == row.uses_imatrix


def test_a_file_is_known_by_its_content_whatever_its_name(report: tuple[Path, Record]) -> None:
    folder, record = report
    row = next(row for row in record.rows if row.origin == "ours")
    (folder / row.file).rename(folder / "renamed.gguf")
    found = whereabouts(folder / "renamed.gguf", record)
    assert (found.faults, found.row) == ((), row.name)


def test_each_kind_of_damage_is_told(report: tuple[Path, Record]) -> None:
    folder, record = report
    path = folder / kept_files(record)[0]
    data = path.read_bytes()
    path.write_bytes(data[:-200] + bytes(4) + data[-196:])
    sha256, size, types = *whereabouts(path, record).faults, ""
    assert "sha256" in sha256
    assert "the record says" in sha256
    assert size == "its tensors have the types that the record says: metadata or values differ"
    assert not types
    path.write_bytes(data + b"tail")
    assert [fault.split(" ")[0] for fault in whereabouts(path, record).faults[:2]] == [path.name, "has"]
    assert "4 bytes behind its last tensor" in whereabouts(path, None).faults[0]
    path.write_bytes(data[:-400])
    with pytest.raises(ModelError, match="truncated"):
        whereabouts(path, record)
    path.write_bytes(data[:-8] + b"\x00\x00\xc0\x7f" * 2)
    assert whereabouts(path, None).faults == ("token_embd.weight has 2 values not finite",)


def test_other_types_than_the_records_are_told(report: tuple[Path, Record]) -> None:
    folder, record = report
    name = kept_files(record)[0]
    rows = tuple(
        replace(row, sha256="0" * 64, tensor_types=(("token_embd.weight", "q4_K"),)) if row.file == name else row
        for row in record.rows
    )
    faults = whereabouts(folder / name, replace(record, rows=rows)).faults
    assert "1 of 1 tensors have other types or are missing, first token_embd.weight" in faults


def test_a_file_of_another_run_is_not_taken_for_one_of_this(report: tuple[Path, Record]) -> None:
    folder, record = report
    write_gguf(folder / "stranger.gguf", {}, seed=99)
    found = whereabouts(folder / "stranger.gguf", record)
    assert (found.row, found.is_lwqs) == ("", False)
    assert found.faults == ("the record 'sample' has no such file: neither its name nor its content",)
    assert whereabouts(folder / "stranger.gguf", None).faults == ()


def test_the_projector_is_known_too(report: tuple[Path, Record]) -> None:
    folder, record = report
    write_gguf(folder / "mmproj.gguf", {})
    sha256 = sha256_file(folder / "mmproj.gguf")
    tower = Projector(file="mmproj.gguf", sha256=sha256, file_bytes=1, n_params=1, types=record.rows[0].types)
    assert whereabouts(folder / "mmproj.gguf", replace(record, projector=tower)).faults == ()
    (fault,) = whereabouts(folder / "mmproj.gguf", replace(record, projector=replace(tower, sha256="0"))).faults
    assert fault.startswith(f"has sha256 {sha256}")


def test_all_shards_of_a_split_model_are_looked_at(report: tuple[Path, Record]) -> None:
    folder, record = report
    first = write_split_llama(folder)
    second = first.with_name("tiny-00002-of-00002.gguf")
    shards = tuple(FileHash(file=path.name, sha256=sha256_file(path)) for path in (first, second))
    theirs = replace(record.rows[-1], file=first.name, shards=shards, sha256="1" * 64)
    theirs = replace(theirs, file_bytes=sum(p.stat().st_size for p in (first, second)))
    record = replace(record, rows=(*record.rows, theirs))
    assert whereabouts(first, record).faults == ()
    data = bytearray(second.read_bytes())
    data[-1] ^= 1
    second.write_bytes(data)
    assert second.name in whereabouts(first, record).faults[0]
