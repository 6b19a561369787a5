"""What is published is what the record says: no more, no less, and nothing that it would not recognise."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lwq.errors import FileError
from lwq.llama.toolchain import Toolchain
from lwq.plan.leaks import check_leaks
from lwq.plan.outgoing import publish_set
from lwq.record.origin import whereabouts
from lwq.record.record import Projector, Record
from lwq.report.record_json import read_record
from lwq.report.write import write_report
from lwq.store.files import sha256_file
from tests.plan.test_sources import HEAD
from tests.report_folder import IMATRIX, RECIPE, kept_files, write_gguf, write_report_folder
from tests.run_tiny import run_tiny, write_inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sample"


def test_kept_files_and_what_they_were_made_with_go_and_nothing_else(folder: Path) -> None:
    record = write_report_folder(folder)
    files = publish_set(record, folder)
    by_what: dict[str, list[str]] = {}
    for file in files:
        by_what.setdefault(file.what, []).append(file.path)
        path = folder / file.path
        assert (file.n_bytes, file.sha256) == (path.stat().st_size, sha256_file(path))
    assert by_what.pop("model") == kept_files(record)
    types = [row.tensor_types_file for row in record.rows if row.file in kept_files(record)]
    assert sorted(by_what.pop("tensor types")) == sorted(map(str, types))
    assert by_what == {
        "importance matrix": [IMATRIX],
        "recipe": [RECIPE],
        "card": ["README.md"],
        "details": ["DETAILS.md"],
        "page": ["index.html"],
        "record": ["record.json"],
    }
    left_out = {row.file for row in record.rows} - set(kept_files(record))
    assert len(left_out) == 3  # the base, a third party's, and the one that the selection left out
    assert all((folder / name).is_file() for name in left_out)


def test_figures_that_the_documents_show_go_and_others_stay(folder: Path) -> None:
    record = write_report_folder(folder, figures=True)
    (folder / "figures" / "of_before.png").write_bytes(b"old")
    shown = {f.path for f in publish_set(record, folder) if f.what == "figure"}
    text = "".join((folder / name).read_text(encoding="utf-8") for name in ("README.md", "DETAILS.md", "index.html"))
    assert shown == set(re.findall(r"figures/\w+\.(?:png|svg)", text))
    assert len(shown) >= 3
    next(iter((folder / "figures").glob("kld*.png"))).unlink()
    with pytest.raises(FileError, match=r"figures/kld_against_size\.png: is missing \(figure\)"):
        publish_set(record, folder)


def test_a_projector_goes_with_the_files(folder: Path) -> None:
    record = write_report_folder(folder)
    write_gguf(folder / "mmproj.gguf", {})
    tower = Projector(
        file="mmproj.gguf", sha256=sha256_file(folder / "mmproj.gguf"), n_params=1, types=record.rows[0].types,
        file_bytes=(folder / "mmproj.gguf").stat().st_size,
    )  # fmt: skip
    record = replace(record, projector=tower)
    assert [f.path for f in publish_set(record, folder) if f.what == "projector"] == ["mmproj.gguf"]


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _turn(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("what", "change", "told"),
    [
        ("model", _grow, "bytes, the record says"),
        ("model", _turn, "has sha256"),
        ("model", Path.unlink, "is missing (model)"),
        ("tensor types", _grow, "has other types than"),
        ("tensor types", Path.unlink, "is missing (tensor types)"),
        ("importance matrix", Path.unlink, "is missing (importance matrix)"),
        ("recipe", _grow, "is another recipe than the record's"),
        ("recipe", Path.unlink, "is missing (recipe)"),
        ("page", Path.unlink, "index.html: is missing (page)"),
    ],
)
def test_files_that_are_not_the_records_are_refused(
    folder: Path, what: str, change: Callable[[Path], object], told: str
) -> None:
    record = write_report_folder(folder)
    file = next(f for f in publish_set(record, folder) if f.what == what)
    change(folder / file.path)
    with pytest.raises(FileError) as caught:
        publish_set(record, folder)
    assert f"\n  {file.path}: " in caught.value.message
    assert told in caught.value.message
    assert "lwq run" in caught.value.hint


def test_all_disagreements_are_told_at_once(folder: Path) -> None:
    record = write_report_folder(folder)
    for name in kept_files(record):
        _turn(folder / name)
    with pytest.raises(FileError) as caught:
        publish_set(record, folder)
    assert caught.value.message.count(", the record says ") == len(kept_files(record)) == 4


def _without(**card: object) -> Callable[[Record], Record]:
    return lambda record: replace(record, card=replace(record.card, **card))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "told", "hint"),
    [
        (_without(licence=""), "states no licence", 'licence = "apache-2.0"'),
        (_without(base_model=()), "states no base model", 'base_model = ["OWNER/NAME"]'),
        (_without(base_model=("a model of ours",)), "states no base model", "[card]"),
        (_without(licence="", base_model=()), "states no licence and base model", "[card]"),
        (lambda r: replace(r, rows=r.rows[:1]), "keeps no file", "lwq run"),
    ],
)
def test_what_a_card_cannot_do_without_is_asked_for(
    folder: Path, change: Callable[[Record], Record], told: str, hint: str
) -> None:
    record = change(write_report_folder(folder))
    write_report(record, folder, figures=False)
    with pytest.raises(FileError) as caught:
        publish_set(record, folder)
    assert told in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["../secret.gguf", "/etc/passwd"])
def test_a_record_cannot_name_files_elsewhere(folder: Path, name: str) -> None:
    record = write_report_folder(folder)
    (folder.parent / "secret.gguf").write_bytes(b"GGUF")
    ours = next(row for row in record.rows if row.origin == "ours")
    rows = tuple(replace(row, file=name) if row is ours else row for row in record.rows)
    with pytest.raises(FileError, match="names a file elsewhere"):
        publish_set(replace(record, rows=rows), folder)


@pytest.mark.tools
def test_the_folder_of_a_real_run_is_published_as_it_is(tmp_path: Path, toolchain: Toolchain) -> None:
    """Types, importance matrices and keys are those that the tools wrote; nothing of it leaks, every file is whole."""
    write_inputs(tmp_path)
    asked = '[card]\nlicence = "mit"\nbase_model = ["someone/tiny"]\n[[targets]]\nftype = "Q4_K_M"\n'
    pruned = '[[targets]]\nname = "cut"\nftype = "Q3_K_M"\nimatrix = false\nprune_layers = [2]\n'
    run_tiny(tmp_path, tmp_path / "home", toolchain, HEAD + asked + pruned)
    folder = tmp_path / "report"
    record, _ = read_record(folder)
    (folder / "tiny.toml").write_text(record.recipe, encoding="utf-8")
    files = publish_set(record, folder)
    check_leaks([folder / file.path for file in files], folder, None)
    kept = [file.path for file in files if file.what == "model"]
    assert kept == kept_files(record)
    assert not {"tiny.gguf", "tiny-F16.gguf", "evaluation.txt"} & {file.path for file in files}
    for name in kept:
        found = whereabouts(folder / name, record)
        assert (found.faults, found.is_lwqs) == ((), True)
