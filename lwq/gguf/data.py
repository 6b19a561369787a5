"""The data of a GGUF's tensors: read, dequantized, hashed; and whether a file just written is as planned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from gguf.utility import size_label as gguf_size_label
from numpy.typing import NDArray

from lwq.errors import ModelError
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.types import GGML_TYPES, UNQUANTIZED, TensorInfo, tensor_bytes

_CHUNK: Final = 1 << 22
_PIECE_VALUES: Final = 1 << 24
"""Values that are dequantized and quantized at once: 64 MiB as float32."""
DTYPES: Final = {
    "f32": np.float32, "f16": np.float16, "f64": np.float64,
    "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
}  # fmt: skip
"""ggml types whose data are plain arrays → their dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTensor:
    """Tensor data as stored: one row of bytes for each row of ``ne[0]`` weights."""

    ggml_type: str
    ne: tuple[int, ...]
    data: NDArray[np.uint8]


def read_tensor(header: GgufHeader, name: str) -> NDArray[np.float32]:
    """The tensor's values as float32, dequantized, in numpy order (row length last).

    Raises:
        ModelError: no such tensor, or a type that ``gguf`` cannot dequantize.
    """
    raw = raw_tensor(header, name)
    return _values(header, name, raw.ggml_type, raw.data).reshape(tuple(reversed(raw.ne)))


def read_rows(header: GgufHeader, name: str, most: int) -> NDArray[np.float32]:
    """At most that many of a tensor's rows, from the first on at equal distances, as float32 (rows, ``ne[0]``).

    Raises:
        ModelError: as for ``read_tensor``.
    """
    raw = raw_tensor(header, name)
    rows = np.ascontiguousarray(raw.data[:: max(1, -(-len(raw.data) // most))])
    return _values(header, name, raw.ggml_type, rows).reshape(len(rows), raw.ne[0])


def row_values(header: GgufHeader, raw: RawTensor, rows: slice, name: str) -> NDArray[np.float32]:
    """Some of a tensor's rows as float32 (rows, ``ne[0]``), however large the whole is.

    Raises:
        ModelError: as for ``read_tensor``.
    """
    data = np.ascontiguousarray(raw.data[rows])
    return _values(header, name, raw.ggml_type, data).reshape(len(data), raw.ne[0])


def row_pieces(raw: RawTensor) -> Iterator[tuple[slice, int]]:
    """(rows, number of their matrix) of a tensor, few enough to be held as float32; each expert is a matrix."""
    step, n_rows = max(1, _PIECE_VALUES // raw.ne[0]), raw.ne[1]
    for matrix in range(len(raw.data) // n_rows):
        end = (matrix + 1) * n_rows
        for start in range(matrix * n_rows, end, step):
            yield slice(start, min(start + step, end)), matrix


def _values(header: GgufHeader, name: str, ggml_type: str, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    if ggml_type in DTYPES:
        return data.view(DTYPES[ggml_type]).astype(np.float32)
    try:
        values = dequantize(data, GGMLQuantizationType(GGML_TYPES[ggml_type][0]))
    except (NotImplementedError, ValueError) as err:
        raise ModelError(
            f"{header.path}: tensor {name!r} is {ggml_type}, which cannot be dequantized here",
            hint="llama-quantize --allow-requantize FILE OUT F16 can",
        ) from err
    return np.asarray(values, dtype=np.float32)


def raw_tensor(header: GgufHeader, name: str) -> RawTensor:
    """The tensor's bytes as stored, mapped from the file (read-only, nothing copied)."""
    shard, tensor = header.find(name)
    shape = (tensor.n_elements // tensor.ne[0], tensor_bytes(tensor.ne[:1], tensor.ggml_type))
    at = shard.data_offset + tensor.offset
    data = np.memmap(shard.path, dtype=np.uint8, mode="r", offset=at, shape=shape)
    return RawTensor(ggml_type=tensor.ggml_type, ne=tensor.ne, data=data)


def was_quantized(header: GgufHeader) -> bool:
    """Whether any tensor is stored in a quantized ggml type."""
    return any(t.ggml_type not in UNQUANTIZED for t in header.tensors)


def tensor_section_sha256(path: Path) -> str:
    """sha256 of the tensor data alone (all shards in order), so that metadata may differ."""
    digest = hashlib.sha256()
    for shard in read_header(path).shards:
        with shard.path.open("rb") as file:
            file.seek(shard.data_offset)
            while piece := file.read(_CHUNK):
                digest.update(piece)
    return digest.hexdigest()


def size_label(tensors: Iterable[TensorInfo], *, of_experts: bool = True) -> str:
    """What ``general.size_label`` says of a model with these tensors: ``1.1B``, or ``8x7B`` where there are experts.

    Args:
        of_experts: False says ``47B`` of the latter.

    Source: gguf-py/gguf/gguf_writer.py ``get_total_parameter_count``, utility.py ``size_label``.
    """
    total = shared = of_one = n_counted = n_tensors = 0
    for tensor in tensors:
        shape, n = tuple(reversed(tensor.ne)), tensor.n_elements
        total += n
        if "_exps." in tensor.name and len(shape) >= 3:
            n_experts = shape[-2 if ".bias" in tensor.name else -3]
            of_one, n_counted, n_tensors = of_one + n // n_experts, n_counted + n_experts, n_tensors + 1
        else:
            shared += n
    count = n_counted // n_tensors if of_experts and n_tensors else 0
    return str(gguf_size_label(total, shared, of_one, count))


def check_against(path: Path, planned: Sequence[TensorInfo], *, file_bytes: int) -> GgufHeader:
    """The header of a file just written, which holds these tensors in these types and no more.

    Args:
        planned: as ``planned_tensors`` gives them; order does not matter.
        file_bytes: as ``predicted_file_bytes`` gives them.

    Raises:
        ModelError: any difference; the first few are named.
    """
    header = read_header(path)
    want = {t.name: (t.ggml_type, t.ne) for t in planned}
    have = {t.name: (t.ggml_type, t.ne) for t in header.tensors}
    faults = [f"{name} is missing" for name in want if name not in have]
    faults += [f"{name} was not planned" for name in have if name not in want]
    faults += [
        f"{name} is {have[name][0]} {have[name][1]}, planned {want[name][0]} {want[name][1]}"
        for name in want
        if name in have and have[name] != want[name]
    ]
    if header.file_bytes != file_bytes:
        faults.append(f"the file has {header.file_bytes} bytes, predicted {file_bytes}")
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ModelError(
            f"{path}: not as planned: {'; '.join(faults[:5])}{more}",
            hint="delete it and run again; if it comes out the same, the plan is wrong: please report it",
        )
    return header
