"""The bytes that llama-quantize writes are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lwq.errors import ModelError
from lwq.gguf import data as gguf_io
from lwq.gguf.header import GgufHeader, read_array, read_header
from lwq.gguf.reader import BigArray, Scalar
from lwq.gguf.size import imatrix_kv, planned_tensors, predicted_file_bytes
from lwq.gguf.types import renumber, tensor_bytes
from lwq.gguf.write import write_gguf
from lwq.llama.process import run_tool
from lwq.llama.toolchain import Toolchain
from tests import tiny_models


def _quantize(toolchain: Toolchain, folder: Path, *arguments: str) -> GgufHeader:
    run_tool((str(toolchain.program("llama-quantize")), *arguments, "2"), cwd=folder)
    return read_header(folder / arguments[-2])


def _assert_predicted(
    source: Path, written: GgufHeader, pruned: tuple[int, ...] = (), kv: Mapping[str, Any] | None = None
) -> None:
    types = {t.name: t.ggml_type for t in written.tensors}
    header = read_header(source)
    set_kv: dict[str, Scalar] = dict(kv or {})
    assert planned_tensors(header, types=types, pruned=pruned) == written.tensors
    n_bytes = predicted_file_bytes(header, types=types, pruned=pruned, set_kv=set_kv)
    assert n_bytes == written.path.stat().st_size


def _as_the_tool_writes(
    source: GgufHeader, path: Path, types: Mapping[str, str], pruned: tuple[int, ...], set_kv: Mapping[str, Scalar]
) -> GgufHeader:
    """A file with llama-quantize's keys and tensors, by our own writer; data are zeros."""
    kv = {k: read_array(source, k) if isinstance(v, BigArray) else v for k, v in source.metadata.items()}
    kv = {k: v for k, v in kv.items() if not k.startswith("split.")} | {"general.quantization_version": 2}
    kv |= {"general.file_type": 7, **set_kv}
    if pruned:
        kv[f"{source.architecture}.block_count"] = source.n_layer_all - len(pruned)
    kept = [(t, renumber(t.name, pruned)) for t in source.tensors]
    kept = sorted((-1 if t.layer is None else t.layer, name, t) for t, name in kept if name)
    tensors = {}
    for _, name, tensor in kept:
        ggml_type = types.get(name, tensor.ggml_type)
        data = np.zeros(tensor_bytes(tensor.ne, ggml_type), np.uint8)
        tensors[name] = gguf_io.RawTensor(ggml_type=ggml_type, ne=tensor.ne, data=data)
    write_gguf(path, kv, tensors)
    return read_header(path)


@pytest.mark.parametrize("pruned", [(), (1,), (0, 10)])
def test_predicted_tensors_and_bytes_are_those_of_a_file_so_written(pruned: tuple[int, ...], tmp_path: Path) -> None:
    source = read_header(tiny_models.write_tiny_llama(tmp_path / "tiny.gguf", n_layer=12))
    types = {"blk.0.ffn_up.weight": "q4_K", "blk.9.ffn_down.weight": "q8_0", "token_embd.weight": "q6_K"}
    set_kv: dict[str, Scalar] = {
        "lwq.text": "hé", "lwq.n": 5, "lwq.less": -5, "lwq.x": 1.5, "lwq.b": True, "general.name": "another name",
        **imatrix_kv("i.gguf", ["calibration.txt"], n_entries=3, n_chunks=3),
    }  # fmt: skip
    for kv in ({}, set_kv):
        written = _as_the_tool_writes(source, tmp_path / "out.gguf", types, pruned, kv)
        _assert_predicted(source.path, written, pruned, kv)
    assert planned_tensors(source, types=types, pruned=iter(pruned)) == written.tensors


def test_predicted_bytes_of_shards_are_without_the_keys_of_a_split(tmp_path: Path) -> None:
    first = tiny_models.write_split_llama(tmp_path, n_shards=2)
    written = _as_the_tool_writes(read_header(first), tmp_path / "out.gguf", {}, (), {})
    _assert_predicted(first, written)


