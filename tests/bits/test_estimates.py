"""Estimates of probes that were not made: exact where a layer's effect is one number, and honest where it is not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from lwq.bits.estimates import _change, carried_errors, carrying_layers, estimated, loudest
from lwq.bits.mixes import Mixer
from lwq.llama.toolchain import Toolchain
from lwq.metrics.values import Estimate
from tests.engine.test_engine import opened
from tests.tiny_models import write_tiny_lfm2, write_tiny_llama

NAMES = ("attn_q", "attn_v", "ffn_up", "ffn_down")


def test_a_layer_with_one_effect_is_told_exactly() -> None:
    carried = [dict(zip(NAMES, (1e-4, 2e-4, 3e-4, 4e-4), strict=True))]
    found = estimated(carried, {"ffn_up": 3e-3, "ffn_down": 4e-3})  # 10 nats for each unit of error
    assert {name: kld.value for name, kld in found.items()} == {
        "attn_q": pytest.approx(1e-3),
        "attn_v": pytest.approx(2e-3),
    }
    assert all(kld.stderr == pytest.approx(0) for kld in found.values())


def test_an_effect_is_the_geometric_mean_and_its_scatter_is_the_estimates_error() -> None:
    carried = [{"a": 1.0, "b": 1.0, "c": 1.0}]
    found = estimated(carried, {"a": math.exp(-0.1), "b": math.exp(0.1)})["c"]
    # logarithms −0.1 and 0.1: variance 0.02 of one degree of freedom, and half as much more of the mean of two
    assert found.value == pytest.approx(1)
    assert found.stderr == pytest.approx(math.sqrt(0.02 * 1.5))


def test_layers_have_effects_of_their_own_and_scatter_in_common() -> None:
    carried = [{"a": 1.0, "b": 1.0, "c": 1.0}, {"d": 1.0, "e": 2.0}]
    found = estimated(carried, {"a": math.exp(-0.1), "b": math.exp(0.1), "d": 5.0})
    assert (found["c"].value, found["e"].value) == (pytest.approx(1), pytest.approx(10))
    assert found["e"].stderr == pytest.approx(10 * math.sqrt(0.02 * 2))


def test_scatter_is_pooled_by_degrees_of_freedom() -> None:
    logs = {"a": -0.3, "b": 0.0, "c": 0.3, "e": -0.1, "f": 0.1}
    carried = [dict.fromkeys("abcd", 1.0), dict.fromkeys("efg", 1.0)]
    found = estimated(carried, {name: math.exp(x) for name, x in logs.items()})
    # squares 0.18 of two degrees of freedom and 0.02 of one: 0.2 / 3; and of the means of three and of two
    assert set(found) == {"d", "g"}
    assert (found["d"].value, found["g"].value) == (pytest.approx(1), pytest.approx(1))
    assert found["d"].stderr == pytest.approx(math.sqrt(0.2 / 3 * (1 + 1 / 3)))
    assert found["g"].stderr == pytest.approx(math.sqrt(0.2 / 3 * 1.5))


def test_one_probe_in_all_leaves_an_estimate_as_unsure_as_a_factor_of_e() -> None:
    # nothing scatters, so one for the logarithm's variance, and one more for that of the mean of one
    found = estimated([{"a": 2.0, "b": 4.0}], {"a": 1.0})["b"]
    assert found == Estimate(value=found.value, stderr=found.stderr, unit="nats")
    assert (found.value, found.stderr) == (pytest.approx(2), pytest.approx(2 * math.sqrt(2)))


def test_a_probe_below_zero_says_nothing_of_its_layer() -> None:
    found = estimated([{"a": 1.0, "b": 1.0, "c": 1.0}], {"a": 2.0, "b": -1e-6})
    assert found["c"].value == pytest.approx(2.0)


def test_a_change_is_the_mean_over_tokens_of_squares_relative_to_the_stream() -> None:
    before = np.array([[9, 9], [3, 4], [0, 0], [0, 2]], np.float32)
    after = np.array([[0, 0], [3, 5], [7, 7], [3, 2]], np.float32)
    # token 0 is not scored, token 2 has no stream; 1 / 25 and 9 / 4
    found = _change(before.view(np.uint8).reshape(-1), after.view(np.uint8).reshape(-1), 4, 1)
    assert found == pytest.approx((1 / 25 + 9 / 4) / 2)


def test_nothing_measured_and_nothing_carried_is_no_damage() -> None:
    silent = estimated([{"a": 0.0, "b": 1e-3}], {"a": 0.0})
    assert (silent["b"].value, silent["b"].stderr) == (0, 0)
    still = estimated([{"a": 1e-3, "b": 0.0}], {"a": 1e-3})
    assert (still["b"].value, still["b"].stderr) == (0, 0)


def test_the_loudest_are_probed_and_equals_go_by_name() -> None:
    errors = {"b": 1.0, "a": 1.0, "d": 3.0, "c": 0.5}
    assert loudest(errors) == ("d", "a", "b")
    assert loudest(errors, 9) == ("d", "a", "b", "c")


@pytest.mark.tools
def test_an_error_is_carried_as_the_whole_pass_carries_it(toolchain: Toolchain, tmp_path: Path) -> None:
    with opened(toolchain, write_tiny_llama(tmp_path / "tiny.gguf", n_layer=4)) as engine:
        assert carrying_layers(engine) == {0, 1, 2}
        mixer = Mixer(engine, {})
        for layer in (0, 2):
            name = f"blk.{layer}.ffn_down.weight"
            found = carried_errors(mixer, layer, {name: "q4_0", f"blk.{layer}.attn_q.weight": "q8_0"})
            before = engine.streams(engine.windows[0])[layer + 1].astype(np.float64)
            engine.swap(name, "q4_0", mixer.stored(name, "q4_0"))
            after = engine.streams(engine.windows[0])[layer + 1].astype(np.float64)
            engine.restore()
            change = ((after - before) ** 2).sum(axis=1) / (before**2).sum(axis=1)
            assert found[name] == pytest.approx(change[engine.scored[0] :].mean(), rel=1e-9)
            assert 0 < found[f"blk.{layer}.attn_q.weight"] < found[name]


@pytest.mark.tools
def test_no_error_is_carried_where_no_layer_ends_for_sure(toolchain: Toolchain, tmp_path: Path) -> None:
    with opened(toolchain, write_tiny_lfm2(tmp_path / "tiny.gguf")) as engine:
        assert carrying_layers(engine) == frozenset()
