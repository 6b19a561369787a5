"""Importance rows are those that llama-quantize forms, and an imatrix that does not fit is refused clearly."""

from __future__ import annotations

import numpy as np
import pytest

from lwq.errors import ModelError
from lwq.gguf.importance import importance_rows
from lwq.gguf.statistics import ImatrixEntry
from lwq.gguf.types import TensorInfo

DENSE = TensorInfo(name="blk.0.ffn_up.weight", ne=(4, 8), ggml_type="f16")
EXPERTS = TensorInfo(name="blk.0.ffn_up_exps.weight", ne=(2, 8, 3), ggml_type="f16")


def entry(name: str, sums: list[list[float]], counts: list[int]) -> ImatrixEntry:
    return ImatrixEntry(name=name, in_sum2=np.array(sums, np.float32), counts=np.array(counts, np.int64))


def test_a_row_is_the_mean_of_squares() -> None:
    rows = importance_rows([entry(DENSE.name, [[2, 4, 0, 1]], [4])], [DENSE])[DENSE.name]
    assert rows.tolist() == [[0.5, 1, 0, 0.25]]
    assert rows.dtype == np.float32


def test_an_expert_that_no_token_reached_has_weight_one() -> None:
    rows = importance_rows([entry(EXPERTS.name, [[2, 4], [0, 0], [9, 3]], [2, 0, 3])], [EXPERTS])[EXPERTS.name]
    assert rows.tolist() == [[1, 2], [1, 1], [3, 1]]


def test_tensors_without_data_and_data_without_tensors_are_left_out() -> None:
    entries = [entry(DENSE.name, [[1, 1, 1, 1]], [1]), entry("blk.9.ffn_up.weight", [[1]], [1])]
    assert list(importance_rows(entries, [EXPERTS, DENSE])) == [DENSE.name]


def test_no_importance_matrix_is_no_mistake() -> None:
    assert importance_rows([], [DENSE]) == {}


def test_the_imatrix_of_another_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no tensor of this model \(it has enc.0.weight, …\)") as caught:
        importance_rows([entry("enc.0.weight", [[1]], [1])], [DENSE])
    assert "llama-imatrix" in caught.value.hint


@pytest.mark.parametrize(
    ("tensor", "sums", "told"),
    [
        (DENSE, [[1.0, 1, 1]], "has 1×3 sums for blk.0.ffn_up.weight, which needs 1×4"),
        (DENSE, [[1.0, 1, 1, 1]] * 2, "has 2×4 sums for blk.0.ffn_up.weight, which needs 1×4"),
        (EXPERTS, [[1.0, 1]], "has 1×2 sums for blk.0.ffn_up_exps.weight, which needs 3×2"),
    ],
)
def test_sums_of_another_shape_are_refused(tensor: TensorInfo, sums: list[list[float]], told: str) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        importance_rows([entry(tensor.name, sums, [1] * len(sums))], [tensor])
    assert "another model" in caught.value.hint


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("count", [0, 5])
def test_sums_that_cannot_be_are_refused(bad: float, count: int) -> None:
    with pytest.raises(ModelError, match="sums for blk.0.ffn_up.weight that are not finite or below zero"):
        importance_rows([entry(DENSE.name, [[1, bad, 1, 1]], [count])], [DENSE])
