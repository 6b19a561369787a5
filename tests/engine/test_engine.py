"""A model in process: its figures are llama-perplexity's, and what is swapped comes back bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from lwq.bits.mixes import Mixer
from lwq.engine import stored
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.errors import ModelError
from lwq.gguf.data import read_tensor
from lwq.gguf.header import read_header
from lwq.gguf.types import GGML_TYPES, fallback_type
from lwq.llama import tools
from lwq.llama.requests import QuantizeRequest, TextRequest, Window
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Floats
from lwq.recipe.constraints import TYPE_SETS
from tests import tiny_models
from tests.tiny_models import write_tiny_llama, write_tiny_text

pytestmark = pytest.mark.tools
N_CTX = 128
SOME = "attn_output.weight"
WRITERS: dict[str, Callable[[Path], Path]] = {
    "llama": write_tiny_llama,
    "moe": tiny_models.write_tiny_moe,
    "phi3": tiny_models.write_tiny_phi3,
    "gemma3": tiny_models.write_tiny_gemma3,
    "deci": tiny_models.write_tiny_deci,
}
Open = Callable[..., Engine]


def opened(toolchain: Toolchain, model: Path, *, n_windows: int = 2, n_ctx: int = N_CTX, n_threads: int = 1) -> Engine:
    """An engine with its windows set, on one thread (other processes are at work while tests run)."""
    text = write_tiny_text(model.with_suffix(".txt"), n_words=600)
    engine = Engine(toolchain, model, n_ctx=n_ctx, n_threads=n_threads)
    try:
        engine.set_windows(spread_over(engine.cut(text.read_bytes().decode()), n_windows))
    except ModelError:
        engine.close()  # a process that keeps memory on a device keeps its server from all others
        raise
    return engine


@pytest.fixture(scope="module", params=list(WRITERS))
def engine(request: pytest.FixtureRequest, toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    model = WRITERS[request.param](tmp_path_factory.mktemp(request.param) / "tiny.gguf")
    with opened(toolchain, model) as found:
        yield found
        assert not found._swapped


@pytest.fixture
def llama(toolchain: Toolchain, tmp_path: Path) -> Iterator[Engine]:
    with opened(toolchain, write_tiny_llama(tmp_path / "tiny.gguf")) as found:
        yield found


def whole(engine: Engine) -> list[Floats]:
    """Logits of every window, all layers computed by llama.cpp itself."""
    return [engine.logits(w, -1).copy() for w in range(len(engine.windows))]


def short(engine: Engine, first_layer: int) -> list[Floats]:
    """Logits of every window, replayed from the last boundary below that layer."""
    return [engine.logits(w, first_layer).copy() for w in range(len(engine.windows))]


def same(a: list[Floats], b: list[Floats]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def quantizable(engine: Engine) -> list[str]:
    """The matrices of the model without its routers, as llama-quantize picks them."""
    found = [t.name for t in engine.header.tensors if len(t.ne) > 1 and "ffn_gate_inp" not in t.name]
    return sorted(found, key=lambda name: (engine.place(name), name))


# what the tools say


@pytest.mark.parametrize("n_windows", [4, 8])
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_perplexity_is_the_decimals_that_llama_perplexity_prints(name, n_windows, toolchain, tmp_path: Path) -> None:
    """It computes several windows at once, in pieces of 512 tokens: those of 3 windows (170 tokens of each) are no
    whole tiles of the attention kernel, and the F16 sums in it are then rounded otherwise."""
    model = WRITERS[name](tmp_path / "tiny.gguf")
    with opened(toolchain, model, n_windows=1000) as engine:
        engine.set_windows(engine.windows[:n_windows])
        scores = engine.score()
    printed = tools.perplexity_base(
        toolchain,
        TextRequest(
            model=model.name,
            text="tiny.txt",
            window=Window(n_ctx=N_CTX, n_chunks=n_windows),
            output="tiny.logits",
        ),
        cwd=tmp_path,
        threads=1,
    ).perplexity
    assert f"{scores.ppl:.4f}" == f"{printed.ppl.value:.4f}"
    so_far = np.exp(np.cumsum(scores.nll.mean(axis=1)) / np.arange(1, n_windows + 1))
    assert [f"{ppl:.4f}" for ppl in so_far] == [f"{ppl:.4f}" for ppl in printed.chunk_ppl]


@pytest.mark.parametrize("ending", ["", "\n", "\n\n"])
def test_windows_are_those_that_llama_perplexity_cuts_to_the_last_token(ending: str, toolchain, tmp_path) -> None:
    """It drops one newline at the end of a file, which matters where that would have filled a window."""
    model = write_tiny_llama(tmp_path / "tiny.gguf", n_layer=1)
    text = "bala lemu\r\n" * 400
    with Engine(toolchain, model, n_ctx=64, n_threads=1) as engine:
        while len(engine.cut(text + "x")) == len(engine.cut(text + "xx")):
            text += "x"
        raw = text.encode() + b"x" + ending.encode()
        n_windows = len(engine.cut(raw.decode()))
    (tmp_path / "text.txt").write_bytes(raw)
    printed = tools.perplexity_base(
        toolchain,
        TextRequest(
            model=model.name, text="text.txt", window=Window(n_ctx=64, n_chunks=None), output="tiny.logits"
        ),
        cwd=tmp_path, threads=1,
    ).perplexity  # fmt: skip
    assert n_windows == printed.n_chunks


def test_skipped_layer_is_the_file_that_llama_quantize_prunes(toolchain: Toolchain, tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    request = QuantizeRequest(model="tiny.gguf", ftype="F16", prune_layers=(1,), output="pruned.gguf")
    tools.quantize(toolchain, request, cwd=tmp_path, threads=1)
    assert read_header(tmp_path / "pruned.gguf").n_layer == 3
    with opened(toolchain, model) as engine, opened(toolchain, tmp_path / "pruned.gguf") as pruned:
        before = whole(engine)
        engine.skip_layer(1)
        skipped = short(engine, 1)
        assert not same(skipped, before)
        # the very same: F16 weights are copied as they are, and x + 0 is x
        assert same(skipped, whole(pruned))
        assert same(whole(engine), whole(pruned))
        engine.restore()
        assert same(whole(engine), before)


# swaps


def test_swapped_tensors_come_back_bit_for_bit(engine: Engine) -> None:
    before = whole(engine)
    assert engine.graph
    boundaries = sorted(engine.graph.boundaries)
    assert boundaries == list(range(-1, engine.header.n_layer))[: len(boundaries)]
    assert len(boundaries) >= engine.header.n_layer
    mixer = Mixer(engine, {})
    for name in quantizable(engine):
        width = engine.header.find(name)[1].ne[0]
        for ggml_type in ("q8_0", fallback_type("q2_K", width)):
            engine.swap(name, ggml_type, mixer.stored(name, ggml_type))
        changed = short(engine, engine.place(name))
        assert not same(changed, before), name
        assert same(changed, whole(engine)), name
        engine.restore(name)
        assert same(whole(engine), before), name


def test_replay_from_every_boundary_is_the_whole_computation_bit_for_bit(engine: Engine) -> None:
    before = whole(engine)
    for layer in range((engine.header.n_layer or 0) + 1):
        assert same(short(engine, layer), before), layer


def test_replays_in_any_order_of_windows_and_boundaries_agree(engine: Engine) -> None:
    before = whole(engine)
    n_layer = engine.header.n_layer or 0
    for layer, w in ((n_layer, 1), (1, 0), (n_layer, 0), (2, 1), (1, 1), (n_layer, 1)):
        assert np.array_equal(engine.logits(w, layer), before[w])


@pytest.mark.parametrize("n_most", [0, 1, 2])
def test_little_memory_keeps_few_streams_and_the_same_logits(n_most: int, toolchain, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Engine, "_states_that_fit", lambda self, n_windows: n_most)
    with opened(toolchain, write_tiny_llama(tmp_path / "tiny.gguf")) as engine:
        assert engine.graph
        assert len(engine.graph.boundaries) == 5
        assert len(engine.stations) == max(1, n_most)
        before = whole(engine)
        assert all(same(short(engine, layer), before) for layer in range(5))


@pytest.mark.parametrize("n_most", [1, 9])
def test_windows_that_go_by_layer_have_the_same_scores(n_most: int, toolchain, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Engine, "_states_that_fit", lambda self, n_windows: n_most)
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    found = {}
    for by_layer in (False, True):
        monkeypatch.setattr(Engine, "goes_by_layer", lambda self, n, by_layer=by_layer: by_layer and n > 1)
        with opened(toolchain, model, n_windows=3) as engine:
            mixer, scores = Mixer(engine, {}), []
            for name in ("token_embd.weight", "blk.0.ffn_up.weight", "blk.3.attn_k.weight", "output_norm.weight"):
                ggml_type = "f32" if "norm" in name else "q4_0"
                data = np.full(engine.header.find(name)[1].ne[0], 2.0, np.float32).view(np.uint8)
                engine.swap(name, ggml_type, data if "norm" in name else mixer.stored(name, ggml_type))
                scores.append(engine.score(name))
                engine.settle()
                scores.append(engine.score(name))
                engine.restore(name)
                engine.settle()
            found[by_layer] = np.stack([np.stack([s.kld, s.nll]) for s in scores])
            assert [sorted(kept.states) for kept in engine.kept] == [sorted(engine.stations)] * 3
    assert np.array_equal(found[False], found[True])
    assert np.all(found[True][:, 0].mean(axis=(1, 2)) > 0)


def test_windows_can_be_set_anew_with_other_unscored_tokens(llama: Engine) -> None:
    before = whole(llama)
    llama.set_windows(llama.windows[::-1].copy(), scored=range(16, N_CTX - 1))
    assert llama.n_scored == N_CTX - 1 - 16
    after = whole(llama)
    # row for row the same prediction: llama.cpp computes the wanted rows of the last layer alone
    assert same([logits[N_CTX // 2 - 16 :] for logits in after[::-1]], before)
    assert all(same(short(llama, layer), after) for layer in range(5))
    assert not llama.score("output_norm.weight").kld.any()


def test_logits_are_the_same_for_any_number_of_threads(llama: Engine, toolchain: Toolchain, tmp_path: Path) -> None:
    """Threads are no part of a step's key. (One window: two spinning threads are slow on a busy machine.)"""
    llama.set_windows(llama.windows[:1])
    name = f"blk.1.{SOME}"
    data = Mixer(llama, {}).stored(name, "q4_K")
    llama.swap(name, "q4_K", data)
    with Engine(toolchain, tmp_path / "tiny.gguf", n_ctx=N_CTX, n_threads=2) as other:
        other.set_windows(llama.windows)
        other.swap(name, "q4_K", data)
        assert same(short(other, 1), short(llama, 1))
        assert same(whole(other), whole(llama))


