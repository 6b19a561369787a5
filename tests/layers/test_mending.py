"""Healing in process: it lowers the KLD on the text that judges, leaves the engine as it was, or says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.gguf.data import read_tensor
from lwq.layers.mending import Mender
from tests.tiny_models import write_tiny_gemma3, write_tiny_llama, write_tiny_moe, write_tiny_text

pytestmark = pytest.mark.tools


def opened(toolchain, model: Path) -> tuple[Engine, Mender]:
    engine = Engine(toolchain, model, n_ctx=64, n_threads=1)
    windows = engine.cut(write_tiny_text(model.with_suffix(".txt"), n_words=3000).read_bytes().decode())
    engine.set_windows(spread_over(windows[::2], 4))
    return engine, Mender(engine=engine, fit=spread_over(windows[1::2], 12))


@pytest.mark.parametrize("layers", [(2,), (1, 2), (1, 4)])
def test_healing_lowers_the_measured_kld_and_predicts_it(layers: tuple[int, ...], toolchain, tmp_path: Path) -> None:
    engine, mender = opened(toolchain, write_tiny_llama(tmp_path / "tiny.gguf", n_layer=6))
    with engine:
        before = engine.logits(0, -1).copy()
        found, tensors = mender.heal(layers)
        assert np.array_equal(engine.logits(0, -1), before)
        assert found.layers == layers
        assert found.tensors
        assert found.after.value < found.before.value
        assert [t.tensor for t in found.tensors] == list(tensors)
        # put in place by hand, the repairs give the figure that was promised
        for layer in layers:
            engine.skip_layer(layer)
        for name, values in tensors.items():
            engine.swap(name, "f16", engine.ggml.quantize(values, "f16", None))
        assert engine.score().mean_kld == pytest.approx(found.after.value, rel=1e-6)
        engine.restore()


def test_only_kept_layers_from_the_one_before_the_cut_are_repaired(toolchain, tmp_path: Path) -> None:
    engine, mender = opened(toolchain, write_tiny_llama(tmp_path / "tiny.gguf", n_layer=6))
    with engine:
        _, tensors = mender.heal((2, 3))
        assert {int(name.split(".")[1]) for name in tensors} <= {1, 4}
        for name, values in tensors.items():
            assert values.shape == read_tensor(engine.header, name).shape


def test_published_form_repairs_the_layer_before_the_cut_alone(toolchain, tmp_path: Path) -> None:
    engine, mender = opened(toolchain, write_tiny_llama(tmp_path / "tiny.gguf", n_layer=6))
    with engine:
        mender.published = True
        found, tensors = mender.heal((2, 4))
        assert set(tensors) <= {"blk.1.ffn_down.weight", "blk.3.ffn_down.weight"}
        assert {t.method for t in found.tensors} <= {"transform"}


@pytest.mark.parametrize("writer", [write_tiny_moe, write_tiny_gemma3])
def test_feed_forwards_that_are_no_plain_addition_are_left_alone(writer, toolchain, tmp_path: Path) -> None:
    """Experts have no one ffn_down; gemma3 normalizes what it adds."""
    engine, mender = opened(toolchain, writer(tmp_path / "tiny.gguf"))
    with engine:
        found, tensors = mender.heal((1,))
        assert not tensors
        assert found.after == found.before
        assert found.note.startswith("no ffn_down adds to the residual stream by itself")


def test_first_layer_has_nothing_before_it_to_repair(toolchain, tmp_path: Path) -> None:
    engine, mender = opened(toolchain, write_tiny_llama(tmp_path / "tiny.gguf", n_layer=4))
    with engine:
        found, tensors = mender.heal((0,))
        assert not tensors
        assert found.note.startswith("no layer stays before the cut")
