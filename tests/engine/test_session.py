"""A model whose layers lie partly on a device, or wholly on the CPU of a build that has devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lwq.bits.mixes import Mixer
from lwq.llama.devices import Device
from lwq.llama.toolchain import Toolchain
from tests.engine.test_engine import opened, quantizable, same, short, whole
from tests.tiny_models import write_tiny_llama

pytestmark = pytest.mark.tools
SPARE = 3 << 30


@pytest.fixture
def second(toolchain: Toolchain) -> Toolchain:
    if toolchain.device.is_cpu:
        pytest.skip("needs a second device (`make test-device`)")
    return toolchain


def with_room_for(toolchain: Toolchain, n_layers: int, model: Path) -> Toolchain:
    """The toolchain as if its device had room for so many layers of the model, and what is kept beside them."""
    each = 1.35 * model.stat().st_size / (4 + 1)
    return replace(toolchain, device=replace(toolchain.device, sizes=(SPARE + int(each * (n_layers + 0.5)),)))


@pytest.mark.parametrize("n_layers", [0, 1, 2, 4])
def test_layers_that_do_not_fit_are_computed_on_the_cpu(n_layers: int, second: Toolchain, tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    with opened(second, model) as engine:
        everything = whole(engine)
    with opened(with_room_for(second, n_layers, model), model) as engine:
        assert engine.graph
        homes = {engine.ggml.device_of(a) for of_name in engine.graph.weights.values() for a in of_name}
        assert len(homes) == (1 if n_layers == 0 else 2)
        assert set(engine.graph.boundaries) == {-1, 0, 1, 2, 3}
        before = whole(engine)
        for some, all_there in zip(before, everything, strict=True):
            np.testing.assert_allclose(some, all_there, atol=2e-2)
        assert all(same(short(engine, layer), before) for layer in range(5))
        mixer = Mixer(engine, {})
        for name in quantizable(engine):
            for ggml_type in ("q4_0", "iq4_nl", "q4_0"):
                engine.swap(name, ggml_type, mixer.stored(name, ggml_type))
                changed = short(engine, engine.place(name))
                assert not same(changed, before)
                assert same(changed, whole(engine)), (name, ggml_type)
            engine.restore(name)
            assert same(short(engine, engine.place(name)), before), name


def test_cpu_of_a_build_with_devices_gives_the_cpus_logits(second: Toolchain, tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    with opened(replace(second, device=Device(names=("none",))), model) as engine:
        assert engine.graph
        assert len({engine.ggml.device_of(a) for of_name in engine.graph.weights.values() for a in of_name}) == 1
        assert -1 in engine.graph.boundaries
        assert all(np.isfinite(logits).all() for logits in whole(engine))
