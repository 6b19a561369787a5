"""Layers taken out in process: what is measured is the identity, and sets are found as brute force finds them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.errors import ModelError
from lwq.layers.cuts import Cuts, grow
from lwq.store.pieces import Pieces
from tests.tiny_models import write_tiny_gemma3, write_tiny_llama, write_tiny_moe, write_tiny_text

pytestmark = pytest.mark.tools
N_LAYER = 6


@pytest.fixture(scope="module")
def engine(toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("cuts")
    model = write_tiny_llama(folder / "tiny.gguf", n_layer=N_LAYER)
    with Engine(toolchain, model, n_ctx=128, n_threads=1) as found:
        text = write_tiny_text(folder / "tiny.txt", n_words=600).read_bytes().decode()
        found.set_windows(spread_over(found.cut(text), 2))
        yield found
        assert not found._swapped


def cuts_of(engine: Engine, folder: Path) -> Cuts:
    return Cuts(engine=engine, pieces=Pieces(folder / "pieces.jsonl"), text="calibration")


def test_identity_is_proved_bit_for_bit_on_every_layer(engine: Engine, tmp_path: Path) -> None:
    cuts_of(engine, tmp_path).check(range(N_LAYER))


@pytest.mark.parametrize("writer", [write_tiny_gemma3, write_tiny_moe])
def test_identity_is_proved_on_other_architectures(writer, toolchain, tmp_path: Path) -> None:
    model = writer(tmp_path / "tiny.gguf")
    with Engine(toolchain, model, n_ctx=64, n_threads=1) as engine:
        engine.set_windows(engine.cut(write_tiny_text(tmp_path / "t.txt", n_words=300).read_bytes().decode())[:1])
        cuts_of(engine, tmp_path).check(range(engine.header.n_layer))


def test_layer_that_zeros_do_not_remove_is_refused(engine: Engine, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("lwq.engine.swapping.ENDS", {"attention": ("attn_output",), "ffn": ()})
    with pytest.raises(ModelError, match="layer 1 .* cannot be left out"):
        cuts_of(engine, tmp_path).check([1])


def test_kept_windows_score_as_fresh_ones(engine: Engine, tmp_path: Path, monkeypatch) -> None:
    first = cuts_of(engine, tmp_path).scores((1, 3), range(2))
    with monkeypatch.context() as patched:
        patched.delattr(Engine, "score")  # a window that is scored again fails
        again = cuts_of(engine, tmp_path).scores((1, 3), range(2))
    assert np.array_equal(first.kld, again.kld)
    for layer in (1, 3):
        engine.skip_layer(layer)
    assert first.mean_kld == pytest.approx(engine.score().kld.mean(), rel=0.02)  # quarters differ by a token
    engine.restore()


def test_parts_of_a_layer_are_measured_alone(engine: Engine, tmp_path: Path) -> None:
    cuts = cuts_of(engine, tmp_path)
    parts = (("attention", "ffn"), ("attention",), ("ffn",))
    whole, attention, ffn = (cuts.scores((2,), [0], p).mean_kld for p in parts)
    assert len({whole, attention, ffn}) == 3


def test_sets_of_one_and_runs_are_those_of_brute_force(engine: Engine, tmp_path: Path) -> None:
    cuts, candidates = cuts_of(engine, tmp_path), range(1, N_LAYER - 1)

    def least(sets: list[tuple[int, ...]]) -> tuple[int, ...]:
        return min(sets, key=lambda s: cuts.scores(s, range(2)).mean_kld)

    assert grow(cuts, candidates, 1)[0].layers == least([(c,) for c in candidates])
    runs = [(c, c + 1) for c in candidates if c + 1 in candidates]
    assert grow(cuts, candidates, 2, contiguous=True)[1].layers == least(runs)


def test_wide_beam_finds_the_best_pair(engine: Engine, tmp_path: Path) -> None:
    cuts, candidates = cuts_of(engine, tmp_path), range(1, N_LAYER - 1)
    pairs = list(combinations(candidates, 2))
    best = min(pairs, key=lambda s: cuts.scores(s, range(2)).mean_kld)
    assert grow(cuts, candidates, 2, beam=len(candidates))[1].layers == best


def test_no_more_layers_go_than_may(engine: Engine, tmp_path: Path) -> None:
    assert [len(r.layers) for r in grow(cuts_of(engine, tmp_path), [1, 2], 5)] == [1, 2]
    assert grow(cuts_of(engine, tmp_path), [], 2) == []


def test_suggested_sets_race_beside_the_grown_ones(engine: Engine, tmp_path: Path) -> None:
    cuts, candidates = cuts_of(engine, tmp_path), range(1, N_LAYER - 1)
    pairs = list(combinations(candidates, 2))
    best = min(pairs, key=lambda s: cuts.scores(s, range(2)).mean_kld)
    found = grow(cuts, candidates, 2, suggested=lambda size: [best] if size == 2 else [])
    assert found[1].layers == best
    worst = max(pairs, key=lambda s: cuts.scores(s, range(2)).mean_kld)
    greedy = grow(cuts, candidates, 2)[1]
    assert grow(cuts, candidates, 2, suggested=lambda size: [worst] if size == 2 else [])[1].layers == greedy.layers
