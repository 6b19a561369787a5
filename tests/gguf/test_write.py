"""What is written has the bytes that the gguf package's own writer writes for the same values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.quants import quantize

from lwq.errors import ModelError
from lwq.gguf.data import RawTensor
from lwq.gguf.write import write_gguf

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
