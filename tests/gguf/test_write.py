"""What is written has the bytes that the gguf package's own writer writes for the same values."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.quants import quantize

from lwq.errors import ModelError
from lwq.gguf.data import RawTensor
from lwq.gguf.header import read_header
from lwq.gguf.reader import BigArray, MetaEntry
from lwq.gguf.write import encoded_key, rounded, write_gguf

T = GGUFValueType
SCALARS: dict[str, tuple[Any, GGUFValueType]] = {
    "a.zero": (0, T.UINT32), "a.most": (2**32 - 1, T.UINT32), "a.less": (-5, T.INT32), "a.least": (-(2**31), T.INT32),
    "a.float": (0.1, T.FLOAT32), "a.inf": (float("inf"), T.FLOAT32), "a.yes": (True, T.BOOL), "a.no": (False, T.BOOL),
    "a.text": ("é ☃", T.STRING), "a.empty": ("", T.STRING),
}  # fmt: skip
ARRAYS: dict[str, list[Any]] = {
    "b.ints": [1, -2, 2**31 - 1], "b.floats": [0.5, -1e-40], "b.flags": [True, False], "b.texts": ["a", "", "é"],
}  # fmt: skip
VALUES = np.random.default_rng(1).standard_normal((6, 64), dtype=np.float32)
PLAIN: dict[str, np.ndarray[Any, Any]] = {
    "f32": VALUES, "f16": VALUES.astype(np.float16), "f64": VALUES[:3].astype(np.float64),
    "turned": VALUES.T, "i8": np.arange(7, dtype=np.int8), "i16": np.arange(7, dtype=np.int16),
    "i32": np.arange(-3, 4, dtype=np.int32), "i64": np.arange(3, dtype=np.int64),
    "four": np.ones((2, 3, 1, 5), np.float32), "none": np.empty((0, 4), np.float32),
}  # fmt: skip
Q4_0 = quantize(VALUES, GGMLQuantizationType.Q4_0)


def written(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> bytes:
    write_gguf(path, metadata, tensors)
    return path.read_bytes()


def of_the_package(path: Path, tensors: Mapping[str, Any], alignment: int | None = None) -> bytes:
    """Scalars, arrays and tensors by the package's writer, each under its value type."""
    writer = GGUFWriter(path, arch="")
    writer.kv_data[0].clear()
    for key, (value, value_type) in SCALARS.items():
        writer.add_key_value(key, value, value_type)
    for key, items in ARRAYS.items():
        writer.add_array(key, items)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor, raw_dtype=GGMLQuantizationType.Q4_0 if name == "q4_0" else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.mark.parametrize("alignment", [None, 8, 64])
def test_keys_arrays_and_tensors_have_the_bytes_of_the_package(alignment: int | None, tmp_path: Path) -> None:
    metadata = {key: value for key, (value, _) in SCALARS.items()} | ARRAYS
    metadata |= {} if alignment is None else {"general.alignment": alignment}
    raw = RawTensor(ggml_type="q4_0", ne=(64, 3, 2), data=Q4_0)
    ours = written(tmp_path / "ours.gguf", metadata, {**PLAIN, "q4_0": raw})
    theirs = of_the_package(tmp_path / "theirs.gguf", {**PLAIN, "q4_0": Q4_0.reshape(2, 3, -1)}, alignment)
    assert ours == theirs


def test_a_file_without_tensors_has_the_bytes_of_the_package(tmp_path: Path) -> None:
    metadata = {key: value for key, (value, _) in SCALARS.items()} | ARRAYS
    assert written(tmp_path / "ours.gguf", metadata, {}) == of_the_package(tmp_path / "theirs.gguf", {})


def test_an_empty_array_is_left_out(tmp_path: Path) -> None:
    """GGUF gives arrays the type of their items, which an empty one does not show."""
    with_it = written(tmp_path / "a.gguf", {"a": 1, "none": (), "b": [2]}, {})
    assert with_it == written(tmp_path / "b.gguf", {"a": 1, "b": [2]}, {})


