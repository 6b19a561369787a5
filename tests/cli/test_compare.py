"""`lwq eval` and `lwq compare` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_main import lwq
from tests.run_tiny import write_inputs
from tests.tiny_models import write_split_llama, write_tiny_gemma3, write_tiny_llama

pytestmark = pytest.mark.tools
SHORT = ("--text", "evaluation.txt", "--ctx", "64", "--chunks", "5")


@pytest.fixture
def folder(tmp_path: Path, tools_home: Path) -> Path:
    write_inputs(tmp_path)
    made = lwq("run", "tiny.toml", cwd=_with_recipe(tmp_path))
    assert made.code == 0, made.err
    for file in (tmp_path / "reports" / "tiny").glob("tiny-Q*.gguf"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def _with_recipe(folder: Path) -> Path:
    (folder / "tiny.toml").write_text(
        'name = "tiny"\nmodel = "tiny.gguf"\n[calibration]\ntext = "calibration.txt"\nn_ctx = 64\nn_chunks = 4\n'
        '[evaluation]\ntext = "evaluation.txt"\nn_ctx = 64\nn_chunks = 4\n[[targets]]\nftype = "Q4_K_M"\n'
        '[[targets]]\nname = "Q3_K_M-plain"\nftype = "Q3_K_M"\nimatrix = false\n[bench]\ntests = []\n',
        encoding="utf-8",
    )
    return folder


def test_compare_has_a_row_for_each_and_one_refusal_for_a_file_of_another_model(folder: Path) -> None:
    write_tiny_gemma3(folder / "other.gguf")
    files = ("tiny-Q4_K_M.gguf", "tiny-Q3_K_M-plain.gguf", "other.gguf")
    said = lwq(
        "compare", *files, "--base", "tiny.gguf", *SHORT, "--tasks", "arc=arc.jsonl", "--items", "100", cwd=folder
    )
    assert said.code == 1
    assert said.err.count("another model") == 1
    assert "other.gguf: general.architecture is 'gemma3', the base has 'llama'" in said.err
    rows = [line.split()[0] for line in said.out.splitlines() if line.startswith(("F16", "tiny-"))]
    assert [rows.count(name) for name in ("F16", "tiny-Q4_K_M", "tiny-Q3_K_M-plain")] >= [3, 3, 3]
    assert "q4_K" in said.out
    assert "other" not in said.out


def test_files_are_compared_with_a_quantized_base_as_it_was_given(folder: Path) -> None:
    for name in ("modèle.gguf", "F16.gguf"):
        (folder / name).write_bytes((folder / "tiny.gguf").read_bytes())
    said = lwq("compare", "modèle.gguf", "F16.gguf", "--base", "tiny-Q4_K_M.gguf", *SHORT, "--json", cwd=folder)
    assert said.code == 0, said.err
    assert [row["name"] for row in json.loads(said.out)["rows"]] == ["F16", "mod-le", "F16-no2"]


def test_eval_with_one_file_more_measures_that_one_only(folder: Path) -> None:
    once = lwq("eval", "tiny-Q4_K_M.gguf", "--base", "tiny.gguf", *SHORT, "--json", cwd=folder)
    assert once.code == 0, once.err
    record = json.loads(once.out)
    assert [row["name"] for row in record["rows"]] == ["F16", "tiny-Q4_K_M"]
    files = ("tiny-Q4_K_M.gguf", "tiny-Q3_K_M-plain.gguf")
    more = lwq("-v", "eval", *files, "--base", "tiny.gguf", *SHORT, "--out", "seen", cwd=folder)
    assert more.code == 0, more.err
    fresh = [line for line in more.err.splitlines() if "✓" in line]
    assert len(fresh) == 2, more.err  # what it holds, and its damage
    card = (folder / "seen" / "DETAILS.md").read_text(encoding="utf-8")
    for row in json.loads((folder / "seen" / "record.json").read_text(encoding="utf-8"))["rows"]:
        assert f"{row['evaluation']['kld']['value']:.6f}" in card


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere.gguf",), "nowhere.gguf: no such model"),
        (("arc.jsonl",), "arc.jsonl"),
        (("tiny.gguf", "--tasks", "arcc"), "'arcc': no such task set"),
        (("tiny.gguf", "--tasks", "arc", "--data", "."), "no file of the set 'arc-easy'"),
        (("tiny.gguf", "--tasks", "arc=none.jsonl"), "none.jsonl"),
        (("tiny.gguf", "--tasks", "arc=arc.jsonl", "--items", "500"), "has 120 items, 500 are wanted"),
        (("tiny.gguf", "--text", "none.txt"), "none.txt: no such text"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_runs(
    arguments: tuple[str, ...], told: str, tmp_path: Path, tools_home: Path
) -> None:
    write_inputs(tmp_path)
    said = lwq("eval", *arguments, "--base", "tiny.gguf", cwd=tmp_path)
    assert said.code in (1, 2)
    assert told in said.err
    assert "hint:" in said.err
    assert not list(tools_home.glob("steps/*"))


def test_a_first_shard_is_compared_as_the_whole_file(tmp_path: Path, tools_home: Path) -> None:
    write_inputs(tmp_path)
    write_tiny_llama(tmp_path / "tiny.gguf", n_layer=2, n_ff=256)
    first = write_split_llama(tmp_path)
    for command in ("compare", "eval"):
        said = lwq(command, first.name, "tiny.gguf", "--base", "tiny.gguf", *SHORT, "--json", cwd=tmp_path)
        assert said.code == 0, said.err
        _, split, whole = json.loads(said.out)["rows"]
        assert (split["name"], whole["name"]) == ("tiny", "tiny-no2")
        assert split["evaluation"] == whole["evaluation"]
        assert len(split["shards"]) == 2
