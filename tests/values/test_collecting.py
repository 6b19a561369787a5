"""What is summed is what enters each multiplication, whatever the number of passes and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lwq.engine.activations import activation_sources
from lwq.engine.replay import Replay
from lwq.engine.session import spread_over
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes, Floats, Tokens
from lwq.values import collecting
from lwq.values.collecting import N_HELD, N_HELD_EXPERTS, Collector, segments
from lwq.values.grams import Gathered
from tests.engine.test_engine import N_CTX, WRITERS
from tests.tiny_models import (
    N_EXPERT,
    write_tiny_deepseek2,
    write_tiny_lfm2,
    write_tiny_llama,
    write_tiny_moe,
    write_tiny_text,
)

pytestmark = pytest.mark.tools
N_WINDOWS, N_HELD_WINDOWS = 3, 2
ARCHITECTURES = {**WRITERS, "deepseek2": write_tiny_deepseek2}


def names_of(session: Replay) -> list[str]:
    return [t.name for t in session.header.tensors if len(t.ne) > 1]


def windows_of(session: Replay, folder: Path) -> Tokens:
    text = write_tiny_text(folder / "text.txt", n_words=600)
    return spread_over(session.cut(text.read_text()), N_WINDOWS + N_HELD_WINDOWS)


def collected(session: Replay, windows: Tokens, n_done: list[int] | None = None) -> dict[str, Gathered]:
    """Everything, by the name of the place, in as many passes as memory is said to ask for."""
    done = n_done if n_done is not None else []
    parts = segments(session, names_of(session))
    collector = Collector(session, windows[:N_WINDOWS], windows[N_WINDOWS:])
    found: dict[str, Gathered] = {}
    for i, part in enumerate(parts):
        then = parts[i + 1] if i + 1 < len(parts) else ()
        found |= collector.collect(part, then, lambda: done.append(1))
    assert len(done) == len(parts) * len(windows)
    return found


class Model:
    """An open model, its windows, and what was collected of it in one pass."""

    def __init__(self, session: Replay, folder: Path) -> None:
        self.session, self.windows = session, windows_of(session, folder)
        session.find_graph(self.windows)
        self.parts = segments(session, names_of(session))
        self.found = collected(session, self.windows)


@contextmanager
def model_of(write: Callable[..., Path], toolchain: Toolchain, folder: Path, n_threads: int = 1) -> Iterator[Model]:
    path = write(folder / "tiny.gguf")
    with Replay(toolchain, path, n_ctx=N_CTX, n_threads=n_threads, scored=range(N_CTX - 1)) as session:
        yield Model(session, folder)


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def model(request: Any, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with model_of(
        dict(WRITERS, deepseek2=write_tiny_deepseek2)[request.param], toolchain, tmp_path_factory.mktemp("collecting")
    ) as found:
        yield found


@pytest.fixture(scope="module")
def moe(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with model_of(write_tiny_moe, toolchain, tmp_path_factory.mktemp("collecting")) as found:
        yield found


def observed(model: Model, windows: Tokens) -> dict[str, dict[int, Floats]]:
    """Every token that enters the multiplication by each tensor, by matrix, as llama.cpp computes it."""
    session = model.session
    found = activation_sources(session, frozenset(names_of(session)))
    caught: dict[int, list[Bytes]] = {}

    def keep(address: int, data: Bytes) -> None:
        caught.setdefault(address, []).append(data.reshape(session.ggml.shape(address)[-1], -1))

    for tokens in windows:
        session.observe(tokens, {a for source in found.values() for a in source.addresses}, keep)
    return {
        name: dict(source.activations(caught, session.ggml.shape(source.node)[0]).by_expert)
        for name, source in found.items()
    }


def test_every_tensor_that_multiplies_has_one_place(model: Model) -> None:
    assert model.session.graph
    names = [name for name in names_of(model.session) if name in model.session.graph.weights]
    read = [t for part in model.parts for place in part for t in place.tensors]
    assert len(read) == len(set(read))
    untied = "output.weight" in names
    assert set(names) - set(read) == ({"token_embd.weight"} if untied else set())
    assert set(model.found) == {place.name for part in model.parts for place in part}


def test_tensors_that_read_the_same_share_a_place(moe: Model) -> None:
    shared = {place.tensors for part in moe.parts for place in part}
    assert tuple(sorted(f"blk.1.attn_{x}.weight" for x in "qkv")) in shared
    assert ("blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight") in shared


def test_matrices_are_those_of_what_is_observed(model: Model) -> None:
    """Every token of every window: the whole of each window is scored."""
    seen = observed(model, model.windows[:N_WINDOWS])
    for part in model.parts:
        for place in part:
            grams = model.found[place.name].grams
            tokens = seen[place.tensors[-1]]
            assert set(grams) == set(tokens)
            for expert, gram in grams.items():
                x = tokens[expert].astype(np.float64)
                exact = x.T @ x
                sizes = np.sqrt(np.diagonal(exact))
                assert gram.n_tokens == len(x)
                np.testing.assert_allclose(gram.diagonal * len(x), np.diagonal(exact), rtol=1e-5)
                cosines = (exact / np.outer(sizes, sizes))[np.tril_indices(len(exact), -1)]
                np.testing.assert_allclose(gram.correlations, cosines, atol=2**-12 + 1e-5)


def test_held_tokens_are_of_the_held_windows(model: Model) -> None:
    others = observed(model, model.windows[N_WINDOWS:])
    for part in model.parts:
        for place in part:
            held, seen = model.found[place.name].held, others[place.tensors[0]]
            assert set(held) <= set(seen)
            assert len(held) == min(N_HELD_EXPERTS, len(seen))
            for expert, tokens in held.items():
                assert 0 < len(tokens) <= N_HELD * N_HELD_WINDOWS
                every = {row.tobytes() for row in seen[expert]}
                assert {row.tobytes() for row in tokens} <= every
                if place.source.chosen is None:
                    assert len(tokens) == N_HELD * N_HELD_WINDOWS


def test_held_tokens_are_not_summed(moe: Model) -> None:
    alone = collected(moe.session, np.concatenate((moe.windows[:N_WINDOWS], moe.windows[:1], moe.windows[:1])))
    for name, gathered in moe.found.items():
        for expert, gram in gathered.grams.items():
            assert np.array_equal(alone[name].grams[expert].diagonal, gram.diagonal)
            assert np.array_equal(alone[name].grams[expert].correlations, gram.correlations)
        assert any(not np.array_equal(alone[name].held.get(e), x) for e, x in gathered.held.items())


def test_experts_share_the_tokens_that_chose_them(moe: Model) -> None:
    for name, gathered in moe.found.items():
        n_tokens = sum(gram.n_tokens for gram in gathered.grams.values())
        each = N_CTX - 1 if name.startswith("blk.2.ffn") or name == "output.weight" else N_CTX  # those scored
        assert n_tokens == N_WINDOWS * each * (2 if "exps" in name else 1), name
        assert set(gathered.grams) <= set(range(N_EXPERT))


def assert_same(found: dict[str, Gathered], wanted: dict[str, Gathered]) -> None:
    assert set(found) == set(wanted)
    for name, place in wanted.items():
        ours = found[name]
        assert list(ours.grams) == list(place.grams)
        assert list(ours.held) == list(place.held)
        for expert, gram in place.grams.items():
            assert ours.grams[expert].n_tokens == gram.n_tokens
            assert np.array_equal(ours.grams[expert].diagonal, gram.diagonal), name
            assert np.array_equal(ours.grams[expert].correlations, gram.correlations), name
        for expert, tokens in place.held.items():
            assert np.array_equal(ours.held[expert], tokens), name


def test_any_number_of_passes_finds_the_same_to_the_last_bit(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """One matrix at a time, and about three."""
    for n_bytes in (1, 3 * 4 * 256**2):
        monkeypatch.setattr(collecting, "MATRIX_BYTES", n_bytes)
        parts = segments(model.session, names_of(model.session))
        assert len(parts) > len(model.parts) == 1
        if n_bytes == 1:
            assert all(len(part) == 1 for part in parts)
        assert_same(collected(model.session, model.windows), model.found)


@pytest.mark.parametrize("n_lost", [1, 2, 3])
def test_parts_before_the_first_boundary_are_computed_whole(
    n_lost: int, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on devices, where early boundaries are not sound."""

    def write(path: Path) -> Path:
        return write_tiny_llama(path, n_layer=6)

    with model_of(write, toolchain, tmp_path) as found:
        ends = found.session.graph.boundaries
        for layer in sorted(ends)[:n_lost]:
            del ends[layer]
        monkeypatch.setattr(collecting, "MATRIX_BYTES", 1)
        assert_same(collected(found.session, found.windows), found.found)


