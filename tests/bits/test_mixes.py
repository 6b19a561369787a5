"""Mixes in process: small windows keep half of their tokens scored; each rounding puts its own bytes in place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lwq.bits.mixes import Mixer, probed
from lwq.engine.activations import activation_sources
from lwq.engine.engine import Engine
from lwq.engine.ggml import Tensor
from lwq.gguf.data import read_tensor
from lwq.gguf.types import GGML_TYPES
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes, Floats
from lwq.values.collecting import Collector, segments
from lwq.values.compensated import Compensated
from lwq.values.grams import Grams, Reader, write_gathered
from tests.engine.test_engine import opened
from tests.tiny_models import write_tiny_llama

pytestmark = pytest.mark.tools
FIRST, SECOND, LOOKED_UP = "blk.0.attn_q.weight", "blk.1.ffn_up.weight", "token_embd.weight"


@pytest.mark.parametrize(("n_ctx", "n_skipped"), [(32, 16), (64, 32), (128, 64), (512, 64)])
def test_small_windows_keep_half_of_their_tokens_scored(n_ctx: int, n_skipped: int) -> None:
    assert list(probed(n_ctx)) == list(range(n_skipped, n_ctx - 1, 2))


# compensated values


@pytest.fixture
def engine(toolchain: Toolchain, tmp_path: Path) -> Iterator[Engine]:
    model = write_tiny_llama(tmp_path / "tiny.gguf", n_layer=2, tied=False)
    with opened(toolchain, model, n_windows=8) as found:
        yield found


@pytest.fixture
def importance(engine: Engine) -> dict[str, Floats]:
    rng = np.random.default_rng(3)
    return {t.name: rng.lognormal(size=(1, t.ne[0])).astype(np.float32) for t in engine.header.tensors if len(t.ne) > 1}


@pytest.fixture
def compensated(engine: Engine, importance: dict[str, Floats], tmp_path: Path) -> Compensated:
    """With Gram matrices of two windows, of those tensors that multiply."""
    names = [t.name for t in engine.header.tensors if len(t.ne) > 1]
    (part,) = segments(engine, names)
    with (tmp_path / "grams.npz").open("wb") as file:
        collector = Collector(engine, engine.windows[:6], engine.windows[6:])
        write_gathered(file, collector.collect(part, (), lambda: None))
    readers = [Reader(tensor=t, file=0, place=place.name) for place in part for t in place.tensors]
    assert LOOKED_UP not in activation_sources(engine, frozenset(names))
    grams = Grams([tmp_path / "grams.npz"], readers)
    return Compensated(engine.ggml, engine.header, grams, importance, tmp_path / "values", 1)


@pytest.fixture
def mixer(engine: Engine, importance: dict[str, Floats], compensated: Compensated) -> Mixer:
    return Mixer(engine, importance, compensated=compensated)


def in_place(engine: Engine, name: str) -> Bytes:
    """The bytes that the graph multiplies by now."""
    assert engine.graph
    (address,) = (s.address for s in engine._swapped[name].replacements)
    return engine.ggml.read(address)


def plain(engine: Engine, name: str, ggml_type: str, row: Floats | None) -> Bytes:
    return engine.ggml.quantize(read_tensor(engine.header, name), ggml_type, row)


def test_each_rounding_has_its_own_bytes(mixer: Mixer, engine: Engine, importance, compensated: Compensated) -> None:
    bytes_of = {r: mixer.stored(FIRST, "q4_K", r) for r in ("weighted", "unweighted", "compensated")}
    assert np.array_equal(bytes_of["weighted"], plain(engine, FIRST, "q4_K", importance[FIRST][0]))
    assert np.array_equal(bytes_of["unweighted"], plain(engine, FIRST, "q4_K", None))
    assert np.array_equal(bytes_of["compensated"], compensated.stored(FIRST, "q4_K"))
    assert len({data.tobytes() for data in bytes_of.values()}) == 3
    assert mixer.usual == "compensated"
    assert np.array_equal(mixer.stored(FIRST, "q4_K"), bytes_of["compensated"])


def test_tensor_that_keeps_its_stock_values_has_them(mixer: Mixer, engine, importance, compensated) -> None:
    assert compensated.stored(LOOKED_UP, "q4_K") is None
    stock = plain(engine, LOOKED_UP, "q4_K", importance[LOOKED_UP][0])
    assert np.array_equal(mixer.stored(LOOKED_UP, "q4_K"), stock)


def test_without_compensated_values_the_usual_rounding_is_weighted(engine: Engine, importance) -> None:
    mixer = Mixer(engine, importance)
    assert mixer.usual == "weighted"
    assert np.array_equal(mixer.stored(FIRST, "q4_K"), plain(engine, FIRST, "q4_K", importance[FIRST][0]))


def test_mix_is_put_in_place_with_its_rounding_and_the_next_replaces_it(mixer: Mixer, engine: Engine) -> None:
    types, scores = {FIRST: "q3_K", SECOND: "q4_K"}, {}
    for rounding in (None, "weighted", "compensated"):
        mixer.put(types, rounding=rounding)
        how = rounding or "compensated"
        assert mixer.now == {FIRST: ("q3_K", how), SECOND: ("q4_K", how)}
        for name, ggml_type in types.items():
            (address,) = (s.address for s in engine._swapped[name].replacements)
            assert Tensor.from_address(address).type == GGML_TYPES[ggml_type][0]
            assert in_place(engine, name).tobytes() == mixer.stored(name, ggml_type, how).tobytes()
        scores[rounding] = engine.score().kld
    assert np.array_equal(scores[None], scores["compensated"])
    assert not np.array_equal(scores[None], scores["weighted"])
    mixer.put({})
    assert not engine.score().kld.any()


def test_unweighted_tensors_of_a_mix_are_so_whatever_the_rounding(mixer: Mixer, engine: Engine) -> None:
    mixer.put({FIRST: "q4_K", SECOND: "q4_K"}, unweighted=frozenset({SECOND}), rounding="weighted")
    assert mixer.now == {FIRST: ("q4_K", "weighted"), SECOND: ("q4_K", "unweighted")}
    assert in_place(engine, SECOND).tobytes() == plain(engine, SECOND, "q4_K", None).tobytes()


def test_probe_puts_back_the_rounding_that_was_there(mixer: Mixer, engine: Engine) -> None:
    mixer.put({FIRST: "q4_K"}, rounding="weighted")
    before = in_place(engine, FIRST)
    assert mixer.probe(FIRST, "q2_K").mean_kld > 0
    assert np.array_equal(in_place(engine, FIRST), before)
    assert mixer.probe(FIRST, "q4_K").mean_kld > 0
    assert mixer.now == {FIRST: ("q4_K", "weighted")}
    assert np.array_equal(in_place(engine, FIRST), before)


def test_compensated_values_lower_the_damage(mixer: Mixer, engine: Engine) -> None:
    """Importance is random here, so that weighted values are poor; those that know the Gram matrix are not."""
    names = [t.name for t in engine.header.tensors if t.layer is not None and len(t.ne) > 1]
    damage = {}
    for rounding in ("weighted", "compensated"):
        mixer.put(dict.fromkeys(names, "q3_K"), rounding=rounding)
        damage[rounding] = engine.score().mean_kld
    assert damage["compensated"] < damage["weighted"]
