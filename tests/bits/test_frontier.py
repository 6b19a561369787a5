"""The frontier of predicted allocations: from the smallest to the largest, never worse for more bytes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwq.bits.damage import damages
from lwq.bits.frontier import N_POINTS, choices, frontier, least_and_most, totals
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


def test_the_smallest_and_the_largest_choice_are_added_up() -> None:
    ways = [Option(label=q, n_bytes=n, damage=0.0) for q, n in (("a", 5), ("b", 3), ("c", 9))]
    groups = [
        Group(name="x", members=("x",), options=tuple(ways)),
        Group(name="y", members=("y",), options=tuple(ways[:2])),
    ]
    assert least_and_most(groups) == (6, 14)
    assert least_and_most([]) == (0, 0)


def unread(tensor: TensorInfo) -> TensorSensitivity:
    """Of a tensor that predicting the next token does not read."""
    return TensorSensitivity(
        tensor=tensor.name, layer=tensor.layer, tensor_class=tensor.tensor_class, n_elements=tensor.n_elements,
        probe_type="q8_0", kld=Estimate(value=0.0), alpha=0.0, errors=(("q8_0", 1e-5),),
    )  # fmt: skip


def test_tensors_that_predicting_does_not_read_are_as_large_as_the_others_on_average() -> None:
    read = (matrix(0, 4), matrix(1, 4))
    aside = (
        TensorInfo(name="blk.2.ffn_up.weight", ne=(256, 6), ggml_type="f16"),
        TensorInfo(name="blk.2.ffn_down.weight", ne=(96, 2), ggml_type="f16"),
    )
    measured = [*(probed(t, 2.0) for t in read), *map(unread, aside)]
    first, last = frontier(header((*read, *aside, NORM)), measured, Constraints(types=TYPES), 2)
    n_params = 8 * 256 + 6 * 256 + 2 * 96 + 256
    # all others in q2_K: 84 bytes for each of 6 rows, and q4_0, 18 bytes for each 32 of rows that hold no 256
    assert first.n_bytes == 8 * 84 + 6 * 84 + 2 * 3 * 18 + 1024
    assert last.n_bytes == 8 * 272 + 6 * 272 + 2 * 3 * 34 + 1024
    assert (first.bpw, last.bpw) == (8 * first.n_bytes / n_params, 8 * last.n_bytes / n_params)
    assert first.predicted_kld == pytest.approx(2 * 2.0 * 4**-2.625)


def test_bits_of_what_is_not_read_are_rounded_to_the_nearest_type() -> None:
    # one row of q2_K and one of q8_0 among two: 8 · (84 + 272) / 512 = 5.5625 bits, nearest to 5.5: q5_0 before q5_K
    read, aside = (matrix(0, 1), matrix(1, 1)), TensorInfo(name="blk.2.x.weight", ne=(256, 1), ggml_type="f16")
    only = Constraints(types=TYPES, fixed=(("blk.0", "q2_K"), ("blk.1", "q8_0")))
    (point,) = frontier(header((*read, aside)), [*(probed(t, 1.0) for t in read), unread(aside)], only)
    assert point.n_bytes == 84 + 272 + 8 * 22


def test_a_single_point_is_the_smallest_and_a_model_without_choices_is_what_it_is() -> None:
    tensors = (matrix(0, 4), NORM)
    (point,) = frontier(header(tensors), [probed(tensors[0], 1.0)], Constraints(types=TYPES), 1)
    assert point.n_bytes == 4 * 84 + 1024
    (bare,) = frontier(header((NORM,)), [], Constraints(types=TYPES))
    assert (bare.n_bytes, bare.bpw, bare.predicted_kld) == (1024, 32, 0)


def test_layers_that_go_leave_the_choices_and_the_bytes_of_the_others() -> None:
    kept = TensorInfo(name="blk.1.attn_norm.weight", ne=(256,), ggml_type="f32")
    tensors = (matrix(0, 4), matrix(1, 4), kept, NORM)
    known = damages([probed(t, 1.0) for t in tensors[:2]], {})
    groups, others = choices(header(tensors), known, Constraints(types=TYPES), (1,))
    assert ([g.members for g in groups], others) == ([(tensors[0].name,)], 1024)
    groups, others = choices(header(tensors), known, Constraints(types=TYPES))
    assert ([g.members for g in groups], others) == ([(t.name,) for t in tensors[:2]], 2048)
