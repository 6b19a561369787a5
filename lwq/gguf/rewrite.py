"""A copy of a GGUF without some layers, with some metadata and tensors of its own; all other bytes as they were."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import numpy as np

from lwq.errors import ModelError
from lwq.gguf.data import check_against, size_label
from lwq.gguf.header import GgufHeader
from lwq.gguf.parse import ARRAY, SCALARS, STRING, MetaEntry, Scalar
from lwq.gguf.size import SPLIT_KEYS, planned_tensors
from lwq.gguf.types import GGML_TYPES, TensorInfo, padded, renumber
from lwq.metrics.arrays import Floats
from lwq.store.files import need_space, os_errors, replacing

NewValue: TypeAlias = Scalar | tuple[Scalar, ...]

_PIECE_BYTES: Final = 8 << 20
_NUMBERS: Final = {name: (number, code) for number, (name, code) in SCALARS.items()}
_KEYED: Final = re.compile(r"^\d+x")


@dataclass(frozen=True, slots=True)
class _Written:
    """A tensor of the new file and where its data comes from."""

    info: TensorInfo
    source: tuple[Path, int] | None
    """File and offset in it; None where ``values`` are given."""
    values: Floats | None = None


def rewrite_gguf(
    source: GgufHeader,
    out: Path,
    *,
    layers: Collection[int] = (),
    metadata: Mapping[str, NewValue],
    tensors: Mapping[str, Floats],
) -> GgufHeader:
    """The header of the copy that was written to ``out``, one file whatever the source was.

    Args:
        layers: those that go; the others are numbered anew.
        metadata: keys that are replaced (their value types stay) or added.
        tensors: values that are stored in place of the source's, in its ggml type, or added in f32; by the names
            that the source has or would have, in numpy order.

    Raises:
        ModelError: a tensor that cannot be stored, or of a layer that goes.
        FileError, SpaceError: what cannot be read or written.
    """
    if out.resolve() in {shard.path.resolve() for shard in source.shards}:
        raise ModelError(f"{out}: is a file of the model itself", hint="name another file")
    written = _laid_out(_planned(source, frozenset(layers), tensors), source.alignment)
    infos = tuple(w.info for w in written)
    kv = list(_kv(source, _with_label(source, infos, layers, metadata)))
    head = _head(kv, infos)
    head += bytes(padded(len(head), source.alignment) - len(head))
    n_bytes = len(head) + sum(padded(info.n_bytes, source.alignment) for info in infos)
    need_space(out.parent, n_bytes, out.name)
    with replacing(out) as file:
        file.write(head)
        for tensor in written:
            _write_data(file, tensor)
            file.write(bytes(padded(tensor.info.n_bytes, source.alignment) - tensor.info.n_bytes))
    return check_against(out, infos, file_bytes=n_bytes)


# tensors


def _planned(source: GgufHeader, gone: frozenset[int], tensors: Mapping[str, Floats]) -> list[_Written]:
    """What is written, in the order in which llama-quantize writes; offsets are set later."""
    found = {renumber(t.name, gone): (shard, t) for shard in source.shards for t in shard.tensors}
    planned: list[_Written] = []
    for name in (t.name for t in planned_tensors(source, types={}, pruned=gone)):
        shard, tensor = found[name]
        values = tensors.get(tensor.name)
        if values is not None:
            _check_values(tensor, values)
        place = None if values is not None else (shard.path, shard.data_offset + tensor.offset)
        planned.append(_Written(replace(tensor, name=name), place, values))
    known = {t.name for _, t in found.values()}
    for name, values in tensors.items():
        new_name = renumber(name, gone)
        if new_name is None:
            raise ModelError(f"{name}: its layer is removed", hint="replace tensors of layers that stay")
        if name not in known:
            _add(planned, _Written(TensorInfo(name=new_name, ne=values.shape[::-1], ggml_type="f32"), None, values))
    return planned


def _check_values(tensor: TensorInfo, values: Floats) -> None:
    if values.shape != tuple(reversed(tensor.ne)):
        raise ModelError(f"{tensor.name}: has shape {tuple(reversed(tensor.ne))}, its new values {values.shape}")
    if tensor.ggml_type not in ("f32", "f16", "bf16"):
        raise ModelError(
            f"{tensor.name}: is {tensor.ggml_type}; new values can be stored as f32, f16 or bf16",
            hint="start from the base in F16, BF16 or F32",
        )


def _add(planned: list[_Written], added: _Written) -> None:
    """Puts a tensor behind those of its module, else of its layer, else at the end."""
    module = added.info.name.rpartition(".")[0]
    behind = [i for i, w in enumerate(planned) if w.info.name.rpartition(".")[0] == module]
    behind = behind or [i for i, w in enumerate(planned) if w.info.layer == added.info.layer]
    planned.insert(behind[-1] + 1 if behind else len(planned), added)


def _laid_out(planned: Iterable[_Written], alignment: int) -> list[_Written]:
    found, offset = [], 0
    for tensor in planned:
        found.append(replace(tensor, info=replace(tensor.info, offset=offset)))
        offset += padded(tensor.info.n_bytes, alignment)
    return found


def _write_data(file: BinaryIO, tensor: _Written) -> None:
    if tensor.source is None:
        assert tensor.values is not None
        file.write(_stored(tensor.values, tensor.info.ggml_type))
        return
    path, offset = tensor.source
    with os_errors("read it", path), path.open("rb") as source:
        source.seek(offset)
        left = tensor.info.n_bytes
        while piece := source.read(min(left, _PIECE_BYTES)):
            file.write(piece)
            left -= len(piece)
    if left:
        raise ModelError(f"{path}: ends within tensor {tensor.info.name!r}", hint="it changed while it was copied")


def _stored(values: Floats, ggml_type: str) -> bytes:
    """The bytes of values in f32, f16 or bf16, rounded to nearest even.

    Source: ggml/src/ggml-impl.h ``ggml_compute_fp32_to_bf16``.
    """
    values = np.ascontiguousarray(values, dtype="<f4")
    if ggml_type == "f32":
        return values.tobytes()
    if ggml_type == "f16":
        with np.errstate(over="ignore"):
            return values.astype("<f2").tobytes()
    bits = values.view("<u4")
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(is_nan, (bits >> 16) | 64, rounded).astype("<u2").tobytes()


# metadata


def _with_label(
    source: GgufHeader, infos: Iterable[TensorInfo], layers: Collection[int], metadata: Mapping[str, NewValue]
) -> Mapping[str, NewValue]:
    """The new metadata, with a size label that fits what is left where the source has one."""
    label = source.text("general.size_label")
    if not layers or not label or "general.size_label" in metadata:
        return metadata
    return {**metadata, "general.size_label": size_label(infos, of_experts=bool(_KEYED.match(label)))}


def _kv(source: GgufHeader, metadata: Mapping[str, NewValue]) -> Iterator[bytes]:
    """Every key with its value, as bytes: the source's without those of a split, then the new ones."""
    path, known = source.shards[0].path, {entry.key: entry for entry in source.entries}
    with os_errors("read it", path), path.open("rb") as file:
        for entry in source.entries:
            if entry.key in metadata:
                yield _encoded(entry.key, metadata[entry.key], entry)
            elif entry.key not in SPLIT_KEYS:
                file.seek(entry.offset)
                yield file.read(entry.n_bytes)
    yield from (_encoded(key, value, None) for key, value in metadata.items() if key not in known)


