"""Task sets by name: which files of a folder they are, and what is said where none or several may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.errors import FileError, UsageError
from lwq.tasks.sets import FIVE, TITLES, files_of, title_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("arc-easy/test.jsonl", "ARC_Challenge_test.jsonl", "hellaswag/val.jsonl", "hellaswag/LICENSE"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    (tmp_path / "mmlu").mkdir()
    for subject in ("anatomy", "astronomy"):
        (tmp_path / "mmlu" / f"{subject}_test.csv").write_text("q,a,b,c,d,A\n", encoding="utf-8")
    return tmp_path


def found(name: str, folder: Path) -> list[str]:
    return [str(Path(reference).relative_to(folder)) for reference in files_of(name, folder)]


def test_arc_is_easy_and_challenge_in_any_spelling(folder: Path) -> None:
    assert found("ARC", folder) == ["arc-easy/test.jsonl", "ARC_Challenge_test.jsonl"]
    assert found("arc-easy", folder) == ["arc-easy/test.jsonl"]


def test_file_beside_a_licence_is_found_and_a_folder_of_csvs_is_one_set(folder: Path) -> None:
    assert found("hellaswag", folder) == ["hellaswag/val.jsonl"]
    assert found("mmlu", folder) == ["mmlu"]


def test_missing_and_ambiguous_sets_are_told_with_a_way_out(folder: Path) -> None:
    with pytest.raises(FileError, match="no file of the set 'truthfulqa'") as caught:
        files_of("truthfulqa", folder)
    assert "truthfulqa=FILE" in caught.value.hint
    (folder / "hellaswag" / "train.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(FileError, match=r"several files may be 'hellaswag': train\.jsonl, val\.jsonl"):
        files_of("hellaswag", folder)
    with pytest.raises(FileError, match="no such folder"):
        files_of("arc", folder / "nowhere")


def test_without_a_folder_the_official_data_is_named_and_other_names_are_refused() -> None:
    for name in FIVE:
        assert all(reference.startswith("hf://datasets/") for reference in files_of(name, None))
    assert len(files_of("arc", None)) == 2
    with pytest.raises(UsageError, match="'arcc': no such task set"):
        files_of("arcc", None)
    assert set(FIVE) <= set(TITLES)
    assert (title_of("MMLU"), title_of("mine")) == ("MMLU", "mine")
