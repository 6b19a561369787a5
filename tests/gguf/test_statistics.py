"""Statistics equal the tool's, digit for digit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.statistics import ImatrixEntry, as_printed, layer_statistics, tensor_statistics
from lwq.llama.process import run_tool
from lwq.llama.toolchain import Toolchain
from tests.tiny_models import write_tiny_llama, write_tiny_moe, write_tiny_text

FOLDER = Path(__file__).parents[1] / "transcripts"


def printed(text: str, n_cells: int) -> list[tuple[str, ...]]:
    """The cells of the tool's table rows of that width."""
    lines = (re.sub(r"^[\d.]+ [A-Z] ", "", line) for line in text.splitlines())
    rows = [tuple(cell.strip() for cell in line.split("\t")) for line in lines]
    return [row for row in rows if len(row) == n_cells and (row[0].isdigit() or row[0] == "-")]


def assert_equal(imatrix: Path, text: str) -> None:
    rows = tensor_statistics(read_imatrix(imatrix).entries)
    theirs = [tuple(c.replace("-nan", "nan") for c in row) for row in printed(text, 13)]
    assert theirs
    assert sorted(as_printed(row) for row in rows) == sorted(theirs)
    assert [as_printed(row)[1] for row in rows] == [row[1] for row in theirs]
    layers = [tuple(c.replace("-nan", "nan") for c in row) for row in printed(text, 4)]
    assert [as_printed(row) for row in layer_statistics(rows)] == layers


def test_recorded_moe_statistics_are_equal_in_all_columns() -> None:
    assert_equal(FOLDER / "moe.imatrix.gguf", (FOLDER / "show_statistics_moe.txt").read_text(encoding="utf-8"))


@pytest.mark.tools
@pytest.mark.parametrize("write", [write_tiny_llama, write_tiny_moe])
def test_real_statistics_are_equal_in_all_columns(write, tmp_path: Path, toolchain: Toolchain) -> None:
    model, text = write(tmp_path / "m.gguf"), write_tiny_text(tmp_path / "t.txt")
    program = str(toolchain.program("llama-imatrix"))
    run_tool((program, "-m", str(model), "-f", str(text), "-o", "i.gguf", "-c", "64", "--chunks", "8"), cwd=tmp_path)
    for _ in range(300):  # it often ends before its log thread has printed anything, the more so on a busy machine
        done = run_tool((program, "-m", str(model), "--in-file", "i.gguf", "--show-statistics"), cwd=tmp_path)
        if done.stderr.rstrip().splitlines() and len(printed(done.stderr, 4)) == printed_layers(model):
            break
    assert_equal(tmp_path / "i.gguf", done.stderr)


def printed_layers(model: Path) -> int:
    from lwq.gguf.header import read_header

    return read_header(model).n_layer


def entry(name: str, values: list[list[float]], counts: list[int]) -> ImatrixEntry:
    return ImatrixEntry(name=name, in_sum2=np.array(values, np.float32), counts=np.array(counts, np.int64))


def test_hand_made_entry() -> None:
    # a = (1, 1, 2, 4): Σ 8, μ 2, σ² = 22/4 − 4 = 1.5, H = −(2·⅛·log2 ⅛ + ¼·log2 ¼ + ½·log2 ½) = 1.75 bits
    (row,) = tensor_statistics([entry("blk.3.ffn_up.weight", [[2, 2, 4, 8]], [2])])
    assert (row.sum_sq, row.mean, row.n, row.layer, row.tensor_class) == (8, 2, 4, 3, "ffn_up")
    assert row.std == pytest.approx(1.5**0.5)
    assert row.entropy == pytest.approx(1.75)
    assert row.entropy_norm == pytest.approx(0.875)
    assert row.zd == 0.25  # only 4 is more than one σ above the mean
    assert row.cossim == 0.0


def test_experts_that_no_token_reached_are_left_out() -> None:
    (row,) = tensor_statistics([entry("blk.0.ffn_up_exps.weight", [[4, 4], [9, 9]], [2, 0])])
    assert (row.n, row.mean) == (2, 2)
    assert tensor_statistics([entry("blk.0.ffn_up.weight", [[0, 0]], [0])]) == ()


def test_zero_activations_have_no_cosine() -> None:
    rows = tensor_statistics([entry(f"blk.{i}.x.weight", [[0, 0]], [1]) for i in (0, 1)])
    assert {row.layer: row.cossim for row in rows} == {0: 0.0, 1: None}


def test_untouched_layer_before_gives_no_cosine_as_in_the_tool() -> None:
    rows = tensor_statistics([entry("blk.0.x.weight", [[0, 0]], [0]), entry("blk.1.x.weight", [[1, 2]], [1])])
    assert [row.cossim for row in rows] == [0.0]