def test_settled_engine_replays_from_the_weights_as_they_are(engine: Engine) -> None:
    first, last = f"blk.0.{SOME}", f"blk.{(engine.header.n_layer or 0) - 1}.{SOME}"
    mixer = Mixer(engine, {})
    before = whole(engine)
    engine.swap(first, "q2_K", mixer.stored(first, "q2_K"))
    engine.settle()
    settled = whole(engine)
    assert not same(settled, before)
    engine.swap(last, "q4_K", mixer.stored(last, "q4_K"))
    assert same(short(engine, engine.place(last)), whole(engine))
    engine.restore(last)
    assert same(short(engine, engine.place(last)), settled)
    engine.restore()
    engine.settle()
    assert same(short(engine, engine.place(last)), before)


def test_swapped_model_is_the_written_file(llama: Engine, toolchain: Toolchain, tmp_path: Path) -> None:
    request = QuantizeRequest(model="tiny.gguf", ftype="Q8_0", output="whole.gguf")
    tools.quantize(toolchain, request, cwd=tmp_path, threads=1)
    mixer = Mixer(llama, {})
    mixer.put({t.name: t.ggml_type for t in read_header(tmp_path / "whole.gguf").tensors if t.ggml_type == "q8_0"})
    with opened(toolchain, tmp_path / "whole.gguf") as file:
        assert same(whole(llama), whole(file))
    mixer.put({})
    assert llama.score().mean_kld == 0.0


