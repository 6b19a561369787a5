"""A model without layers beats one with all only on windows that chose neither, and leaves the engine as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lwq.bits.confirmation import halves
from lwq.engine.engine import Engine
from lwq.layers.lean import Lean, Weighing, verdict
from lwq.metrics.arrays import Tokens
from lwq.metrics.values import Estimate
from lwq.record.prune import HealedSet
from tests.tiny_models import write_tiny_llama, write_tiny_text

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def engine(toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    model = write_tiny_llama(tmp_path_factory.mktemp("lean") / "tiny.gguf", n_layer=5)
    with Engine(toolchain, model, n_ctx=64, n_threads=1) as found:
        yield found


@pytest.fixture(scope="module")
def text(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    path = write_tiny_text(tmp_path_factory.mktemp("text") / "tiny.txt", n_words=400)
    windows = engine.cut(path.read_bytes().decode())
    assert len(windows) >= 16
    return windows[:17]


def candidate(*layers: int) -> Lean:
    nothing = Estimate(value=0.0, unit="nats")
    healed = HealedSet(layers=layers, file="", before=nothing, after=nothing, gain=nothing, tensors=(), note="")
    return Lean(healed=healed, types={}, n_bytes=1, predicted=0.0)


def weighing(engine: Engine, *missing: int) -> Weighing:
    """Against a stand-in for the whole model's allocation: the model without these layers, which is no better."""

    def put_whole() -> None:
        for layer in missing:
            engine.skip_layer(layer)

    return Weighing(
        engine=engine,
        importance={},
        put_whole=put_whole if missing else None,
        repairs=lambda lean: {},
        on_done=lambda: None,
    )


def kld(engine: Engine, windows: Tokens, *layers: int) -> float:
    engine.restore()
    engine.set_windows(windows)
    for layer in layers:
        engine.skip_layer(layer)
    found = engine.score().mean_kld
    engine.restore()
    return found


def test_what_loses_fewer_layers_is_confirmed_on_the_second_half(engine: Engine, text: Tokens) -> None:
    best, gap = weighing(engine, 1, 2, 3).weigh([candidate(2), candidate(2, 3)], text, 4, 8)
    choosing, confirming = halves(text)
    assert best.healed.layers == (2,)
    assert best.scores
    assert len(best.scores.kld) == 4
    assert gap
    assert gap.is_lower
    assert gap.confirmation
    assert gap.n_windows == 8
    assert not engine._swapped
    assert gap.quotient == pytest.approx(kld(engine, confirming, 2) / kld(engine, confirming, 1, 2, 3), rel=1e-6)
    told = verdict(best, gap, 2, "the allocation")
    assert told.startswith(
        "Pruning pays here: on 8 windows of the selection text that nothing was chosen by, the KLD of"
    )
    assert not set(map(bytes, confirming)) & set(map(bytes, choosing))


def test_what_is_behind_is_not_scored_again_and_every_layer_stays(engine: Engine, text: Tokens) -> None:
    best, gap = weighing(engine, 2).weigh([candidate(1, 2, 3)], text, 4, 8)
    assert gap
    assert not gap.is_lower
    assert gap.confirmation is None
    assert len(engine.windows) == 4
    assert verdict(best, gap, 1, "the allocation").startswith("Every layer stays: on the ")


def test_short_texts_and_budgets_without_a_whole_model_confirm_nothing(engine: Engine, text: Tokens) -> None:
    best, gap = weighing(engine, 1, 2, 3).weigh([candidate(2)], text[:9], 4, 8)
    assert gap
    assert gap.confirmation is None
    assert "(not confirmed on others)" in verdict(best, gap, 1, "the allocation")
    best, gap = weighing(engine).weigh([candidate(2)], text, 4, 8)
    assert gap is None
    assert best.scores
    assert best.scores.kld.shape == (4, engine.n_scored)
