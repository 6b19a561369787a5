"""Predicted damage: measured where it was measured, between and beyond as the model says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwq.bits.damage import (
    Interaction,
    TensorDamage,
    damages,
    fit_interaction,
    most_extrapolated,
    sum_of,
    with_gains,
)
from lwq.metrics.values import Estimate
from lwq.record.search import TensorSensitivity

MODEST = settings(max_examples=60, deadline=None)
TYPES = ("q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "q8_0")
ERRORS = {"q2_K": 1e-1, "q3_K": 1e-2, "q4_K": 1e-3, "q5_K": 1e-4, "q6_K": 1e-5, "q8_0": 1e-6}


def tensor(probes: dict[str, float], errors: dict[str, float] | None = None, name: str = "t") -> TensorDamage:
    return TensorDamage(name=name, errors=ERRORS if errors is None else errors, probes=probes)


def measured(name: str, errors: dict[str, float], probe: str, kld: float, **more: Any) -> TensorSensitivity:
    return TensorSensitivity(
        tensor=name,
        layer=0,
        tensor_class="x",
        n_elements=1,
        probe_type=probe,
        kld=Estimate(value=kld, stderr=kld / 2),
        alpha=0.0,
        errors=tuple(errors.items()),
        **more,
    )


@MODEST
@given(probes=st.dictionaries(st.sampled_from(TYPES), st.floats(0, 10), min_size=1))
def test_a_measured_probe_wins_over_any_prediction(probes: dict[str, float]) -> None:
    damage = tensor(probes)
    assert {q: damage.predicted(q) for q in probes} == probes


def test_one_probe_gives_one_alpha_for_all_types() -> None:
    damage = tensor({"q3_K": 0.02})  # alpha = 0.02 / 1e-2 = 2
    assert [damage.predicted(q) for q in TYPES] == pytest.approx([2 * ERRORS[q] for q in TYPES])


def test_alpha_is_interpolated_in_log_error_and_stays_beyond() -> None:
    # alpha 4 at e = 1e-2, 1 at e = 1e-4; halfway in log e, at 1e-3, their geometric mean 2
    damage = tensor({"q3_K": 4e-2, "q5_K": 1e-4})
    assert damage.alpha("q4_K") == pytest.approx(2)
    assert damage.predicted("q4_K") == pytest.approx(2e-3)
    assert damage.predicted("q2_K") == pytest.approx(4e-1)
    assert [damage.predicted(q) for q in ("q6_K", "q8_0")] == pytest.approx([1e-5, 1e-6])


@MODEST
@given(
    low=st.floats(1e-6, 1e-3), high=st.floats(1e-6, 1e-3), wide=st.floats(1, 6), at=st.floats(0, 1)
)  # fmt: skip
def test_alpha_between_two_probes_is_between_theirs(low: float, high: float, wide: float, at: float) -> None:
    errors = {"q4_K": 1e-6, "q3_K": 1e-6 * 10 ** (wide * at), "q2_K": 1e-6 * 10**wide}
    damage = tensor({"q4_K": low, "q2_K": high}, errors)
    first, last = low / errors["q4_K"], high / errors["q2_K"]
    expected = math.exp(math.log(first) * (1 - at) + math.log(last) * at)
    assert damage.alpha("q3_K") == pytest.approx(expected, rel=1e-9)


def test_a_tensor_of_zeros_is_not_damaged() -> None:
    damage = tensor({"q3_K": 0.0}, dict.fromkeys(TYPES, 0.0))
    assert [damage.predicted(q) for q in TYPES] == [0.0] * len(TYPES)


def test_a_probe_below_zero_counts_as_nothing() -> None:
    damage = tensor({"q3_K": -1e-5})
    assert damage.predicted("q3_K") == 0
    assert 0 <= damage.predicted("q4_K") < 1e-12  # still finite: alpha is taken from a negligible damage


def test_without_probes_nothing_is_predicted() -> None:
    assert [tensor({}).predicted(q) for q in TYPES] == [0.0] * len(TYPES)


def test_a_type_without_a_curve_counts_as_the_nearest_in_size() -> None:
    damage = tensor({"q3_K": 0.01})
    assert damage.predicted_or_near("q5_0") == damage.predicted("q5_K")  # both 5.5 bpw
    assert damage.predicted_or_near("iq2_xxs") == damage.predicted("q2_K")
    assert damage.predicted_or_near("f16") == 0
    assert tensor({"q4_0": 0.3}).predicted_or_near("q4_0") == 0.3  # measured, though its error is not known
    assert tensor({}, {}).predicted_or_near("q4_K") == 0


def test_of_two_types_as_near_in_size_the_first_by_name_counts() -> None:
    damage = tensor({"q5_0": 0.3, "q5_K": 0.1}, {"q5_K": 1e-4, "q5_0": 2e-4})
    assert damage.predicted_or_near("q5_1") == 0.3  # 6 bpw, half a bit from both
    assert damage.predicted_or_near("bf16") == 0
    assert damage.predicted_or_near("q8_0") == 0.3


def test_errors_that_are_nothing_have_the_alpha_of_the_nearest_probe_and_no_damage() -> None:
    damage = tensor({"q3_K": 2e-2, "q4_K": 5e-3, "q8_0": 1.0}, {**ERRORS, "q6_K": 0.0, "q8_0": 1e-13})
    assert damage.alpha("q6_K") == pytest.approx(5)  # the probe in q8_0, whose error is nothing, tells of no error
    assert damage.predicted("q6_K") == 0
    assert damage.alpha("q3_K") == pytest.approx(2)


def test_probes_at_the_same_error_give_one_alpha() -> None:
    damage = tensor({"q4_K": 1e-3, "q4_0": 3e-3, "q2_K": 0.3}, {"q4_K": 1e-3, "q4_0": 1e-3, "q5_K": 1e-4, "q2_K": 0.1})
    assert damage.alpha("q5_K") == pytest.approx(1)
    assert damage.alpha("q4_0") == pytest.approx(1)
    assert damage.alpha("q2_K") == pytest.approx(3)


@MODEST
@given(
    scale=st.floats(0.01, 100),
    exponent=st.floats(0.3, 3),
    sums=st.lists(st.floats(1e-6, 10), min_size=2, max_size=8).filter(lambda x: max(x) > 1.5 * min(x)),
)
def test_fit_recovers_scale_and_exponent_of_exact_data(scale: float, exponent: float, sums: list[float]) -> None:
    found = fit_interaction(sums, [scale * s**exponent for s in sums])
    assert found.exponent == pytest.approx(exponent, rel=1e-6)
    assert [found.damage_of_mix(s) for s in sums] == pytest.approx([scale * s**exponent for s in sums], rel=1e-6)
    assert found.scale == pytest.approx(scale, rel=1e-4)  # sums near 1e-6 extrapolate far to 1


def test_one_mix_fixes_the_scale_alone_and_none_nothing() -> None:
    one = fit_interaction([0.5], [0.8])
    assert (one.scale, one.exponent) == (pytest.approx(1.6), 1.0)
    assert fit_interaction([0.5, 0.5], [0.8, 0.2]).exponent == 1.0  # nothing to tell an exponent from
    assert fit_interaction([], []) == fit_interaction([0.0, 1.0], [1.0, 0.0]) == Interaction()


def test_mixes_of_nearly_one_size_tell_no_exponent() -> None:
    near, apart = ([0.5, 0.5 * ratio] for ratio in (1.005, 1.02))  # logarithms spread by 1.2e-5 and by 2.0e-4
    assert fit_interaction(near, [0.1, 0.4]) == Interaction(scale=pytest.approx(0.4 / 1.005**0.5), exponent=1.0)
    found = fit_interaction(apart, [2 * s**3 for s in apart])
    assert (found.scale, found.exponent) == (pytest.approx(2), pytest.approx(3))
    with pytest.raises(ValueError, match="zip"):
        fit_interaction([0.5], [0.1, 0.2])


def test_no_damage_stays_none_in_a_mix() -> None:
    assert Interaction(scale=2.0, exponent=0.0).damage_of_mix(-0.1) == 0.0
    assert Interaction(scale=2.0, exponent=0.5).damage_of_mix(0.0) == 0.0
    assert Interaction(scale=2.0, exponent=0.5).damage_of_mix(9.0) == 6.0


def test_further_probes_join_the_first_and_replace_it_at_the_same_type() -> None:
    found = damages(
        [measured("a", ERRORS, "q3_K", 0.1), measured("b", ERRORS, "q3_K", 0.2)],
        {("a", "q2_K"): 0.7, ("a", "q3_K"): 0.3, ("gone", "q2_K"): 1.0},
    )
    assert {name: dict(d.probes) for name, d in found.items()} == {"a": {"q3_K": 0.3, "q2_K": 0.7}, "b": {"q3_K": 0.2}}
    assert dict(found["a"].errors) == ERRORS


def test_a_mix_sums_the_damages_of_tensors_that_are_known() -> None:
    known = {"a": tensor({"q3_K": 0.02}), "b": tensor({"q3_K": 0.01})}
    # a: measured 0.02; b: alpha 1 · 1e-3; norms are not measured; f16 costs nothing
    assert sum_of({"a": "q3_K", "b": "q4_K", "norm": "f32"}, known) == pytest.approx(0.021)
    assert sum_of({"a": "f16", "b": "f16"}, known) == 0


def test_the_most_unsure_are_large_and_far_from_a_probe() -> None:
    known = {
        "far": tensor({"q3_K": 0.01}),  # alpha 1: q5_K 1e-4, two decades off: 1e-4 · 2 ln 10
        "near": tensor({"q4_K": 0.001}),  # q5_K 1e-4, one decade off
        "sure": tensor({"q5_K": 5.0}),
        "heavy": tensor({"q4_K": 1.0}),  # alpha 1000: q5_K 0.1
    }
    types = dict.fromkeys(("sure", "near", "far", "heavy", "norm"), "q5_K")
    assert most_extrapolated(types, known, 9) == [("heavy", "q5_K"), ("far", "q5_K"), ("near", "q5_K")]
    assert most_extrapolated(types, known, 1) == [("heavy", "q5_K")]
    assert most_extrapolated({"far": "f16"}, known, 9) == []  # no curve, nothing to probe


def test_a_probe_takes_the_place_of_an_estimate() -> None:
    guessed = measured("a", ERRORS, "q4_K", 2e-3, is_probed=False)
    before, after = damages([guessed], {})["a"], damages([guessed], {("a", "q3_K"): 0.01})["a"]
    assert (before.predicted("q3_K"), before.doubt) == (pytest.approx(0.02), 0.5)
    assert dict(after.probes) == {"q3_K": 0.01}
    assert (after.predicted("q4_K"), after.doubt) == (pytest.approx(1e-3), 0)


def test_an_estimate_is_probed_before_a_like_measurement_even_at_its_own_type() -> None:
    known = damages(
        [measured("seen", ERRORS, "q4_K", 2e-3), measured("guessed", ERRORS, "q4_K", 1e-3, is_probed=False)], {}
    )
    # weights: guessed 1e-3 · 0.5; seen, at the type of its probe, needs none
    assert most_extrapolated(dict.fromkeys(known, "q4_K"), known, 9) == [("guessed", "q4_K")]
    # one decade off: guessed 1e-2 · (2.3 + 0.5), seen 2e-2 · 2.3
    assert most_extrapolated(dict.fromkeys(known, "q3_K"), known, 9) == [("seen", "q3_K"), ("guessed", "q3_K")]


def test_an_estimate_of_unknown_error_or_of_nothing_is_in_no_doubt() -> None:
    guessed = measured("a", ERRORS, "q4_K", 2e-3, is_probed=False)
    unknown = replace(guessed, kld=Estimate(value=2e-3))
    nothing = replace(guessed, kld=Estimate(value=0.0, stderr=0.1))
    made = measured("a", ERRORS, "q4_K", 2e-3)
    assert [damages([t], {})["a"].doubt for t in (guessed, unknown, nothing, made)] == [0.5, 0, 0, 0]


def test_equals_among_the_most_unsure_go_by_name() -> None:
    known = {name: tensor({"q3_K": 0.01}) for name in "bca"}
    assert most_extrapolated(dict.fromkeys("bca", "q5_K"), known, 2) == [("a", "q5_K"), ("b", "q5_K")]


def test_how_far_a_probe_is_away_counts_as_a_logarithm_from_the_nearest() -> None:
    known = {
        "one": tensor({"q2_K": 0.1, "q4_K": 1e-3}),  # q5_K 1e-4, one decade from the nearer probe
        "two": tensor({"q2_K": 0.11}),  # q5_K 1.1e-4, three decades
        "three": tensor({"q6_K": 2.5e-5}),  # q5_K 2.5e-4, one decade from below
    }
    found = most_extrapolated(dict.fromkeys(known, "q5_K"), known, 9)
    assert [name for name, _ in found] == ["two", "three", "one"]  # 3.3, 2.5 and 1 e-4 · ln 10


# gains of compensated values


def test_gains_lower_the_errors_and_the_probe_of_their_types_alone() -> None:
    a, b = measured("a", ERRORS, "q3_K", 0.1), measured("b", ERRORS, "q4_K", 0.2)
    found = with_gains([a, b], {"a": {"q3_K": 0.5, "q2_K": 0.25}, "gone": {"q3_K": 0.1}})
    assert found[1] == b
    assert dict(found[0].errors) == pytest.approx({**ERRORS, "q3_K": ERRORS["q3_K"] / 2, "q2_K": ERRORS["q2_K"] / 4})
    assert found[0].kld == Estimate(value=0.05, stderr=0.025)
    assert (found[0].tensor, found[0].probe_type, found[0].alpha) == (a.tensor, a.probe_type, a.alpha)


def test_alpha_of_a_probed_tensor_is_the_same_with_gains() -> None:
    """The probe was made with stock values: what it says of damage by error stays true."""
    plain = measured("a", ERRORS, "q4_K", 2e-3)
    (gained,) = with_gains([plain], {"a": {"q2_K": 0.5, "q3_K": 0.6, "q4_K": 0.8}})
    before, after = damages([plain], {})["a"], damages([gained], {})["a"]
    assert after.alpha("q4_K") == pytest.approx(before.alpha("q4_K"))
    for q, ratio in (("q2_K", 0.5), ("q3_K", 0.6), ("q4_K", 0.8), ("q5_K", 1.0)):
        assert after.predicted(q) == pytest.approx(ratio * before.predicted(q))


def test_probe_without_a_standard_error_has_none_with_gains() -> None:
    plain = measured("a", ERRORS, "q4_K", 2e-3)
    plain = replace(plain, kld=Estimate(value=2e-3, stderr=None))
    (gained,) = with_gains([plain], {"a": {"q4_K": 0.5}})
    assert gained.kld == Estimate(value=1e-3, stderr=None)
    assert with_gains([plain], {}) == (plain,)
