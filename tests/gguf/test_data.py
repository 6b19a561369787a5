"""What is stored is read back exactly, dequantized as the gguf package does, and told from what was planned."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from gguf.utility import size_label as label_of_the_package
from hypothesis import given
from hypothesis import strategies as st

from lwq.errors import ModelError
from lwq.gguf import data as gguf_io
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.size import planned_tensors
from lwq.gguf.types import TensorInfo
from lwq.gguf.write import write_gguf
from lwq.llama.toolchain import Toolchain
from tests import tiny_models
from tests.gguf.test_header import SHARED
from tests.gguf.test_size import _quantize

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


def test_the_tensor_hash_is_of_all_shards_in_order(tmp_path: Path) -> None:
    first = tiny_models.write_split_llama(tmp_path, n_shards=3)
    digest = hashlib.sha256()
    for shard in read_header(first).shards:
        digest.update(shard.path.read_bytes()[shard.data_offset :])
    assert gguf_io.tensor_section_sha256(first) == digest.hexdigest()


def test_all_that_differs_is_named_and_of_much_the_first_five(model: Path) -> None:
    header = read_header(model)
    n = header.file_bytes
    assert gguf_io.check_against(model, header.tensors[::-1], file_bytes=n).tensors == header.tensors
    absent = [TensorInfo(name=f"x{i}", ne=(4,), ggml_type="f32") for i in range(5)]
    told = "; ".join(f"x{i} is missing" for i in range(5))
    with pytest.raises(ModelError) as caught:
        gguf_io.check_against(model, [*header.tensors, *absent], file_bytes=n)
    assert caught.value.message == f"{model}: not as planned: {told}"
    with pytest.raises(ModelError) as caught:
        gguf_io.check_against(model, [*header.tensors, *absent], file_bytes=n - 1)
    assert caught.value.message == f"{model}: not as planned: {told} and 1 more"
    moved = replace(header.tensors[1], name="y")
    planned = [replace(header.tensors[0], ne=(1, 2)), moved, *header.tensors[2:]]
    with pytest.raises(ModelError) as caught:
        gguf_io.check_against(model, planned, file_bytes=n + 1)
    first, second = header.tensors[:2]
    assert caught.value.message == (
        f"{model}: not as planned: y is missing; {second.name} was not planned; {first.name} is {first.ggml_type}"
        f" {first.ne}, planned {first.ggml_type} (1, 2); the file has {n} bytes, predicted {n + 1}"
    )


VALUES = np.arange(10 * 32, dtype=np.float32).reshape(10, 32)
EXPERTS = np.arange(2 * 5 * 32, dtype=np.float32).reshape(2, 5, 32)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> GgufHeader:
    path = tmp_path_factory.mktemp("plain") / "plain.gguf"
    write_gguf(path, {}, {"a": VALUES, "e": EXPERTS.astype(np.float16), "i": np.arange(7, dtype=np.int16)})
    return read_header(path)


@pytest.mark.parametrize(
    ("most", "rows"),
    [(1, [0]), (2, [0, 5]), (3, [0, 4, 8]), (4, [0, 3, 6, 9]), (9, [0, 2, 4, 6, 8]), (10, range(10)), (99, range(10))],
)
def test_some_rows_are_read_at_equal_distances(plain: GgufHeader, most: int, rows: list[int]) -> None:
    found = gguf_io.read_rows(plain, "a", most)
    assert np.array_equal(found, VALUES[list(rows)])
    found = gguf_io.read_rows(plain, "e", most)
    assert found.dtype == np.float32
    assert np.array_equal(found, EXPERTS.reshape(10, 32)[list(rows)])


def test_rows_of_every_matrix_come_in_pieces_that_fit(plain: GgufHeader, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = gguf_io.raw_tensor(plain, "e")
    assert list(gguf_io.row_pieces(raw)) == [(slice(0, 5), 0), (slice(5, 10), 1)]
    monkeypatch.setattr(gguf_io, "_PIECE_VALUES", 2 * 32)
    pieces = list(gguf_io.row_pieces(raw))
    assert [(p.start, p.stop, matrix) for p, matrix in pieces] == [
        (0, 2, 0), (2, 4, 0), (4, 5, 0), (5, 7, 1), (7, 9, 1), (9, 10, 1),
    ]  # fmt: skip
    values = [gguf_io.row_values(plain, raw, rows, "e") for rows, _ in pieces]
    assert all(part.dtype == np.float32 for part in values)
    assert np.array_equal(np.concatenate(values), EXPERTS.reshape(10, 32))
    monkeypatch.setattr(gguf_io, "_PIECE_VALUES", 1)  # a row is read at least
    assert len(list(gguf_io.row_pieces(raw))) == 10


def test_whole_numbers_are_read_as_floats_and_types_that_nobody_dequantizes_are_named(
    plain: GgufHeader, tmp_path: Path
) -> None:
    assert gguf_io.read_tensor(plain, "i").tolist() == list(range(7))
    with pytest.raises(ModelError, match="no tensor 'b' among 3"):
        gguf_io.read_tensor(plain, "b")
    raw = gguf_io.RawTensor(ggml_type="q8_1", ne=(32, 1), data=np.zeros((1, 36), np.uint8))
    write_gguf(tmp_path / "odd.gguf", {}, {"odd": raw})
    for read in (gguf_io.read_tensor, lambda h, n: gguf_io.read_rows(h, n, 1)):
        with pytest.raises(
            ModelError, match=r"odd.gguf: tensor 'odd' is q8_1, which cannot be dequantized here"
        ) as caught:
            read(read_header(tmp_path / "odd.gguf"), "odd")
        assert "--allow-requantize" in caught.value.hint


def test_whether_a_file_was_quantized_is_told_by_any_tensor(plain: GgufHeader, tmp_path: Path) -> None:
    assert not gguf_io.was_quantized(plain)
    assert not gguf_io.was_quantized(read_header(tiny_models.write_tiny_llama(tmp_path / "a.gguf", ggml_type="bf16")))
    assert gguf_io.was_quantized(read_header(tiny_models.write_tiny_llama(tmp_path / "b.gguf", ggml_type="q8_0")))


def test_size_labels_are_those_of_the_package() -> None:
    def info(name: str, *ne: int) -> TensorInfo:
        return TensorInfo(name=name, ne=ne, ggml_type="f16")

    dense = [info("token_embd.weight", 4096, 32000), info("output_norm.weight", 4096)]
    experts = [info("blk.0.ffn_up_exps.weight", 4096, 14336, 8), info("blk.1.ffn_up_exps.weight", 4096, 14336, 8)]
    shared, of_one = 4096 * 32000 + 4096, 2 * 4096 * 14336
    assert gguf_io.size_label(dense) == label_of_the_package(shared, shared, 0, 0) == "131M"
    whole = shared + 8 * of_one
    assert gguf_io.size_label([*dense, *experts]) == label_of_the_package(whole, shared, of_one, 8) == "8x249M"
    assert gguf_io.size_label([*dense, *experts], of_experts=False) == label_of_the_package(whole, shared, of_one, 0)
    # of (width, experts, 1) a bias; tensors of two dimensions are no experts' whatever their name
    biased = [*dense, info("blk.0.ffn_up_exps.bias", 14336, 4, 1), info("blk.0.x_exps.weight", 10_000_000, 8)]
    shared += 80_000_000
    assert gguf_io.size_label(biased) == label_of_the_package(shared + 4 * 14336, shared, 14336, 4)


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