def _encoded(key: str, value: NewValue, entry: MetaEntry | None) -> bytes:
    """A key, the type of its value and the value."""
    items = value if isinstance(value, tuple) else (value,)
    kind = _item_type(items, isinstance(value, tuple), entry)
    number = STRING if kind == "string" else _NUMBERS[kind][0]
    head = _string(key)
    if isinstance(value, tuple):
        head += struct.pack("<iiQ", ARRAY, number, len(items))
    else:
        head += struct.pack("<i", number)
    try:
        if kind == "string":
            return head + b"".join(_string(str(item)) for item in items)
        return head + struct.pack(f"<{len(items)}{_NUMBERS[kind][1]}", *items)
    except struct.error as error:
        raise ModelError(f"{key}: {value!r} does not fit in {kind}") from error


def _item_type(items: tuple[Scalar, ...], is_array: bool, entry: MetaEntry | None) -> str:
    """The value type that the key has, if the new value is of its sort; else the usual one."""
    sort: type = str if any(isinstance(i, str) for i in items) else int
    sort = float if any(isinstance(i, float) for i in items) else sort
    if entry is not None and entry.value_type.startswith("array[") == is_array:
        kind = entry.value_type.removeprefix("array[").removesuffix("]")
        of = str if kind == "string" else float if kind.startswith("float") else int
        if of is sort or (of is float and sort is int):
            return kind
    if sort is int:
        if items and all(isinstance(i, bool) for i in items):
            return "bool"
        return "int32" if is_array or any(i < 0 for i in items if not isinstance(i, str)) else "uint32"
    return "string" if sort is str else "float32"


def _string(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _head(kv: list[bytes], infos: tuple[TensorInfo, ...]) -> bytes:
    """The file up to its data, unpadded, in version 3."""
    parts = [b"GGUF", struct.pack("<Iqq", 3, len(infos), len(kv)), *kv]
    for info in infos:
        number = GGML_TYPES[info.ggml_type][0]
        parts.append(_string(info.name) + struct.pack("<I", len(info.ne)) + struct.pack(f"<{len(info.ne)}q", *info.ne))
        parts.append(struct.pack("<iQ", number, info.offset))
    return b"".join(parts)