def test_normalised_entropy_is_rounded_once() -> None:
    # the tool prints 80.84 % for these 96 channels; 100 times the float32 ratio would print 80.83 %
    (row,) = tensor_statistics(read_imatrix(FOLDER / "entropy.imatrix.gguf").entries)
    assert as_printed(row)[9:11] == ("5.3230", "80.84%")


def test_every_column_of_a_hand_made_entry_as_the_tool_prints_it() -> None:
    # a = (1, 1, 2, 4); beside it a = (0.5, 0, 1e-5, 1.5): of four channels two are above 1e-5
    rows = tensor_statistics(
        [
            entry("blk.3.ffn_up.weight", [[2, 2, 4, 8]], [2]),
            entry("blk.4.ffn_up.weight", [[1, 0, 2e-5, 3]], [2]),
            entry("output.weight", [[1]], [1]),
        ]
    )
    assert [(r.tensor, r.min, r.max) for r in rows] == [
        ("blk.3.ffn_up.weight", 1, 4), ("blk.4.ffn_up.weight", 0, 1.5), ("output.weight", 1, 1),
    ]  # fmt: skip
    assert [r.active for r in rows] == [1, 0.5, 1]
    # cosine of (2, 2, 4, 8) and (1, 0, 0, 3): 26 / √88 / √10
    assert rows[1].cossim == pytest.approx(26 / (88 * 10) ** 0.5, rel=1e-5)
    assert as_printed(rows[0]) == (
        "3", "ffn_up", "8.00", "1.0000", "4.0000", "2.00", "1.22", "100.00%", "4", "1.7500", "87.50%", "25.00%",
        "0.0000",
    )  # fmt: skip
    assert as_printed(rows[2])[:2] == ("-", "output")
    assert (rows[2].entropy, rows[2].entropy_norm, rows[2].std, rows[2].zd) == (0, 0, 0, 0)
    assert as_printed(rows[2])[9] == "0.0000"  # the tool begins at zero, so it has no sign


def test_rows_go_by_class_then_by_falling_sums_then_by_name() -> None:
    names = ["blk.2.b.weight", "blk.1.b.weight", "blk.0.b.weight", "blk.0.a.weight", "rope"]
    sums = {"blk.2.b.weight": 5.0, "blk.1.b.weight": 9.0, "blk.0.b.weight": 5.0, "blk.0.a.weight": 1.0, "rope": 7.0}
    rows = tensor_statistics([entry(n, [[sums[n]]], [1]) for n in names])
    assert [r.tensor for r in rows] == ["blk.0.a.weight", "blk.1.b.weight", "blk.0.b.weight", "blk.2.b.weight", "rope"]
    assert [r.tensor_class for r in rows] == ["a", "b", "b", "b", "rope"]


def test_tensor_of_another_size_in_the_layer_before_gives_no_cosine() -> None:
    rows = tensor_statistics([entry("blk.0.x.weight", [[1, 2, 3]], [1]), entry("blk.1.x.weight", [[1, 2]], [1])])
    assert [row.cossim for row in rows] == [0.0, 0.0]


def test_layers_average_their_tensors_by_channels() -> None:
    rows = tensor_statistics(
        [
            entry("blk.1.a.weight", [[2, 2, 4, 8]], [2]), entry("blk.1.b.weight", [[3, 5]], [1]),
            entry("blk.0.a.weight", [[2, 2, 4, 8]], [2]), entry("output.weight", [[9, 9]], [1]),
        ]
    )  # fmt: skip
    found = layer_statistics(rows[::-1])
    assert [f.layer for f in found] == [0, 1]
    # Σ 8 of 4 channels and 8 of 2; 1 of 4 channels stands out, and none of 2; cosines 1 and 0
    assert (found[1].mean_sum_sq, found[1].zd, found[1].cossim) == (8, pytest.approx(1 / 6), pytest.approx(4 / 6))
    assert as_printed(found[1]) == ("1", "8.00", "16.6667%", "0.6667")
    dead = tensor_statistics([entry(f"blk.{i}.x.weight", [[0, 0]], [1]) for i in (0, 1)])
    assert [f.cossim for f in layer_statistics(dead)] == [0, None]
    assert as_printed(layer_statistics(dead)[1])[3] == as_printed(dead[1])[-1] == "nan"


def test_sums_are_of_float32_one_after_the_other() -> None:
    values = [[1.0, *[2.0**-24] * 8, 0.0]]
    (row,) = tensor_statistics([entry("blk.0.x.weight", values, [1])])
    assert row.sum_sq == 1.0  # each addition is rounded away, which pairs of them would not be
