"""The in-process quantizers write what llama-quantize writes, byte for byte; a wrong structure is refused."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lwq.engine import ggml
from lwq.engine.bindings import load_bindings
from lwq.engine.ggml import Ggml, Tensor, in_order
from lwq.errors import ToolchainError
from lwq.gguf.data import raw_tensor, read_tensor
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.types import GGML_TYPES, anchored, fallback_type
from lwq.llama import tools
from lwq.llama.requests import QuantizeRequest
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes, Floats
from lwq.recipe.constraints import NEED_IMPORTANCE, TYPE_SETS
from tests.tiny_models import write_tiny_imatrix, write_tiny_llama, write_tiny_moe

pytestmark = pytest.mark.tools
TYPES = tuple(dict.fromkeys(q for types in TYPE_SETS.values() for q in types))


@pytest.fixture(scope="module")
def library(toolchain: Toolchain) -> Ggml:
    return Ggml(load_bindings(toolchain).llama_cpp._lib)


def written(folder: Path, model: Path, types: dict[str, str], toolchain: Toolchain, *, weighted: bool) -> GgufHeader:
    """What llama-quantize makes of a model with these types (and an imatrix of every tensor among them)."""
    header = read_header(model)
    if weighted:
        rng = np.random.default_rng(1)
        sums = {}
        for name in types:
            ne = header.find(name)[1].ne
            sums[name] = 10 * rng.lognormal(size=(ne[2] if len(ne) > 2 else 1, ne[0])).astype(np.float32)
        write_tiny_imatrix(folder / "imatrix.gguf", sums)
    lines = "".join(f"{anchored(name)}={ggml_type}\n" for name, ggml_type in types.items())
    (folder / "types.txt").write_text(lines, encoding="utf-8")
    request = QuantizeRequest(
        model=model.name,
        ftype="Q8_0",
        imatrix="imatrix.gguf" if weighted else None,
        tensor_types_file="types.txt",
        output="written.gguf",
    )
    tools.quantize(toolchain, request, cwd=folder, threads=1)
    return read_header(folder / "written.gguf")


def matrices(model: Path) -> list[str]:
    """Names of tensors of layers that are quantized, smallest rows or not."""
    return [t.name for t in read_header(model).tensors if t.layer is not None and len(t.ne) > 1 and "inp" not in t.name]


def importance_of(folder: Path, model: Path, names: dict[str, str]) -> dict[str, Floats]:
    tensors = [t for t in read_header(model).tensors if t.name in names]
    return dict(importance_rows(read_imatrix(folder / "imatrix.gguf").entries, tensors))


def quantized(library: Ggml, model: Path, name: str, ggml_type: str, importance: Floats | None) -> Bytes:
    """All experts of a tensor, each with its own importance row."""
    values = read_tensor(read_header(model), name)
    stack = values.reshape(-1, *values.shape[-2:])
    weights = [None] * len(stack) if importance is None else list(importance)
    return np.concatenate([library.quantize(part, ggml_type, w) for part, w in zip(stack, weights, strict=True)])


@dataclass(frozen=True, slots=True)
class Written:
    """A model, what llama-quantize made of it, and with which types and importance rows."""

    model: Path
    file: GgufHeader
    types: dict[str, str]
    importance: dict[str, Floats]


@pytest.fixture(scope="module")
def every_type(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """One tensor in each type of all type sets, with importance."""
    folder = tmp_path_factory.mktemp("every")
    model = write_tiny_llama(folder / "tiny.gguf", n_layer=3)
    types = dict(zip(matrices(model), TYPES, strict=False))
    assert set(types.values()) == set(TYPES)
    file = written(folder, model, types, toolchain, weighted=True)
    return Written(model, file, types, importance_of(folder, model, types))


def test_bytes_of_every_type_are_those_of_llama_quantize(every_type: Written, library: Ggml) -> None:
    for name, ggml_type in every_type.types.items():
        found = raw_tensor(every_type.file, name)
        assert found.ggml_type == ggml_type
        ours = quantized(library, every_type.model, name, ggml_type, every_type.importance[name])
        assert np.array_equal(ours, found.data), ggml_type


def test_bytes_without_importance_are_those_of_llama_quantize(library: Ggml, toolchain, tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf", n_layer=3)
    types = dict(zip(matrices(model), [q for q in TYPES if q not in NEED_IMPORTANCE], strict=False))
    file = written(tmp_path, model, types, toolchain, weighted=False)
    for name, ggml_type in types.items():
        assert np.array_equal(quantized(library, model, name, ggml_type, None), raw_tensor(file, name).data), ggml_type


@pytest.mark.parametrize("width", [96, 160])
def test_rows_that_no_256_block_fits_are_written_in_the_fallback_type(width: int, library, toolchain, tmp_path) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf", n_layer=3, n_embd=width)
    types = dict(zip(matrices(model), TYPES, strict=False))
    file = written(tmp_path, model, types, toolchain, weighted=True)
    importance = importance_of(tmp_path, model, types)
    for name, ggml_type in types.items():
        found = raw_tensor(file, name)
        assert found.ggml_type == fallback_type(ggml_type, width), ggml_type
        ours = quantized(library, model, name, found.ggml_type, importance[name])
        assert np.array_equal(ours, found.data), ggml_type


def test_each_expert_is_quantized_with_its_own_importance(library, toolchain, tmp_path: Path) -> None:
    model = write_tiny_moe(tmp_path / "tiny.gguf", n_layer=3)
    experts = [name for name in matrices(model) if "exps" in name]
    types = dict(
        zip(experts, ("iq4_nl", "q2_K", "q5_1", "q4_K", "iq4_xs", "q5_0", "q6_K", "q4_1", "q3_K"), strict=True)
    )
    file = written(tmp_path, model, types, toolchain, weighted=True)
    importance = importance_of(tmp_path, model, types)
    for name, ggml_type in types.items():
        found = raw_tensor(file, name).data
        assert np.array_equal(quantized(library, model, name, ggml_type, importance[name]), found), ggml_type
        exchanged = np.ascontiguousarray(importance[name][::-1])
        assert not np.array_equal(quantized(library, model, name, ggml_type, exchanged), found), ggml_type


@pytest.mark.parametrize("n_rows", [3, 64])
def test_bytes_are_the_same_for_any_number_of_threads(n_rows: int, library: Ggml) -> None:
    rng = np.random.default_rng(2)
    values = rng.standard_normal((n_rows, 512), dtype=np.float32)
    importance = rng.lognormal(size=512).astype(np.float32)
    for ggml_type in ("f32", "f16", *TYPES):
        one = library.quantize(values, ggml_type, importance, 1)
        for n_threads in (2, 5):
            assert np.array_equal(library.quantize(values, ggml_type, importance, n_threads), one), ggml_type


def test_rows_that_do_not_lie_together_are_quantized_as_if_they_did(library: Ggml) -> None:
    values = np.random.default_rng(3).standard_normal((8, 512), dtype=np.float32)
    for strided in (values[::2], values[:, ::2], np.asfortranarray(values)):
        together = library.quantize(np.ascontiguousarray(strided), "q4_K", None)
        assert np.array_equal(library.quantize(strided, "q4_K", None, 2), together)


def test_importance_that_does_not_lie_together_weighs_as_if_it_did(library: Ggml) -> None:
    rng = np.random.default_rng(4)
    values = rng.standard_normal((4, 256), dtype=np.float32)
    importance = rng.lognormal(size=512).astype(np.float32)[::2]
    together = library.quantize(values, "iq2_xxs", np.ascontiguousarray(importance))
    assert np.array_equal(library.quantize(values, "iq2_xxs", importance), together)
    assert np.array_equal(library.quantize(values, "iq2_xxs", importance.astype(np.float64)), together)


def test_types_that_need_importance_are_those_that_llama_quantize_refuses_without(library: Ggml) -> None:
    """ggml's own list is shorter: llama-quant.cpp refuses iq2_s and iq3_xxs too (``NEED_IMPORTANCE``)."""
    assert {q for q in TYPES if library.needs_importance(q)} <= NEED_IMPORTANCE


