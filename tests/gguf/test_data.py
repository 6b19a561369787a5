"""GGUF files are read strictly and exactly, and the bytes llama-quantize writes are known beforehand."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lwq.errors import ModelError
from lwq.gguf import data as gguf_io
from lwq.gguf.header import GgufHeader, read_array, read_header
from lwq.gguf.parse import BigArray, Scalar
from lwq.gguf.scan import scan_f16_range
from lwq.gguf.size import imatrix_kv, planned_tensors, predicted_file_bytes
from lwq.gguf.write import write_gguf
from lwq.llama.process import run_tool
from lwq.llama.toolchain import Toolchain
from tests import tiny_models

SHARED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny.gguf", n_layer=2)


def test_the_header_is_what_the_gguf_package_reads(model: Path) -> None:
    ours, theirs = read_header(model), GGUFReader(model)
    assert [(t.name, t.ne, t.ggml_type.upper()) for t in ours.tensors] == [
        (t.name, tuple(t.shape.tolist()), t.tensor_type.name) for t in theirs.tensors
    ]
    assert ours.metadata["llama.block_count"] == ours.n_layer == 2
    assert ours.architecture == "llama"
    assert ours.file_bytes == model.stat().st_size
    assert ours.data_offset == theirs.data_offset
    tokens = read_array(ours, "tokenizer.ggml.tokens")
    assert (tokens[:3], len(tokens)) == (("<unk>", "<s>", "</s>"), tiny_models.N_VOCAB)
    whole = 24 + sum(ours.kv_bytes.values()) + sum(8 + len(t.name) + 4 + 8 * len(t.ne) + 12 for t in ours.tensors)
    assert ours.data_offset == -(-whole // 32) * 32


def test_long_arrays_stay_in_the_file_until_asked_for(tmp_path: Path) -> None:
    words = tuple(f"word{i}" for i in range(5000))
    write_gguf(tmp_path / "long.gguf", {"general.architecture": "none", "a.words": words}, {})
    header = read_header(tmp_path / "long.gguf")
    assert isinstance(header.metadata["a.words"], BigArray)
    assert read_array(header, "a.words") == words


KEYS = st.from_regex(r"[a-z]{1,8}\.[a-z_]{1,12}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**31), 2**32 - 1)
VALUES = st.one_of(st.booleans(), NUMBERS, st.floats(width=32, allow_nan=False), TEXT, st.lists(TEXT, min_size=1))
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@SHARED
@given(metadata=st.dictionaries(KEYS, VALUES, max_size=8), shapes=st.dictionaries(KEYS, SHAPES, max_size=5))
def test_what_is_written_is_read_back(tmp_path: Path, metadata: dict[str, Any], shapes: dict[str, list[int]]) -> None:
    path = tmp_path / "any.gguf"
    tensors = {name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for name, shape in shapes.items()}
    write_gguf(path, metadata, tensors)
    header = read_header(path)
    assert dict(header.metadata) == {k: tuple(v) if isinstance(v, list) else v for k, v in metadata.items()}
    for name, values in tensors.items():
        assert np.array_equal(gguf_io.read_tensor(header, name), values)


@SHARED
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, model: Path, cut: float) -> None:
    part = tmp_path / "part.gguf"
    whole = model.read_bytes()
    part.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(ModelError, match=r"part\.gguf: (truncated|empty|starts with|announces)") as caught:
        read_header(part)
    assert caught.value.hint


@SHARED
@given(at=st.integers(0, 6000), byte=st.integers(0, 255))
def test_a_damaged_header_is_refused_or_read_but_never_crashes(tmp_path: Path, model: Path, at: int, byte: int) -> None:
    data = bytearray(model.read_bytes())
    data[at] = byte
    (tmp_path / "bad.gguf").write_bytes(data)
    with suppress(ModelError):
        assert read_header(tmp_path / "bad.gguf").file_bytes == len(data)


def _at_tensor(data: bytearray, name: str) -> int:
    """Where the number of dimensions of that tensor stands."""
    return data.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)


def _set_type(data: bytearray) -> None:
    struct.pack_into("<i", data, _at_tensor(data, "output_norm.weight") + 4 + 8, 99)


def _set_offset(data: bytearray) -> None:
    struct.pack_into("<Q", data, _at_tensor(data, "output_norm.weight") + 4 + 8 + 4, 7)


def _set_twice(data: bytearray) -> None:
    at = data.index(b"blk.1.ffn_gate.weight")
    data[at : at + 21] = b"blk.0.ffn_gate.weight"


def _set_big_endian(data: bytearray) -> None:
    data[4:8] = struct.pack(">I", 3)


def _set_version(data: bytearray) -> None:
    data[4:8] = struct.pack("<I", 1)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_set_type, "'output_norm.weight' has ggml type 99"),
        (_set_offset, r"offset 7 \(not aligned\), expected"),
        (_set_twice, "tensor 'blk.0.ffn_gate.weight' appears twice"),
        (_set_big_endian, "big-endian"),
        (_set_version, "version 1, expected 2 or 3"),
    ],
)
def test_each_fault_is_named(damage: Callable[[bytearray], None], said: str, model: Path, tmp_path: Path) -> None:
    data = bytearray(model.read_bytes())
    damage(data)
    (tmp_path / "bad.gguf").write_bytes(data)
    with pytest.raises(ModelError, match=said) as caught:
        read_header(tmp_path / "bad.gguf")
    assert caught.value.message.startswith(str(tmp_path / "bad.gguf"))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "said", "way_out"),
    [
        (b"Once upon a time there was a text.", "starts with b'Once', expected b'GGUF'", "GGUF format"),
        (b"version https://git-lfs.github.com/spec/v1", "starts with b'vers'", "git lfs pull"),
        (b"<html>not found</html>", "starts with b'<htm'", "web page"),
        (b"", r"empty \(0 bytes\)", "again"),
    ],
)
def test_what_is_no_gguf_says_what_it_is(content: bytes, said: str, way_out: str, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        read_header(tmp_path / "text.gguf")
    assert way_out in caught.value.hint


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a folder"):
        read_header(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        read_header(tmp_path / "missing.gguf")


def test_a_split_model_reads_as_one(tmp_path: Path) -> None:
    first = tiny_models.write_split_llama(tmp_path, n_shards=3)
    whole = tiny_models.write_tiny_llama(tmp_path / "whole.gguf", n_layer=2)
    header, one = read_header(first), read_header(whole)
    assert len(header.shards) == 3
    assert {t.name for t in header.tensors} == {t.name for t in one.tensors}
    for tensor in one.tensors:
        assert np.array_equal(gguf_io.read_tensor(header, tensor.name), gguf_io.read_tensor(one, tensor.name))


def test_a_missing_or_wrong_shard_is_named(tmp_path: Path) -> None:
    first = tiny_models.write_split_llama(tmp_path, n_shards=3)
    second, third = (tmp_path / f"tiny-0000{i}-of-00003.gguf" for i in (2, 3))
    with pytest.raises(ModelError, match="shard 2 of 3, expected the first") as caught:
        read_header(second)
    assert caught.value.hint == f"give {first.name}"
    second.write_bytes(third.read_bytes())
    with pytest.raises(ModelError, match=r"tiny-00002.*split.no, split.count are \(2, 3\), expected \(1, 3\)"):
        read_header(first)
    third.unlink()
    with pytest.raises(ModelError, match=r"missing shard tiny-00003-of-00003\.gguf"):
        read_header(first)


@pytest.mark.parametrize("ggml_type", ["f32", "f16", "bf16", "q8_0", "q4_0", "q5_1"])
def test_values_are_dequantized_as_the_gguf_package_does(ggml_type: str, tmp_path: Path) -> None:
    path = tiny_models.write_tiny_llama(tmp_path / "tiny.gguf", n_layer=1, ggml_type=ggml_type)
    header = read_header(path)
    for theirs in GGUFReader(path).tensors:
        values = gguf_io.read_tensor(header, theirs.name)
        expected = dequantize(theirs.data, GGMLQuantizationType(theirs.tensor_type))
        assert values.dtype == np.float32
        assert values.shape == tuple(reversed(theirs.shape.tolist()))
        assert np.array_equal(values.ravel(), expected.ravel())


def test_the_tensor_hash_is_of_data_alone(tmp_path: Path) -> None:
    values = {"a.weight": np.ones((4, 32), dtype=np.float32)}
    for name, said in (("one", "x"), ("two", "a longer value")):
        write_gguf(tmp_path / f"{name}.gguf", {"general.name": said}, values)
    write_gguf(tmp_path / "other.gguf", {"general.name": "x"}, {"a.weight": 2 * values["a.weight"]})
    one, two, other = (gguf_io.tensor_section_sha256(tmp_path / f"{n}.gguf") for n in ("one", "two", "other"))
    assert one == two != other


def test_a_file_not_as_planned_is_refused_with_what_differs(model: Path) -> None:
    header = read_header(model)
    types = {"blk.0.ffn_up.weight": "q4_K"}
    planned = planned_tensors(header, types=types)
    with pytest.raises(ModelError, match=r"blk\.0\.ffn_up\.weight is f16 \(256, 256\), planned q4_K"):
        gguf_io.check_against(model, planned, file_bytes=header.file_bytes)
    with pytest.raises(ModelError, match="bytes, predicted 1"):
        gguf_io.check_against(model, header.tensors, file_bytes=1)
    kept = [t for t in header.tensors if t.name != "output_norm.weight"]
    with pytest.raises(ModelError, match=r"output_norm\.weight was not planned"):
        gguf_io.check_against(model, kept, file_bytes=header.file_bytes)


SPECIAL = (65504.0, 65519.9, 65520.0, 2.0**-14, 2.0**-14 - 2.0**-25, 2.0**-24, 2.0**-25, 2.0**-26, 0.0, -0.0)
FLOATS = st.one_of(st.floats(width=32), st.sampled_from(SPECIAL).map(lambda x: float(np.float32(x))))


@SHARED
@given(values=st.lists(FLOATS, min_size=2, max_size=60))
def test_the_f16_scan_counts_what_numpy_rounds(tmp_path: Path, values: list[float]) -> None:
    source = np.array([values, values], dtype=np.float32)
    write_gguf(tmp_path / "f32.gguf", {"general.name": "x"}, {"a.weight": source})
    with np.errstate(over="ignore"):
        half = source.astype(np.float16)
    total = scan_f16_range(read_header(tmp_path / "f32.gguf")).total
    finite = np.isfinite(source)
    assert total.n_values == source.size
    assert total.n_not_finite == np.count_nonzero(~finite)
    assert total.n_overflow == np.count_nonzero(finite & np.isinf(half))
    assert total.n_zero == np.count_nonzero((source != 0) & (half == 0))
    assert total.n_subnormal == np.count_nonzero((half != 0) & (np.abs(half) < np.float16(2.0**-14)))


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
@pytest.mark.parametrize("ggml_type", ["q8_0", "q4_0", "q5_1", "bf16"])
def test_the_f16_base_is_the_source_dequantized_bit_for_bit(
    ggml_type: str, toolchain: Toolchain, tmp_path: Path
) -> None:
    source = read_header(tiny_models.write_tiny_llama(tmp_path / "q.gguf", n_layer=1, ggml_type=ggml_type))
    base = _quantize(toolchain, tmp_path, "--allow-requantize", "q.gguf", "base.gguf", "F16")
    for tensor in source.tensors:
        values, written = gguf_io.read_tensor(source, tensor.name), gguf_io.raw_tensor(base, tensor.name)
        assert written.ggml_type == ("f32" if len(tensor.ne) == 1 else "f16")
        as_stored = values if written.ggml_type == "f32" else values.astype(np.float16)
        assert written.data.tobytes() == as_stored.tobytes()


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
