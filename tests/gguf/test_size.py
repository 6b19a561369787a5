"""The bytes that llama-quantize writes are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lwq.errors import ModelError
from lwq.gguf import data as gguf_io
from lwq.gguf.header import GgufHeader, read_array, read_header
from lwq.gguf.reader import BigArray, Scalar
from lwq.gguf.size import imatrix_kv, planned_tensors, predicted_file_bytes
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
