"""`lwq prune-scores` and `lwq prune` as a user meets them, on tiny models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lwq.gguf.header import read_header
from tests.cli.test_main import lwq
from tests.tiny_models import write_tiny_gemma3, write_tiny_llama, write_tiny_moe, write_tiny_text

pytestmark = pytest.mark.tools
TEXTS = ("--calibration", "long.txt", "--ctx", "32")
PLAINLY = "not healed: no ffn_down adds to the residual stream by itself (experts, or a norm behind it); KLD"


@pytest.fixture
def folder(tmp_path: Path, tools_home: Path) -> Path:
    write_tiny_llama(tmp_path / "tiny.gguf")
    write_tiny_text(tmp_path / "long.txt", n_words=3000)
    write_tiny_text(tmp_path / "other.txt", n_words=600, seed=1)
    (tmp_path / "there.gguf").touch()
    (tmp_path / "short.gguf").write_bytes((tmp_path / "tiny.gguf").read_bytes()[:100000])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("tiny.gguf --layers 2,2", 2, "--layers 2,2: names layer 2 twice"),
        ("tiny.gguf --layers -1", 2, "there is no layer -1"),
        ("tiny.gguf --layers 1-3", 2, "--layers 1-3: no list of numbers"),
        ("tiny.gguf --layers=", 2, "say which layers or how many"),
        ("tiny.gguf --count 0", 2, "0 is not in the range"),
        ("tiny.gguf --count 2 --repairs tiny.gguf", 2, "--repairs were fitted for certain layers"),
        ("tiny.gguf --layers 1,9", 1, "there is no layer 9: the model has layers 0 to 3"),
        ("tiny.gguf --layers 0", 1, "layer 0 cannot go"),
        ("tiny.gguf --count 3", 1, "3 layers cannot go: only 2 of this model's 4 may"),
        ("tiny.gguf --count 4 --allow-edge", 1, "4 layers cannot go: only 3 of this model's 4 may"),
        ("short.gguf --layers 1", 1, "short.gguf: truncated"),
        ("none.gguf --layers 1", 1, "no such model"),
        (". --layers 1", 1, "a folder of GGUFs"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line_with_a_hint(arguments: str, code: int, told: str, folder: Path) -> None:
    said = lwq("prune", *arguments.split(), *TEXTS, "--out", "out.gguf", cwd=folder)
    assert (said.code, said.out) == (code, "")
    assert told in said.err
    assert code == 1 or len(said.err.splitlines()) <= 4
    assert "hint: " in said.err or "--help" in said.err
    assert not (folder / "out.gguf").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("prune tiny.gguf --count 1 --out nowhere/out.gguf", "nowhere/out.gguf: cannot write the pruned base"),
        ("prune tiny.gguf --count 1 --out long.txt/out.gguf", "a part of this path is a file"),
        ("prune tiny.gguf --count 1 --out there.gguf", "there.gguf: exists already"),
        ("prune-scores tiny.gguf --plot nowhere/plot.svg", "nowhere/plot.svg: cannot write the plot"),
        ("prune-scores tiny.gguf --plot plot.pdf", "a plot is .svg or .png"),
    ],
)
def test_place_that_cannot_be_written_is_told_before_anything_runs(
    arguments: str, told: str, folder: Path, tools_home: Path
) -> None:
    said = lwq(*arguments.split(), *TEXTS, cwd=folder)
    assert said.code in (1, 2)
    assert told in said.err
    assert not list(tools_home.glob("steps/*"))


def test_second_run_does_nothing_and_gives_the_same_bytes(folder: Path) -> None:
    ask = ("-v", "prune", "tiny.gguf", "--count", "1", *TEXTS, "--selection", "other.txt", "--out")
    first, second = (lwq(*ask, name, cwd=folder) for name in ("one.gguf", "two.gguf"))
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "healing: KLD on the selection text" in first.out
    assert second.err.count("(done before)") == 5
    assert "$ llama" in first.err
    assert "$ llama" not in second.err
    assert (folder / "one.gguf").read_bytes() == (folder / "two.gguf").read_bytes()
    assert read_header(folder / "one.gguf").n_layer == 3
    seen = [line.split() for line in lwq("inspect", "one.gguf", cwd=folder).out.splitlines()]
    assert ["layers", "3"] in seen
    assert any(words[:1] == ["lwq.pruned_layers"] and words[1] in ("1", "2") for words in seen if len(words) == 2)


@pytest.mark.parametrize("ggml_type", ["f16", "q8_0"])
def test_given_file_may_have_the_name_of_the_base_that_is_made_of_it(ggml_type: str, folder: Path) -> None:
    given = write_tiny_llama(folder / "same-F16.gguf", ggml_type=ggml_type)
    before = given.read_bytes()
    said = lwq("prune", given.name, "--layers", "1", "--no-heal", *TEXTS, "--out", "out.gguf", cwd=folder)
    assert said.code == 0, said.err
    assert given.read_bytes() == before
    assert {t.ggml_type for t in read_header(folder / "out.gguf").tensors} == {"f16", "f32"}


@pytest.mark.parametrize("writer", [write_tiny_moe, write_tiny_gemma3])
def test_model_whose_feed_forwards_cannot_be_refitted_is_pruned_and_that_is_said(
    writer: Callable[[Path], Path], folder: Path
) -> None:
    n_layer = read_header(writer(folder / "other.gguf")).n_layer
    out = ("--selection", "other.txt", "--out", "out.gguf")
    said = lwq("prune", "other.gguf", "--count", "1", *TEXTS, *out, cwd=folder)
    assert said.code == 0, said.err
    assert PLAINLY in said.out
    assert read_header(folder / "out.gguf").n_layer == n_layer - 1
