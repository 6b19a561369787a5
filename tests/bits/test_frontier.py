"""The frontier of predicted allocations: from the smallest to the largest, never worse for more bytes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwq.bits.frontier import N_POINTS, frontier, totals
from lwq.bits.knapsack import Group, Option
from lwq.gguf.header import GgufHeader
from lwq.gguf.parse import Shard
from lwq.gguf.types import TensorInfo, tensor_bytes, type_bpw
from lwq.metrics.values import Estimate
from lwq.recipe.constraints import TYPE_SETS, Constraints
from lwq.record.search import TensorSensitivity

MODEST = settings(max_examples=20, deadline=None)  # each solves sixteen problems
TYPES = TYPE_SETS["k"]
NORM = TensorInfo(name="output_norm.weight", ne=(256,), ggml_type="f32")


def header(tensors: tuple[TensorInfo, ...]) -> GgufHeader:
    shard = Shard(path=Path("m.gguf"), file_bytes=0, data_offset=0, tensors=tensors)
    return GgufHeader(path=shard.path, version=3, alignment=32, entries=(), shards=(shard,))


def matrix(i: int, n_rows: int) -> TensorInfo:
    return TensorInfo(name=f"blk.{i}.ffn_up.weight", ne=(256, n_rows), ggml_type="f16")


def probed(tensor: TensorInfo, alpha: float) -> TensorSensitivity:
    """Damage alpha · 4^−bpw in every type."""
    errors = tuple((q, 4 ** -type_bpw(q)) for q in TYPES)
    return TensorSensitivity(
        tensor=tensor.name,
        layer=tensor.layer,
        tensor_class=tensor.tensor_class,
        n_elements=tensor.n_elements,
        probe_type="q3_K",
        kld=Estimate(value=alpha * dict(errors)["q3_K"]),
        alpha=alpha,
        errors=errors,
    )


def test_two_points_are_the_smallest_and_the_largest_types() -> None:
    tensors = (matrix(0, 4), matrix(1, 4), NORM)
    first, last = frontier(header(tensors), [probed(t, 2.0) for t in tensors[:2]], Constraints(types=TYPES), 2)
    # 8 rows of 256: q2_K 84 bytes a row, q8_0 272; the norm adds 1024 bytes and 256 weights
    assert (first.n_bytes, last.n_bytes) == (8 * 84 + 1024, 8 * 272 + 1024)
    assert first.bpw == pytest.approx(8 * (8 * 84 + 1024) / (9 * 256))
    assert first.predicted_kld == pytest.approx(2 * 2.0 * 4**-2.625)
    assert last.predicted_kld == pytest.approx(2 * 2.0 * 4**-8.5)


@MODEST
@given(rows=st.lists(st.tuples(st.integers(1, 9), st.floats(0.01, 100)), min_size=1, max_size=6))
def test_more_bytes_are_never_worse_and_budgets_are_kept(rows: list[tuple[int, float]]) -> None:
    tensors = tuple(matrix(i, n) for i, (n, _) in enumerate(rows))
    measured = [probed(t, alpha) for t, (_, alpha) in zip(tensors, rows, strict=True)]
    found = frontier(header((*tensors, NORM)), measured, Constraints(types=TYPES))
    least, most = (sum(tensor_bytes(t.ne, q) for t in tensors) for q in ("q2_K", "q8_0"))
    assert len(found) == N_POINTS
    assert all(b.predicted_kld <= a.predicted_kld * (1 + 1e-6) for a, b in pairwise(found))
    for i, point in enumerate(found):
        assert point.n_bytes - NORM.n_bytes <= least + (most - least) * i // (N_POINTS - 1)
        assert point.bpw == pytest.approx(8 * point.n_bytes / sum(t.n_elements for t in (*tensors, NORM)))
    assert found[0].n_bytes == least + NORM.n_bytes
    assert found[-1].n_bytes == most + NORM.n_bytes


def test_the_order_of_tensors_is_irrelevant() -> None:
    tensors = tuple(matrix(i, i + 1) for i in range(5))
    measured = [probed(t, 3.0**i) for i, t in enumerate(tensors)]
    forwards = frontier(header(tensors), measured, Constraints(types=TYPES))
    backwards = frontier(header(tensors[::-1]), measured[::-1], Constraints(types=TYPES))
    assert [p.n_bytes for p in forwards] == [p.n_bytes for p in backwards]
    assert [p.predicted_kld for p in forwards] == pytest.approx([p.predicted_kld for p in backwards])


def test_one_allowed_type_is_one_point() -> None:
    (point,) = frontier(header((matrix(0, 4),)), [probed(matrix(0, 4), 1.0)], Constraints(types=("q4_K",)))
    assert (point.n_bytes, point.bpw) == (4 * 144, 4.5)


def test_totals_add_the_chosen_options() -> None:
    ways = (Option(label="a", n_bytes=3, damage=0.5), Option(label="b", n_bytes=5, damage=0.25))
    groups = [Group(name=n, members=(n,), options=ways) for n in ("x", "y")]
    assert totals(groups, {"x": "a", "y": "b"}) == (8, 0.75)