def test_values_read_back_are_those_that_gguf_reads(every_type: Written, library: Ggml) -> None:
    for name, ggml_type in every_type.types.items():
        ours = library.dequantize(raw_tensor(every_type.file, name).data, ggml_type, 256)
        theirs = read_tensor(every_type.file, name)
        # the same factors multiplied in another order: three float32 roundings of the largest value at most
        assert np.abs(ours - theirs).max() <= 3 * 2**-23 * np.abs(theirs).max(), ggml_type


def test_f16_and_f32_come_back_as_they_were(library: Ggml) -> None:
    values = np.random.default_rng(5).standard_normal((4, 96), dtype=np.float32)
    assert np.array_equal(library.dequantize(library.quantize(values, "f32", None), "f32", 96), values)
    half = library.quantize(values, "f16", None)
    assert np.array_equal(half.view(np.float16), values.astype(np.float16))
    assert np.array_equal(library.dequantize(half, "f16", 96), values.astype(np.float16).astype(np.float32))


def test_elements_of_a_view_come_in_order(library: Ggml) -> None:
    """Of 4 tokens with 3 heads of 5 channels, heads first and without the last two channels, as attention has it."""
    values, floats = np.arange(60, dtype=np.float32).reshape(4, 3, 5), GGML_TYPES["f32"][0]
    room = ggml.InitParams(mem_size=1 << 16, mem_buffer=None, no_alloc=False)
    context = library.lib.ggml_init(room)
    whole = library.lib.ggml_new_tensor(context, floats, 3, (ctypes.c_int64 * 4)(5, 3, 4))
    data = np.frombuffer(mmap.mmap(-1, values.nbytes), np.float32)  # buffers begin with a page
    data[:] = values.ravel()
    buffer = library.lib.ggml_backend_cpu_buffer_from_ptr(data.ctypes.data, data.nbytes)
    view = Tensor.from_address(library.lib.ggml_new_tensor(context, floats, 3, (ctypes.c_int64 * 4)(3, 4, 3)))
    view.data, view.buffer = data.ctypes.data, buffer
    view.nb[:] = (4, 60, 20, 240)
    address = ctypes.addressof(view)
    assert in_order(library, address).view(np.float32).tolist() == values[:, :, :3].transpose(1, 0, 2).ravel().tolist()
    plain = Tensor.from_address(whole)
    plain.data, plain.buffer = data.ctypes.data, buffer
    assert np.array_equal(in_order(library, whole), library.read(whole))
    library.lib.ggml_backend_buffer_free(buffer)
    library.lib.ggml_free(context)


def _with(fields: list[tuple[str, type]]) -> type[ctypes.Structure]:
    return type("Wrong", (ctypes.Structure,), {"_fields_": fields})


@pytest.mark.parametrize("wrong", ["longer", "no view_offs", "op before nb", "three dimensions"])
def test_a_tensor_laid_out_otherwise_is_refused(wrong: str, library: Ggml, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = dict(Tensor._fields_)
    if wrong == "longer":
        fields["more"] = ctypes.c_int64
    elif wrong == "no view_offs":
        del fields["view_offs"]
    elif wrong == "op before nb":
        fields = {k: fields[k] for k in sorted(fields, key=lambda k: list(fields).index(k) - 1.5 * (k == "op"))}
    else:
        fields["ne"] = ctypes.c_int64 * 3
    monkeypatch.setattr(ggml, "Tensor", _with(list(fields.items())))
    with pytest.raises(ToolchainError, match="not that of the pinned commit"):
        Ggml(library.lib)
