"""Scores computed where the logits lie are those computed from all logits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lwq.bits.mixes import Mixer
from lwq.engine import judge
from lwq.engine.engine import Engine
from lwq.engine.judge import Judge
from lwq.llama.toolchain import Toolchain
from lwq.metrics.divergence import Scores
from tests.engine.test_engine import opened
from tests.tiny_models import write_tiny_llama

pytestmark = pytest.mark.tools


@pytest.fixture
def engine(toolchain: Toolchain, tmp_path: Path) -> Iterator[Engine]:
    """An engine that has a judge, on any device."""
    with opened(toolchain, write_tiny_llama(tmp_path / "tiny.gguf"), n_windows=3) as found:
        found.score()
        if not found._judge:
            appoint(found)
        yield found


def appoint(engine: Engine) -> None:
    assert engine.graph
    engine._judge = Judge(engine.ggml, engine.graph.result(), engine.n_threads)
    assert engine._judge.is_able()
    for w, logits in enumerate(engine._base):
        engine._judge.add(logits, engine._host_scores(w, logits)[1], engine._following(w))


def on_host(engine: Engine, *changed: str) -> Scores:
    kept, engine._judge = engine._judge, None
    scores = engine.score(*changed)
    engine._judge = kept
    return scores


@pytest.mark.parametrize("ggml_type", ["q8_0", "q4_0", "q2_K"])
@pytest.mark.parametrize("name", ["token_embd.weight", "blk.0.attn_q.weight", "blk.3.ffn_down.weight"])
def test_scores_are_those_of_all_logits(ggml_type: str, name: str, engine: Engine) -> None:
    engine.swap(name, ggml_type, Mixer(engine, {}).stored(name, ggml_type))
    there, here = engine.score(name), on_host(engine, name)
    np.testing.assert_allclose(there.kld, here.kld, rtol=2e-3, atol=1e-9)
    np.testing.assert_allclose(there.nll, here.nll, rtol=0, atol=2e-6)
    assert there.mean_kld == pytest.approx(here.mean_kld, rel=2e-4)
    engine.restore(name)
    assert not engine.score().kld.any()


def test_large_damage_keeps_its_digits(engine: Engine) -> None:
    names = engine.skip_layer(1)
    tensor = engine.header.find("output_norm.weight")[1]
    engine.swap("output_norm.weight", "f32", (np.full(tensor.ne[0], 40.0, np.float32)).view(np.uint8))
    there, here = engine.score(*names, "output_norm.weight"), on_host(engine, *names, "output_norm.weight")
    assert here.mean_kld > 1
    np.testing.assert_allclose(there.kld, here.kld, rtol=1e-4)
    np.testing.assert_allclose(there.nll, here.nll, rtol=1e-5)
    engine.restore()


def test_logits_that_do_not_fit_are_sent_each_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "blk.1.attn_v.weight"
    engine.swap(name, "q4_0", Mixer(engine, {}).stored(name, "q4_0"))
    kept = engine.score(name)
    monkeypatch.setattr(judge, "_KEPT_BYTES", engine._base[0].nbytes)
    assert engine._judge
    engine._judge.free()
    appoint(engine)
    again = engine.score(name)
    assert np.array_equal(kept.kld, again.kld)
    assert np.array_equal(kept.nll, again.nll)
    engine.restore()
