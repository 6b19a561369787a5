"""Local error curves: products by the model's own kernels, activations by expert, broken tensors refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from lwq.bits.curves import Slice, observe_activations, relative_errors, slices
from lwq.engine.engine import Engine
from lwq.engine.product import Product
from lwq.errors import ModelError
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes
from lwq.recipe.constraints import TYPE_SETS
from tests.engine.test_engine import N_CTX, WRITERS, opened, quantizable
from tests.tiny_models import N_EXPERT, N_VOCAB, write_tiny_llama, write_tiny_moe

pytestmark = pytest.mark.tools
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module", params=list(WRITERS))
def engine(request: pytest.FixtureRequest, toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with opened(toolchain, WRITERS[request.param](tmp_path_factory.mktemp("curves") / "tiny.gguf")) as found:
        yield found


@pytest.fixture(scope="module")
def llama(toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with opened(toolchain, write_tiny_llama(tmp_path_factory.mktemp("curves") / "tiny.gguf")) as found:
        yield found


@pytest.fixture
def product(llama: Engine) -> Iterator[Product]:
    assert llama.graph
    backend = llama.ggml.backend(llama.ggml.device_of(llama.graph.result()) or llama.ggml.cpu, 1)
    yield Product(llama.ggml, backend)
    llama.ggml.lib.ggml_backend_free(backend)


# products


@pytest.mark.parametrize(("ggml_type", "unit"), [("f32", 2**-24), ("f16", 2**-11), ("q8_0", 2**-8)])
def test_product_is_numpys_within_the_kernels_rounding(ggml_type, unit: float, llama: Engine, product) -> None:
    rows = RNG.standard_normal((48, 256), dtype=np.float32)
    x = RNG.standard_normal((7, 256), dtype=np.float32)
    stored = llama.ggml.quantize(rows, ggml_type, None)
    exact = x.astype(np.float64) @ llama.ggml.dequantize(stored, ggml_type, 256).astype(np.float64).T
    found = product.multiply(ggml_type, stored, x)
    assert found.shape == (7, 48)
    # the kernel rounds x to its own format (float32, F16, or 8 bits of the largest in 32) and sums in float32
    bound = (unit * np.abs(x).max() + 256 * 2**-24) * np.abs(rows).sum(axis=1).max()
    assert np.abs(found - exact).max() <= bound


def test_product_with_quantized_rows_loses_what_its_kernel_rounds_of_the_activations(llama: Engine, product) -> None:
    rows = RNG.standard_normal((64, 256), dtype=np.float32)
    x = RNG.standard_normal((16, 256), dtype=np.float32)
    stored = llama.ggml.quantize(rows, "q8_0", None)
    kept = ("f32", llama.ggml.dequantize(stored, "q8_0", 256).view(np.uint8))
    # the weights are the very same
    errors = product.errors(product.multiply(*kept, x), product.multiply("q8_0", stored, x))
    assert errors.shape == (16,)
    assert (errors > 0).all()
    assert errors.max() < 1e-3


def test_tokens_whose_product_is_zero_are_not_counted(llama: Engine, product: Product) -> None:
    rows = RNG.standard_normal((8, 256), dtype=np.float32)
    x = RNG.standard_normal((5, 256), dtype=np.float32)
    x[[1, 3]] = 0
    kept = llama.ggml.quantize(rows, "f16", None)
    assert product.errors(
        product.multiply("f16", kept, x), product.multiply("q4_0", llama.ggml.quantize(rows, "q4_0", None), x)
    ).shape == (3,)


# activations


def test_activations_are_seen_for_every_tensor_that_is_multiplied(engine: Engine) -> None:
    names = quantizable(engine)
    seen = observe_activations(engine, engine.windows, names)
    tied = "output.weight" not in names
    assert set(names) - set(seen) == (set() if tied else {"token_embd.weight"})
    for name, found in seen.items():
        for rows in found.by_expert.values():
            assert rows.dtype == np.float32
            assert rows.shape[1] == engine.header.find(name)[1].ne[0], name
            assert np.isfinite(rows).all()


def test_product_with_observed_activations_is_the_models_own(llama: Engine, product: Product) -> None:
    """What enters ``attn_q`` times its weights is the node ``Qcur`` that the model computes of it."""
    assert llama.graph
    node = next(n for n in llama.graph.nodes if n.name == "Qcur-1" and n.op in llama.ggml.products)
    inside: list[Bytes] = []
    llama.observe(llama.windows[0], (node.address,), lambda _, data: inside.append(data))
    theirs = inside[0].view(np.float32).reshape(N_CTX, -1)
    name = "blk.1.attn_q.weight"
    seen = observe_activations(llama, llama.windows[:1], [name])[name].by_expert[0]
    assert len(seen) == N_CTX
    (piece,) = slices(llama, name, None, None)
    ours = product.multiply("f16", llama.ggml.quantize(piece.rows, "f16", None), seen)
    assert np.array_equal(ours, theirs)


def test_activations_of_experts_add_up_to_tokens_times_used_experts(toolchain: Toolchain, tmp_path: Path) -> None:
    with opened(toolchain, write_tiny_moe(tmp_path / "tiny.gguf")) as moe:
        names = [f"blk.{i}.ffn_{part}_exps.weight" for i in range(3) for part in ("gate", "up", "down")]
        seen = observe_activations(moe, moe.windows, names)
        counted = {name: sum(map(len, seen[name].by_expert.values())) for name in names}
        assert {n for name, n in counted.items() if ".2." not in name} == {2 * N_CTX}  # 64 of each window, 2 experts
        assert set(seen[names[0]].by_expert) <= set(range(N_EXPERT))
        for i in range(3):
            gate, up, down = (seen[f"blk.{i}.ffn_{part}_exps.weight"].by_expert for part in ("gate", "up", "down"))
            assert {e: len(x) for e, x in gate.items()} == {e: len(x) for e, x in down.items()}
            assert all(np.array_equal(gate[e], up[e]) for e in gate)


def test_activations_of_an_expert_are_those_of_the_tokens_that_the_router_sends_it(toolchain, tmp_path: Path) -> None:
    with opened(toolchain, write_tiny_moe(tmp_path / "tiny.gguf"), n_windows=1) as moe:
        assert moe.graph
        router = next(n for n in moe.graph.nodes if n.name == "ffn_moe_logits-0")
        caught: dict[int, Bytes] = {}
        moe.observe(moe.windows[0], (router.address, router.src[1]), caught.__setitem__)
        scores = caught[router.address].view(np.float32).reshape(N_CTX, N_EXPERT)
        entering = caught[router.src[1]].view(np.float32).reshape(N_CTX, -1)
        best = np.argsort(-scores, axis=1)[:, :2]
        name = "blk.0.ffn_gate_exps.weight"
        seen = observe_activations(moe, moe.windows, [name])[name].by_expert
        for expert in range(N_EXPERT):
            assert np.array_equal(seen[expert], entering[(best == expert).any(axis=1)])


# curves


def test_coarser_types_have_larger_errors(engine: Engine) -> None:
    names = quantizable(engine)
    seen = observe_activations(engine, engine.windows, names)
    assert engine.graph
    backend = engine.ggml.backend(engine.ggml.device_of(engine.graph.result()) or engine.ggml.cpu, 1)
    own = Product(engine.ggml, backend)
    for name in names:
        pieces = slices(engine, name, seen.get(name), None)
        errors = list(relative_errors(engine, own, pieces, "f16", ("q8_0", "q6_K", "q4_K", "q3_K", "q2_K")).values())
        assert errors == sorted(errors), name
        assert 0 < errors[0] < 0.1 * errors[2], name
        assert errors[-1] < 1, name
    engine.ggml.lib.ggml_backend_free(backend)


def test_type_that_is_loaded_has_no_error(llama: Engine, product: Product) -> None:
    name = "blk.1.ffn_up.weight"
    seen = observe_activations(llama, llama.windows, [name])
    assert relative_errors(llama, product, slices(llama, name, seen[name], None), "f16", ("f16",)) == {"f16": 0}


def test_importance_lowers_the_error_where_activations_are_large(llama: Engine, product: Product) -> None:
    rows = RNG.standard_normal((64, 256), dtype=np.float32)
    x = RNG.standard_normal((32, 256), dtype=np.float32) * np.where(np.arange(256) % 16 == 0, 10, 0.1)
    x = x.astype(np.float32)
    plain = Slice(rows=rows, activations=x, importance=None)
    weighted = Slice(rows=rows, activations=x, importance=(x**2).mean(axis=0))
    errors = [relative_errors(llama, product, (piece,), "f16", ("q3_K",))["q3_K"] for piece in (weighted, plain)]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("seen", [True, False], ids=["multiplied", "looked up"])
def test_tensor_of_zeros_has_no_error(seen: bool, llama: Engine, product: Product) -> None:
    x = RNG.standard_normal((4, 256), dtype=np.float32) if seen else None
    piece = Slice(rows=np.zeros((16, 256), np.float32), activations=x, importance=None)
    for ggml_type in TYPE_SETS["k"]:
        assert relative_errors(llama, product, (piece,), "f16", (ggml_type,)) == {ggml_type: 0}


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_tensor_that_is_not_finite_is_refused_by_name(wrong: float, toolchain: Toolchain, tmp_path: Path) -> None:
    """The embedding of a token that the text never uses: the logits themselves are finite."""
    model = write_tiny_llama(tmp_path / "tiny.gguf", n_layer=1, tied=False)
    embedding = next(t for t in GGUFReader(model, "r+").tensors if t.name == "token_embd.weight")
    assert embedding.data.shape == (N_VOCAB, 256)
    embedding.data[0, 3] = wrong  # <unk>
    embedding.data.base.flush()
    with opened(toolchain, model) as engine, pytest.raises(ModelError, match=r"token_embd\.weight has values"):
        slices(engine, "token_embd.weight", None, None)
