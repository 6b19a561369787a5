"""Estimates of tensors that were not probed: told right where the field holds, unsure where nothing is near."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lwq.bits.estimates import comparable, covariance, guesses, worth_probing
from lwq.gguf.types import TensorInfo

SIZES = {"attn_q": (256, 256), "ffn_up": (256, 1024), "ffn_down": (1024, 256)}


def model(n_layer: int) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(name=f"blk.{layer}.{tensor_class}.weight", ne=ne, ggml_type="f16")
        for layer in range(n_layer)
        for tensor_class, ne in SIZES.items()
    )


def open_ones(tensors: tuple[TensorInfo, ...], probed: tuple[TensorInfo, ...]) -> set[str]:
    return {t.name for t in tensors} - {t.name for t in probed}


def test_classes_that_few_layers_have_and_tensors_of_no_layer_are_not_compared() -> None:
    odd = (
        TensorInfo(name="token_embd.weight", ne=(256, 320), ggml_type="f16"),
        TensorInfo(name="blk.2.ffn_gate_inp.weight", ne=(256, 8), ggml_type="f16"),
    )
    assert comparable((*odd, *model(5)), 4) == model(5)
    assert comparable((*odd, *model(4)), 4) == ()


def test_levels_of_classes_and_courses_of_layers_are_found_from_a_third_of_the_tensors() -> None:
    tensors = model(24)
    levels = {"attn_q": 0.05, "ffn_up": 1.0, "ffn_down": 3.0}
    true = {t.name: levels[t.tensor_class] * math.exp(math.sin((t.layer or 0) / 4)) for t in tensors}
    probed = worth_probing(tensors, len(tensors) // 3)
    found = guesses(tensors, {t.name: true[t.name] for t in probed}, open_ones(tensors, probed))
    assert len(found) == 48
    ratios = {name: guess.alpha / true[name] for name, guess in found.items()}
    assert all(0.75 < ratio < 1.33 for name, ratio in ratios.items() if "ffn" in name)
    assert all(0.33 < ratio < 3 for ratio in ratios.values())  # attn_q, a quarter of the size, has hardly a probe


def test_the_stated_spread_is_that_of_tensors_drawn_from_the_field() -> None:
    tensors = model(30)
    rng, off = np.random.default_rng(3), []
    root = np.linalg.cholesky(covariance(tensors))
    for _ in range(20):
        true = dict(zip((t.name for t in tensors), np.exp(0.5 * root @ rng.standard_normal(len(tensors))), strict=True))
        probed = worth_probing(tensors, 30)
        found = guesses(tensors, {t.name: true[t.name] for t in probed}, open_ones(tensors, probed))
        off += [math.log(g.alpha / true[name]) / g.spread for name, g in found.items()]
    assert 0.85 < float(np.std(off)) < 1.15  # 1,200 of them, correlated; the size is fitted to 30 probes each time


def test_far_from_any_probe_is_less_sure_than_beside_one() -> None:
    tensors = model(20)
    alphas = {f"blk.{layer}.{c}.weight": 1.0 + 0.1 * layer for layer in (0, 1, 2, 3) for c in SIZES}
    found = guesses(tensors, alphas, {"blk.4.ffn_up.weight", "blk.19.ffn_up.weight"})
    assert found["blk.4.ffn_up.weight"].spread < found["blk.19.ffn_up.weight"].spread


def test_the_unit_of_alpha_does_not_matter() -> None:
    tensors = model(12)
    probed = worth_probing(tensors, 12)
    alphas = {t.name: 1.0 + i for i, t in enumerate(probed)}
    small = guesses(tensors, {name: 1e-6 * a for name, a in alphas.items()}, open_ones(tensors, probed))
    for name, guess in guesses(tensors, alphas, open_ones(tensors, probed)).items():
        assert small[name].alpha == pytest.approx(1e-6 * guess.alpha)
        assert small[name].spread == pytest.approx(guess.spread)


def test_every_class_is_probed_first_and_larger_tensors_more_often() -> None:
    tensors = model(20)
    order = worth_probing(tensors, 20)
    assert len(set(order)) == 20
    assert {t.tensor_class for t in order[:3]} == set(SIZES)
    n_of = [sum(t.tensor_class == c for t in order) for c in SIZES]
    assert n_of[0] < min(n_of[1:])
    assert order[:7] == worth_probing(tensors, 7)
    assert set(worth_probing(tensors, 999)) == set(tensors)


def test_nothing_measured_gives_no_damage() -> None:
    tensors = model(6)
    assert guesses(tensors, {}, {tensors[0].name})[tensors[0].name].alpha == 0