# scores


def test_unchanged_model_scores_exactly_zero(engine: Engine) -> None:
    for changed in ((), ("output_norm.weight",), (f"blk.1.{SOME}",)):
        scores = engine.score(*changed)
        assert scores.kld.shape == (2, N_CTX // 2 - 1)
        assert not scores.kld.any()


def test_score_is_the_divergence_of_softmaxes(llama: Engine) -> None:
    base = np.stack(whole(llama)).astype(np.float64)
    name = f"blk.2.{SOME}"
    llama.swap(name, "q2_K", Mixer(llama, {}).stored(name, "q2_K"))
    changed = np.stack(whole(llama)).astype(np.float64)
    log_p = base - np.log(np.exp(base).sum(axis=-1, keepdims=True))
    log_q = changed - np.log(np.exp(changed).sum(axis=-1, keepdims=True))
    kld = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    # this sum cancels: logits of size 8 in float64 leave 1e-14 of the terms, far below both
    scores = llama.score(name)
    close = {"rtol": 1e-5, "atol": 1e-9} if llama._judge else {"rtol": 1e-9, "atol": 1e-13}
    np.testing.assert_allclose(scores.kld, kld, **close)


def test_scores_of_some_windows_are_those_of_all(llama: Engine) -> None:
    name = f"blk.2.{SOME}"
    llama.swap(name, "q2_K", Mixer(llama, {}).stored(name, "q2_K"))
    every = llama.score(name)
    assert np.array_equal(llama.score(name, windows=[1]).kld, every.kld[1:])


def test_a_larger_type_than_the_loaded_one_may_stand_there_and_the_original_comes_back(llama: Engine) -> None:
    name, before = f"blk.1.{SOME}", whole(llama)
    values = read_tensor(llama.header, name)
    llama.swap(name, "f32", llama.ggml.quantize(values, "f32", None))
    assert 0 < llama.score(name).mean_kld < 1e-6  # F16 kernels round activations too
    llama.restore(name)
    assert same(whole(llama), before)


PAIRS = [
    (a, b)
    for a, b in permutations(sorted(GGML_TYPES), 2)
    if GGML_TYPES[a][1:] == GGML_TYPES[b][1:] and {a, b} <= {*TYPE_SETS["all"], *TYPE_SETS["no-iq"], "tq1_0", "iq1_m"}
]


@pytest.mark.parametrize("width", [576, 640, 768])
def test_types_of_equal_size_never_stand_for_each_other(width: int, toolchain: Toolchain, tmp_path: Path) -> None:
    """A after B gives what A gives in fresh memory, whole and replayed, at row lengths that devices pad."""
    with opened(toolchain, write_tiny_llama(tmp_path / "tiny.gguf", n_layer=2, n_ff=width)) as engine:
        before, mixer, name = whole(engine), Mixer(engine, {}), "blk.1.ffn_down.weight"
        for a, b in PAIRS:
            if width % GGML_TYPES[a][1] or engine.ggml.needs_importance(a) or engine.ggml.needs_importance(b):
                continue
            engine.swap(name, a, mixer.stored(name, a))
            fresh = whole(engine)
            engine.swap(name, b, mixer.stored(name, b))
            assert not same(whole(engine), fresh), (a, b)
            engine.swap(name, a, mixer.stored(name, a))
            assert same(short(engine, 1), fresh), (a, b)
            assert same(whole(engine), fresh), (a, b)
            assert all(np.isfinite(logits).all() for logits in fresh)
        engine.restore()
        assert same(whole(engine), before)


# refusals


def test_tensors_that_lie_in_a_file_compute_the_same(toolchain: Toolchain, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(stored, "_LARGE_BYTES", 1)
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    found = {}
    for free in (1 << 40, 0):
        monkeypatch.setattr(stored, "available_memory_bytes", lambda free=free: free)
        with opened(toolchain, model) as engine:
            before, mixer, names = whole(engine), Mixer(engine, {}), quantizable(engine)
            for name in names:
                engine.swap(name, "q4_0", mixer.stored(name, "q4_0"))
            held = [s for swapped in engine._swapped.values() for s in swapped.replacements]
            assert [bool(s._mapped) for s in held] == [free == 0 and engine.ggml.is_on_cpu(s.address) for s in held]
            found[free] = whole(engine)
            engine.restore()
            assert same(whole(engine), before)
    assert same(*found.values())


def test_unknown_tensor_is_refused_by_name(llama: Engine) -> None:
    with pytest.raises(ModelError, match=r"blk\.9\.attn_q\.weight"):
        llama.swap("blk.9.attn_q.weight", "q8_0", np.zeros(1, np.uint8))


def test_bytes_that_are_not_a_whole_tensor_are_refused(llama: Engine) -> None:
    name = f"blk.1.{SOME}"
    part = Mixer(llama, {}).stored(name, "q4_K")[:-1]
    with pytest.raises(ModelError, match=r"blk\.1\.attn_output\.weight"):
        llama.swap(name, "q4_K", part)
    assert llama.score().mean_kld == 0.0


def test_model_without_finite_logits_is_refused(toolchain: Toolchain, tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "nan.gguf", n_layer=1, ggml_type="f32")
    data = bytearray(model.read_bytes())
    data[-1024:] = b"\xff\xff\xff\x7f" * 256  # the last row of the last ffn_down: not a number
    model.write_bytes(data)
    with pytest.raises(ModelError, match="not finite"):
        opened(toolchain, model)


def test_change_that_breaks_the_logits_is_named(llama: Engine) -> None:
    name = f"blk.1.{SOME}"
    _, tensor = llama.header.find(name)
    llama.swap(name, "f16", np.full(tensor.n_bytes, 0x7E, np.uint8).reshape(256, -1))
    infinite = np.full(tensor.n_elements, np.inf, np.float16).view(np.uint8)
    llama.swap(name, "f16", infinite)
    with pytest.raises(ModelError, match=r"not finite after blk\.1\.attn_output\.weight"):
        llama.score(name)


def test_what_is_raised_while_nodes_are_listened_to_ends_the_computation_and_comes_out(llama: Engine) -> None:
    before, caught = whole(llama), list[int]()

    def stop(address: int, data: np.ndarray) -> None:
        caught.append(address)
        raise KeyboardInterrupt

    assert llama.graph
    wanted = [node.address for node in llama.graph.nodes if node.name.startswith("l_out-")]
    assert len(wanted) > 1
    with pytest.raises(KeyboardInterrupt):
        llama.observe(llama.windows[0], wanted, stop)
    assert len(caught) == 1
    assert same(whole(llama), before)


def test_file_that_is_no_model_is_named(toolchain: Toolchain, tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf", n_layer=1)
    data = bytearray(model.read_bytes())
    model.write_bytes(data.replace(b"llama.block_count", b"llama.block_cuont"))
    with pytest.raises(ModelError, match=r"tiny\.gguf"):
        Engine(toolchain, model, n_ctx=64, n_threads=1)
