"""The bytes of a GGUF: keys with their values, tensor entries, data each padded to the alignment.

Source: ggml/src/gguf.cpp ``gguf_write_out``; a test compares with the ``gguf`` package's writer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from numpy.typing import NDArray

from lwq.errors import ModelError
from lwq.gguf.data import DTYPES, RawTensor
from lwq.gguf.reader import ARRAY, SCALARS, STRING, BigArray, MetaEntry, MetaValue, Scalar
from lwq.gguf.types import GGML_TYPES, GGUF_ALIGNMENT, TensorInfo, padded, tensor_bytes
from lwq.metrics.arrays import Floats
from lwq.store.files import os_errors

Array: TypeAlias = NDArray[Any]
NewValue: TypeAlias = Scalar | tuple[Scalar, ...]
DataPieces: TypeAlias = Iterable[bytes | memoryview]
"""A tensor's bytes, one piece after the other."""

VERSION: Final = 3
_NUMBERS: Final = {name: (number, code) for number, (name, code) in SCALARS.items()}
_TYPE_OF_DTYPE: Final = {np.dtype(dtype): ggml_type for ggml_type, dtype in DTYPES.items()}


def write_gguf(
    path: Path,
    metadata: Mapping[str, MetaValue | Sequence[Scalar]],
    tensors: Mapping[str, Array | RawTensor],
) -> None:
    """Writes a GGUF: whole numbers as uint32 (negative: int32), floats as float32, tensors in order.

    An array's items are int32, float32, bool or strings; an empty array has no type, so its key is left out.
    The caller gives ``path`` a temporary name and renames it: this writes in place.

    Raises:
        ModelError: a number that does not fit its type.
        SpaceError: the disk is full.
        ValueError: an array of several types, a tensor of a dtype that is no ggml type, or raw data that are not of
            their shape.
    """
    stated = metadata.get("general.alignment", GGUF_ALIGNMENT)
    alignment = stated if isinstance(stated, int) else GGUF_ALIGNMENT
    values = {key: _new_value(key, value) for key, value in metadata.items()}
    kv = [encoded_key(key, value) for key, value in values.items() if not isinstance(value, tuple) or value]
    data = [_as_stored(name, tensor) for name, tensor in tensors.items()]
    infos = with_offsets((info for info, _ in data), alignment)
    pieces = ((np.ascontiguousarray(array).data,) for _, array in data)
    with os_errors("write it", path), path.open("wb") as file:
        write_parts(file, encoded_head(kv, infos, alignment), zip(infos, pieces, strict=True), alignment)


def _new_value(key: str, value: MetaValue | Sequence[Scalar]) -> NewValue:
    if isinstance(value, BigArray):
        raise TypeError(f"{key}: read the array with read_array first")
    if isinstance(value, str | bool | int | float):
        return value
    if len({type(item) for item in value}) > 1:
        raise ValueError(f"{key}: an array holds values of one type")
    return tuple(value)


def _as_stored(name: str, tensor: Array | RawTensor) -> tuple[TensorInfo, Array]:
    """A tensor's entry without its offset, and its data."""
    if isinstance(tensor, RawTensor):
        ne, ggml_type, data = tensor.ne, tensor.ggml_type, tensor.data
        if data.nbytes != tensor_bytes(ne, ggml_type):
            raise ValueError(f"{name}: {data.nbytes} bytes are not {ne} in {ggml_type}")
    elif tensor.dtype in _TYPE_OF_DTYPE:
        ne, ggml_type, data = tuple(reversed(tensor.shape)), _TYPE_OF_DTYPE[tensor.dtype], tensor
    else:
        raise ValueError(f"{name}: {tensor.dtype} is no ggml type; known: {', '.join(DTYPES)}")
    return TensorInfo(name=name, ne=ne, ggml_type=ggml_type), data


# a file from its parts


def with_offsets(infos: Iterable[TensorInfo], alignment: int) -> tuple[TensorInfo, ...]:
    """The tensors with the offsets that they have when their data follow each other, each padded."""
    placed, offset = [], 0
    for info in infos:
        placed.append(replace(info, offset=offset))
        offset += padded(info.n_bytes, alignment)
    return tuple(placed)


def encoded_head(kv: Sequence[bytes], infos: Sequence[TensorInfo], alignment: int) -> bytes:
    """The file up to its data: header, keys (as ``encoded_key`` gives them), tensor entries, padding."""
    parts = [b"GGUF", struct.pack("<Iqq", VERSION, len(infos), len(kv)), *kv, *map(_encoded_info, infos)]
    head = b"".join(parts)
    return head + bytes(padded(len(head), alignment) - len(head))


def _encoded_info(info: TensorInfo) -> bytes:
    n_dims = len(info.ne)
    number = GGML_TYPES[info.ggml_type][0]
    return _string(info.name) + struct.pack(f"<I{n_dims}qiQ", n_dims, *info.ne, number, info.offset)


def write_parts(file: BinaryIO, head: bytes, tensors: Iterable[tuple[TensorInfo, DataPieces]], alignment: int) -> None:
    """Writes the head, then each tensor's data with its padding."""
    file.write(head)
    for info, pieces in tensors:
        for piece in pieces:
            file.write(piece)
        file.write(bytes(padded(info.n_bytes, alignment) - info.n_bytes))


def rounded(values: Floats, ggml_type: str) -> DataPieces:
    """The bytes of values in f32, f16 or bf16, rounded to nearest even.

    Source: ggml/src/ggml-impl.h ``ggml_compute_fp32_to_bf16``.
    """
    values = np.ascontiguousarray(values, dtype=np.float32)
    with np.errstate(over="ignore"):
        return (quantize(values, GGMLQuantizationType[ggml_type.upper()]).data,)


# metadata


def encoded_key(key: str, value: NewValue, entry: MetaEntry | None = None) -> bytes:
    """A key, the type of its value and the value, as a file holds them.

    Args:
        entry: what the key is now; its value type is kept where the new value is of its sort.

    Raises:
        ModelError: a number that does not fit the type.
    """
    items = value if isinstance(value, tuple) else (value,)
    item_type = _item_type(items, isinstance(value, tuple), entry)
    number = STRING if item_type == "string" else _NUMBERS[item_type][0]
    head = _string(key)
    if isinstance(value, tuple):
        head += struct.pack("<iiQ", ARRAY, number, len(items))
    else:
        head += struct.pack("<i", number)
    try:
        if item_type == "string":
            return head + b"".join(_string(str(item)) for item in items)
        return head + struct.pack(f"<{len(items)}{_NUMBERS[item_type][1]}", *items)
    except struct.error as error:
        raise ModelError(f"{key}: {value!r} does not fit in {item_type}") from error


def _item_type(items: tuple[Scalar, ...], is_array: bool, entry: MetaEntry | None) -> str:
    """The value type that the key has, if the new value is of its sort; else the usual one."""
    sort: type = str if any(isinstance(i, str) for i in items) else int
    sort = float if any(isinstance(i, float) for i in items) else sort
    are_flags = all(isinstance(i, bool) for i in items)
    if entry is not None and entry.value_type.startswith("array[") == is_array:
        present = entry.value_type.removeprefix("array[").removesuffix("]")
        present_sort = str if present == "string" else float if present.startswith("float") else int
        if (present_sort is sort or (present_sort is float and sort is int)) and (are_flags or present != "bool"):
            return present
    if sort is int:
        if items and are_flags:
            return "bool"
        return "int32" if is_array or any(i < 0 for i in items if not isinstance(i, str)) else "uint32"
    return "string" if sort is str else "float32"


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