def test_each_head_of_a_tensor_with_a_matrix_for_each_has_its_own(toolchain: Toolchain, tmp_path: Path) -> None:
    """What enters ``attn_k_b`` is a view of ``q`` that leaves out what is rotated."""
    with model_of(write_tiny_deepseek2, toolchain, tmp_path) as found:
        session = found.session
        node = next(n for n in session.graph.nodes if n.name == "q-1" and session.ggml.shape(n.address)[0] == 8 * 96)
        x = []
        for tokens in found.windows[:N_WINDOWS]:
            session.observe(tokens, (node.address,), lambda _, data: x.append(data.view(np.float32)))
        q = np.concatenate([part.reshape(N_CTX, 8, 96) for part in x])[:, :, :64]
        grams = found.found["blk.1.attn_k_b.weight"].grams
        assert list(grams) == list(range(8))
        for head, gram in grams.items():
            assert gram.n_tokens == N_WINDOWS * N_CTX
            np.testing.assert_allclose(gram.diagonal, (q[:, head].astype(np.float64) ** 2).mean(axis=0), rtol=1e-5)


def test_architecture_of_two_kinds_of_layers_is_passed_in_pieces_too(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with model_of(write_tiny_lfm2, toolchain, tmp_path) as found:
        monkeypatch.setattr(collecting, "MATRIX_BYTES", 1)
        assert_same(collected(found.session, found.windows), found.found)


def test_any_number_of_threads_finds_the_same_to_the_last_bit(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path) -> Path:
        return write_tiny_llama(path, n_layer=2, n_ff=768)  # several blocks of columns

    with model_of(write, toolchain, tmp_path) as one, model_of(write, toolchain, tmp_path, 3) as three:
        assert_same(three.found, one.found)
