"""What tensors may be stored as: constraints are obeyed, and sizes are those of the tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwq.bits.damage import TensorDamage
from lwq.bits.knapsack import solve
from lwq.bits.options import check_ties, damage_with_exponent, groups, matched, spread
from lwq.errors import UsageError
from lwq.gguf.types import TensorInfo, tensor_bytes, type_bpw
from lwq.recipe.constraints import TYPE_SETS, Constraints

MODEST = settings(max_examples=60, deadline=None)
CLASSES = ("attn_q", "attn_k", "attn_v", "ffn_up", "ffn_gate")
K = TYPE_SETS["k"]


def tensor(name: str, ne: tuple[int, ...] = (256, 8)) -> TensorInfo:
    return TensorInfo(name=name, ne=ne, ggml_type="f16")


def damage(name: str, alpha: float = 1.0, types: Iterable[str] = K) -> TensorDamage:
    errors = {q: 4 ** -type_bpw(q) for q in types}
    probe = min(errors, key=type_bpw)
    return TensorDamage(name=name, errors=errors, probes={probe: alpha * errors[probe]})


def made(names: Iterable[str], constraints: Constraints) -> dict[str, tuple[str, ...]]:
    """First member of each group → labels of its options."""
    found = groups([tensor(n) for n in names], {n: damage(n) for n in names}, constraints)
    return {g.name: tuple(o.label for o in g.options) for g in found}


@st.composite
def models(draw: st.DrawFn) -> tuple[list[TensorInfo], dict[str, TensorDamage]]:
    keys = draw(st.sets(st.tuples(st.integers(0, 2), st.sampled_from(CLASSES)), min_size=2, max_size=8))
    tensors = [
        tensor(f"blk.{i}.{c}.weight", (256 * draw(st.integers(1, 3)), draw(st.integers(1, 9)))) for i, c in sorted(keys)
    ]
    return tensors, {t.name: damage(t.name, draw(st.floats(0.01, 100))) for t in tensors}


CONSTRAINTS = st.builds(
    Constraints,
    types=st.sets(st.sampled_from(K)).map(
        lambda found: (*sorted(found - {"q6_K"}), "q6_K")
    ),  # q6_K is above all floors
    min_types=st.sampled_from([(), (("attn_v", "q5_K"),), (("blk\\.1\\.", "q4_K"), ("ffn", "q3_K"))]),
    fixed=st.sampled_from([(), (("attn_q", "q6_K"),), (("attn_q", "f16"),)]),
    ties=st.sampled_from([(), (("ffn_up", "ffn_gate"),), (("ffn_up", "ffn_gate"), ("attn_k", "attn_v"))]),
)


@MODEST
@given(model=models(), constraints=CONSTRAINTS, share=st.floats(0, 1), data=st.data())
def test_an_allocation_obeys_every_constraint_and_the_budget(model, constraints, share, data: st.DataObject) -> None:
    tensors, damages = model
    found = groups(tensors, damages, constraints)
    least, most = (sum(pick(o.n_bytes for o in g.options) for g in found) for pick in (min, max))
    budget = least + int(share * (most - least))
    chosen = solve(found, budget)
    types = spread(chosen, found)
    assert set(types) == set(damages)

    n_bytes = sum(tensor_bytes(t.ne, types[t.name]) for t in tensors)
    assert n_bytes == sum(o.n_bytes for g in found for o in g.options if o.label == chosen[g.name])
    assert n_bytes <= budget
    for t in tensors:
        fixed = next((q for pattern, q in constraints.fixed if re.search(pattern, t.name)), None)
        floor = next((q for pattern, q in constraints.min_types if re.search(pattern, t.name)), None)
        if fixed:
            assert types[t.name] == fixed
        else:
            assert types[t.name] in constraints.types
            assert type_bpw(types[t.name]) >= (type_bpw(floor) if floor else 0)
    for tie in constraints.ties:
        for layer in range(3):
            assert len({types[t.name] for t in tensors if t.layer == layer and t.tensor_class in tie}) <= 1

    shuffled = groups(data.draw(st.permutations(tensors)), damages, constraints)
    assert sorted(shuffled, key=lambda g: g.name) == sorted(found, key=lambda g: g.name)
    assert spread(solve(shuffled, budget), shuffled) == types


def test_options_have_the_bytes_and_damages_of_all_members() -> None:
    up, gate = tensor("blk.0.ffn_up.weight", (256, 8)), tensor("blk.0.ffn_gate.weight", (512, 3))
    known = {up.name: damage(up.name, 1.0), gate.name: damage(gate.name, 10.0)}
    (group,) = groups([up, gate], known, Constraints(types=("q4_K",), ties=(("ffn_up", "ffn_gate"),)))
    (option,) = group.options
    # 256 weights of q4_K are 144 bytes: 8 + 2 · 3 of them; error 4^-4.5 = 1/512, alphas 1 and 10
    assert (option.label, option.n_bytes, group.layer) == ("q4_K", 14 * 144, 0)
    assert option.damage == pytest.approx(11 / 512)
    assert sorted(group.members) == ["blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"]


def test_ties_hold_within_a_layer_only() -> None:
    names = [f"blk.{i}.{c}.weight" for i in (0, 1) for c in ("ffn_up", "ffn_gate", "attn_q")]
    found = groups(
        [tensor(n) for n in names], {n: damage(n) for n in names}, Constraints(ties=(("ffn_up", "ffn_gate"),))
    )
    members = sorted(g.members for g in found)
    assert [len(m) for m in members] == [1, 2, 1, 2]
    assert all(len({tensor(name).layer for name in group}) == 1 for group in members)


def test_groups_are_named_after_their_first_member_and_offer_types_by_size() -> None:
    names = ["output.weight", "blk.1.ffn_up.weight", "blk.1.ffn_gate.weight"]
    found = groups(
        [tensor(n) for n in names],
        {n: damage(n, types=("q5_K", "q5_0", "q2_K")) for n in names},
        Constraints(types=("q5_K", "q2_K", "q5_0"), ties=(("ffn_up", "ffn_gate"),)),
    )
    assert [(g.name, g.members, g.layer) for g in found] == [
        ("output.weight", ("output.weight",), None),
        ("blk.1.ffn_gate.weight", ("blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"), 1),
    ]
    assert [[o.label for o in g.options] for g in found] == [["q2_K", "q5_0", "q5_K"]] * 2  # equals by name


def test_another_exponent_bends_the_damages_of_all_options() -> None:
    (plain,), (bent,) = (
        groups([tensor("a")], {"a": damage("a", 3.0)}, Constraints(types=("q2_K", "q4_K")), *more)
        for more in ((), (1.5,))
    )
    ratio = 4 ** -(type_bpw("q4_K") - type_bpw("q2_K"))
    assert [o.damage for o in bent.options] == pytest.approx(
        [plain.options[0].damage, plain.options[1].damage * ratio**0.5]
    )


def test_types_that_a_tie_has_in_common_are_those_that_each_member_may_be() -> None:
    names = ["blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"]
    least = Constraints(types=("q2_K", "q4_K", "q6_K"), ties=(("ffn_up", "ffn_gate"),), min_types=(("ffn_up", "q4_K"),))
    assert made(names, least) == {names[0]: ("q4_K", "q6_K")}


def test_a_floor_is_that_of_what_the_rows_fall_back_to() -> None:
    odd = tensor("blk.0.x.weight", (96, 4))
    known = {odd.name: damage(odd.name, types=("q4_0", "q5_0", "q8_0"))}
    (group,) = groups([odd], known, Constraints(types=("q4_0", "q5_0", "q8_0"), min_types=(("x", "q4_K"),)))
    assert [o.label for o in group.options] == ["q5_0", "q8_0"]  # q4_K falls back to q5_0


def test_a_least_type_beyond_the_set_takes_measured_types_from_outside_it() -> None:
    least = Constraints(types=("q2_K", "q3_K"), min_types=(("attn_v", "q5_K"),))
    found = made(["blk.0.attn_v.weight", "blk.0.attn_q.weight"], least)
    assert found == {"blk.0.attn_v.weight": ("q5_K", "q6_K", "q8_0"), "blk.0.attn_q.weight": ("q2_K", "q3_K")}


def test_the_first_pattern_that_is_found_counts() -> None:
    patterns = (("attn_(q|k)", "q4_K"), ("attn", "q6_K"))
    assert [matched(f"blk.0.{c}.weight", patterns) for c in ("attn_k", "attn_v", "ffn_up")] == ["q4_K", "q6_K", None]


def test_a_fixed_type_that_was_not_measured_can_be_had() -> None:
    found = made(["blk.0.attn_q.weight"], Constraints(types=K, fixed=(("attn_q", "f16"),)))
    assert found == {"blk.0.attn_q.weight": ("f16",)}


def test_a_fixed_type_falls_back_as_in_llama_quantize() -> None:
    odd = tensor("blk.0.x.weight", (96, 4))  # rows of 96 hold no block of 256
    known = {odd.name: damage(odd.name, types=("q4_0", "q5_0", "q8_0"))}
    (group,) = groups([odd], known, Constraints(fixed=(("x", "q6_K"),)))
    assert [o.label for o in group.options] == ["q8_0"]
    (group,) = groups([odd], known, Constraints(types=("q2_K",)))
    assert [o.label for o in group.options] == ["q4_0"]  # the smallest that it was measured in


@pytest.mark.parametrize(
    "constraints",
    [
        Constraints(min_types=(("ffn_up", "f16"),)),
        Constraints(ties=(("ffn_up", "attn_q"),), fixed=(("ffn_up", "q6_K"), ("attn_q", "q4_K"))),
        Constraints(types=("q2_K",), ties=(("ffn_up", "attn_q"),), min_types=(("ffn_up", "q5_K"),)),
    ],
)
def test_constraints_that_leave_no_type_are_told(constraints: Constraints) -> None:
    with pytest.raises(UsageError, match="the constraints leave no type for .*blk.0.ffn_up.weight") as caught:
        made(["blk.0.ffn_up.weight", "blk.0.attn_q.weight"], constraints)
    assert caught.value.hint == "loosen types, min_types or ties"


def test_another_exponent_bends_the_damage_from_the_probe_on() -> None:
    # errors 4^-2.625 (probe) and 4^-4.5: damage e · (e/e₀)^(x − 1)
    known = damage("a", 3.0)
    ratio = 4 ** -(type_bpw("q4_K") - type_bpw("q2_K"))
    assert damage_with_exponent(known, "q4_K", 1.0) == known.predicted("q4_K")
    assert damage_with_exponent(known, "q4_K", 1.5) == pytest.approx(known.predicted("q4_K") * ratio**0.5)
    assert damage_with_exponent(known, "q2_K", 1.5) == known.predicted("q2_K")
    assert damage_with_exponent(known, "f16", 1.5) == 0.0
    assert damage_with_exponent(TensorDamage(name="n", errors=known.errors, probes={}), "q4_K", 1.5) == 0.0
    unknown = TensorDamage(name="u", errors={"q4_K": 1e-3}, probes={"q4_0": 0.2})
    assert damage_with_exponent(unknown, "q4_K", 1.5) == unknown.predicted("q4_K")
    assert damage_with_exponent(TensorDamage(name="z", errors={"q2_K": 0.0}, probes={"q2_K": 0.0}), "q2_K", 1.1) == 0.0


def test_a_tie_with_a_class_that_the_model_lacks_is_told() -> None:
    tensors = (TensorInfo(name="blk.0.ffn_up.weight", ne=(256, 8), ggml_type="f16"),)
    check_ties(tensors, Constraints(ties=(("ffn_up",),)))
    with pytest.raises(UsageError, match="'ffn_gat'") as caught:
        check_ties(tensors, Constraints(ties=(("ffn_up", "ffn_gat"),)))
    assert caught.value.hint == "it has ffn_up"