@pytest.mark.parametrize(
    ("metadata", "tensors", "error", "reason"),
    [
        ({"a": 2**32}, {}, ModelError, "a: 4294967296 does not fit in uint32"),
        ({"a": -(2**31) - 1}, {}, ModelError, "a: -2147483649 does not fit in int32"),
        ({"a": (1, 2**31)}, {}, ModelError, r"a: \(1, 2147483648\) does not fit in int32"),
        ({"a": BigArray(item_type="string", n_items=9, offset=0, n_bytes=9)}, {}, TypeError, "a: read the array with"),
        ({"a": (1, "x")}, {}, ValueError, "a: an array holds values of one type"),
        ({}, {"x": np.ones(3, np.uint8)}, ValueError, "x: uint8 is no ggml type"),
        ({}, {"x": RawTensor(ggml_type="q4_0", ne=(64, 5), data=Q4_0)}, ValueError, "x: 216 bytes are not"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_file_is_touched(
    metadata: Mapping[str, Any], tensors: Mapping[str, Any], error: type[Exception], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=reason):
        write_gguf(tmp_path / "a.gguf", metadata, tensors)
    assert not list(tmp_path.iterdir())


def entry(value_type: str) -> MetaEntry:
    return MetaEntry(key="a", value_type=value_type, value=0, offset=0, n_bytes=0)


@pytest.mark.parametrize(
    ("value", "before", "stored"),
    [
        (3, None, "uint32"), (-3, None, "int32"), (True, None, "bool"), (0.5, None, "float32"), ("x", None, "string"),
        ((1, 2), None, "array[int32]"), ((True, False), None, "array[bool]"), ((0.5, 1.0), None, "array[float32]"),
        (("a", "b"), None, "array[string]"), ((1, 0.5), None, "array[float32]"), ((1, True), None, "array[int32]"),
        (3, "uint8", "uint8"), (3, "int64", "int64"), (3, "float64", "float64"), (3, "bool", "uint32"),
        (0.5, "float64", "float64"), (0.5, "uint8", "float32"), (3, "string", "uint32"), ("x", "uint8", "string"),
        ("x", "string", "string"), (True, "uint8", "uint8"),
        ((1, 2), "array[uint16]", "array[uint16]"), ((1, 2), "uint16", "array[int32]"), (1, "array[uint16]", "uint32"),
        ((1, 2), "array[float32]", "array[float32]"), (("a",), "array[string]", "array[string]"),
        ((0.5,), "array[float64]", "array[float64]"), ((0.5,), "array[int8]", "array[float32]"),
        ((True,), "array[bool]", "array[bool]"), ((1, 0), "array[bool]", "array[int32]"),
        ((), "array[bool]", "array[bool]"),
        ((), None, "array[int32]"),
    ],
)  # fmt: skip
def test_a_new_value_keeps_the_type_of_the_old_one_where_it_is_of_its_sort(
    value: Any, before: str | None, stored: str, tmp_path: Path
) -> None:
    raw = encoded_key("a", value, entry(before) if before else None)
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + struct.pack("<Iqq", 3, 0, 1) + raw)
    (found,) = read_header(tmp_path / "a.gguf").entries
    assert (found.key, found.value_type, found.value) == ("a", stored, value)
    assert found.n_bytes == len(raw)


@pytest.mark.parametrize("ggml_type", ["f32", "f16", "bf16"])
def test_values_are_rounded_to_nearest_even_and_beyond_f16_to_infinity(ggml_type: str) -> None:
    values = np.array([[1.0, 1e6, -1e6, 1 + 2**-11, 1 + 3 * 2**-11, 1e-9, -0.0]], np.float32)
    (piece,) = rounded(np.asfortranarray(values.astype(np.float64)), ggml_type)
    raw = np.frombuffer(piece, np.uint8)
    if ggml_type == "bf16":
        found = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        expected = np.array([1.0, 999424.0, -999424.0, 1.0, 1.0, 9.968062e-10, -0.0], np.float32)
        assert found == pytest.approx(expected, rel=1e-6)
        return
    kind: type = np.float16 if ggml_type == "f16" else np.float32
    with np.errstate(over="ignore"):
        assert raw.view(kind).tobytes() == values.astype(kind).tobytes()


def test_an_alignment_that_is_no_number_is_the_usual_one(tmp_path: Path) -> None:
    found = written(tmp_path / "a.gguf", {"general.alignment": "x"}, {"t": VALUES})
    assert len(found) % 32 == 0
    assert found[-VALUES.nbytes :] == VALUES.tobytes()