def test_layers_are_written_in_order_of_their_numbers_behind_what_is_in_none(tmp_path: Path) -> None:
    header = read_header(tiny_models.write_tiny_llama(tmp_path / "tiny.gguf", n_layer=11))
    found = [t.name for t in planned_tensors(header, types={})]
    assert found[:2] == ["output_norm.weight", "token_embd.weight"]
    assert [n for n in found if "ffn_up" in n] == [f"blk.{i}.ffn_up.weight" for i in range(11)]
    assert found[2:11] == sorted(found[2:11])


def test_dimensions_of_one_at_the_end_are_dropped_and_strings_end_at_their_first_nul(tmp_path: Path) -> None:
    write_gguf(
        tmp_path / "a.gguf",
        {"general.architecture": "x", "a.text": "ab\0cdé", "a.texts": ("a\0b", "plain", "\0"), "a.n": (1, 2)},
        {"a": np.ones((1, 1, 4), np.float32), "b": np.ones((2, 1, 4), np.float32), "one": np.ones((1, 1), np.float32)},
    )
    header = read_header(tmp_path / "a.gguf")
    assert {t.name: t.ne for t in planned_tensors(header, types={})} == {"a": (4,), "b": (4, 1, 2), "one": (1,)}
    cut = {"general.architecture": "x", "a.text": "ab", "a.texts": ("a", "plain", ""), "a.n": (1, 2)}
    cut |= {"general.quantization_version": 2, "general.file_type": 1}
    shapes = {"a": (4,), "b": (2, 1, 4), "one": (1,)}
    write_gguf(tmp_path / "b.gguf", cut, {name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    assert predicted_file_bytes(header, types={}) == (tmp_path / "b.gguf").stat().st_size
    # in a vocabulary that stays in the file too
    words = tuple(f"word{i}\0{'x' * (i % 3)}" for i in range(3000))
    for name, kept in (("c", words), ("d", tuple(w.split("\0")[0] for w in words))):
        stated = {"a.words": kept, "general.quantization_version": 2, "general.file_type": 1}
        write_gguf(tmp_path / f"{name}.gguf", stated, {})
    assert predicted_file_bytes(read_header(tmp_path / "c.gguf"), types={}) == (tmp_path / "d.gguf").stat().st_size


def test_an_imatrix_adds_its_name_its_first_text_and_its_counts_each_cut_to_127_bytes() -> None:
    assert imatrix_kv("i.gguf", ["a.txt", "b.txt"], n_entries=7, n_chunks=3) == {
        "quantize.imatrix.file": "i.gguf", "quantize.imatrix.dataset": "a.txt",
        "quantize.imatrix.entries_count": 7, "quantize.imatrix.chunks_count": 3,
    }  # fmt: skip
    bare = imatrix_kv("x" * 200, [], n_entries=7, n_chunks=0)
    assert bare == {"quantize.imatrix.file": "x" * 127, "quantize.imatrix.entries_count": 7}
    odd = imatrix_kv("é" * 64, ["\udcff"], n_entries=1, n_chunks=1)
    assert odd["quantize.imatrix.file"] == "é" * 63 + "\udcc3"  # a letter cut in its middle
    assert odd["quantize.imatrix.dataset"] == "\udcff"


def test_what_llama_quantize_would_not_write_is_refused(tmp_path: Path) -> None:
    header = read_header(tiny_models.write_tiny_llama(tmp_path / "tiny.gguf", n_layer=1))
    strange = {f"x{i}": "f32" for i in range(7)}
    with pytest.raises(ValueError, match="types for tensors that will not be written: x0, x1, x2, x3, x4$"):
        planned_tensors(header, types=strange)
    with pytest.raises(ValueError, match="types for tensors that will not be written: blk.0.ffn_up.weight"):
        planned_tensors(header, types={"blk.0.ffn_up.weight": "f32"}, pruned=(0,))
    assert predicted_file_bytes(header, types={}, set_kv={"a": "x" * 127}) > 0
    with pytest.raises(ValueError, match="a: 128 bytes; llama-quantize takes strings up to 127"):
        predicted_file_bytes(header, types={}, set_kv={"a": "é" * 64})
    wide = replace(header, alignment=64)
    with pytest.raises(ModelError, match=r"general\.alignment is 64; llama-quantize writes 32") as caught:
        predicted_file_bytes(wide, types={})
    assert caught.value.hint == "add --override-kv general.alignment=int:32"
    assert predicted_file_bytes(wide, types={}, set_kv={"general.alignment": 32}) > 0


@pytest.mark.tools
@pytest.mark.parametrize(
    "write",
    [tiny_models.write_tiny_llama, tiny_models.write_tiny_moe, tiny_models.write_tiny_phi3,
     tiny_models.write_tiny_gemma3],
)  # fmt: skip
def test_predicted_bytes_are_the_bytes(write: Callable[[Path], Path], toolchain: Toolchain, tmp_path: Path) -> None:
    source = write(tmp_path / "tiny.gguf")
    for ftype in ("Q4_K_M", "Q8_0", "BF16"):
        _assert_predicted(source, _quantize(toolchain, tmp_path, source.name, f"{ftype}.out", ftype))


@pytest.mark.tools
def test_predicted_bytes_with_pruning_imatrix_and_keys(toolchain: Toolchain, tmp_path: Path) -> None:
    source = tiny_models.write_tiny_llama(tmp_path / "tiny.gguf", n_layer=12)
    sums = {t.name: np.ones((1, t.ne[0]), np.float32) for t in read_header(source).tensors if t.layer is not None}
    tiny_models.write_tiny_imatrix(tmp_path / "i.gguf", sums, n_chunks=3)
    keys: dict[str, object] = {"lwq.text": "hé", "lwq.n": 5, "lwq.x": 1.5, "lwq.b": True, "general.name": "other"}
    kinds = {str: "str", int: "int", float: "float", bool: "bool"}
    told = [f"{k}={kinds[type(v)]}:{str(v).lower() if isinstance(v, bool) else v}" for k, v in keys.items()]
    options = [part for entry in told for part in ("--override-kv", entry)]
    options += ["--imatrix", "i.gguf", "--prune-layers", "1,10"]
    written = _quantize(toolchain, tmp_path, *options, source.name, "out.gguf", "IQ4_NL")
    kv = {**keys, **imatrix_kv("i.gguf", ["calibration.txt"], n_entries=len(sums), n_chunks=3)}
    _assert_predicted(source, written, (1, 10), kv)
    assert {k: written.metadata[k] for k in kv} == kv
    assert written.n_layer == 10


@pytest.mark.tools
def test_shards_are_merged_and_split_keys_go(toolchain: Toolchain, tmp_path: Path) -> None:
    first = tiny_models.write_split_llama(tmp_path, n_shards=2)
    written = _quantize(toolchain, tmp_path, first.name, "out.gguf", "F16")
    assert not any(key.startswith("split.") for key in written.metadata)
    _assert_predicted(first, written)


@pytest.mark.tools
def test_another_alignment_needs_its_key_set(toolchain: Toolchain, tmp_path: Path) -> None:
    source = tmp_path / "wide.gguf"
    header = read_header(tiny_models.write_tiny_llama(tmp_path / "tiny.gguf", n_layer=1))
    metadata = {k: read_array(header, k) if isinstance(v, BigArray) else v for k, v in header.metadata.items()}
    tensors = {t.name: gguf_io.raw_tensor(header, t.name) for t in header.tensors}
    write_gguf(source, {**metadata, "general.alignment": 64}, tensors)
    with pytest.raises(ModelError, match=r"general\.alignment is 64") as caught:
        predicted_file_bytes(read_header(source), types={})
    fix = caught.value.hint.removeprefix("add ").split()
    written = _quantize(toolchain, tmp_path, *fix, source.name, "out.gguf", "Q4_K_M")
    _assert_predicted(source, written, kv={"general.alignment": 32})
