"""A copy of a GGUF without some layers, with some metadata and tensors of its own; all other bytes as they were."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from lwq.errors import ModelError
from lwq.gguf.data import check_against, raw_tensor, size_label
from lwq.gguf.header import GgufHeader
from lwq.gguf.size import SPLIT_KEYS, planned_tensors
from lwq.gguf.types import TensorInfo, padded, renumber
from lwq.gguf.write import DataPieces, NewValue, encoded_head, encoded_key, rounded, with_offsets, write_parts
from lwq.metrics.arrays import Bytes, Floats
from lwq.store.files import need_space, os_errors, replacing

_PIECE_BYTES: Final = 8 << 20
_KEYED: Final = re.compile(r"^\d+x")


@dataclass(frozen=True, slots=True)
class _Written:
    """A tensor of the new file and where its data comes from."""

    info: TensorInfo
    source: tuple[Path, int] | None
    """File and offset in it; None where ``values`` are given."""
    values: Floats | None = None


def overwrite(header: GgufHeader, name: str, data: Bytes) -> None:
    """Puts other bytes in place of a tensor's, in the file itself, and reads them back.

    Raises:
        ModelError: not as many bytes, or the file holds others afterwards.
        SpaceError, FileError: they cannot be written.
    """
    shard, tensor = header.find(name)
    if data.nbytes != tensor.n_bytes:
        raise ModelError(f"{name}: {data.nbytes} bytes do not replace {tensor.n_bytes}")
    with os_errors("write it", shard.path), shard.path.open("r+b") as file:
        file.seek(shard.data_offset + tensor.offset)
        file.write(np.ascontiguousarray(data).data)
        file.flush()
        os.fsync(file.fileno())
    if not np.array_equal(raw_tensor(header, name).data.reshape(-1), data.reshape(-1)):
        raise ModelError(f"{shard.path}: {name} does not hold what was written", hint="is the disk sound?")


def rewrite_gguf(
    source: GgufHeader,
    out: Path,
    *,
    layers: Collection[int] = (),
    metadata: Mapping[str, NewValue],
    tensors: Mapping[str, Floats],
    with_data: bool = True,
) -> GgufHeader:
    """The header of the copy that was written to ``out``, one file whatever the source was.

    Args:
        layers: those that go; the others are numbered anew.
        metadata: keys that are replaced (their value types stay) or added.
        tensors: values that are stored in place of the source's, in its ggml type, or added in f32; by the names
            that the source has or would have, in numpy order.
        with_data: False leaves zeros in place of all data, in a sparse file.

    Raises:
        ModelError: a tensor that cannot be stored, or of a layer that goes.
        FileError, SpaceError: what cannot be read or written.
    """
    if out.resolve() in {shard.path.resolve() for shard in source.shards}:
        raise ModelError(f"{out}: is a file of the model itself", hint="name another file")
    planned = _planned(source, frozenset(layers), tensors)
    infos = with_offsets((tensor.info for tensor in planned), source.alignment)
    kv = list(_kv(source, _with_label(source, infos, layers, metadata)))
    head = encoded_head(kv, infos, source.alignment)
    n_bytes = len(head) + sum(padded(info.n_bytes, source.alignment) for info in infos)
    need_space(out.parent, n_bytes if with_data else len(head), out.name)
    data = ((tensor.info, _data_of(tensor)) for tensor in planned)
    with replacing(out) as file:
        if with_data:
            write_parts(file, head, data, source.alignment)
        else:
            file.write(head)
            file.truncate(n_bytes)
    return check_against(out, infos, file_bytes=n_bytes)


# tensors


def _planned(source: GgufHeader, gone: frozenset[int], tensors: Mapping[str, Floats]) -> list[_Written]:
    """What is written, in the order in which llama-quantize writes; offsets are set later."""
    by_new_name = {renumber(t.name, gone): (shard, t) for shard in source.shards for t in shard.tensors}
    planned: list[_Written] = []
    for name in (t.name for t in planned_tensors(source, types={}, pruned=gone)):
        shard, tensor = by_new_name[name]
        values = tensors.get(tensor.name)
        if values is not None:
            _check_values(tensor, values)
        place = None if values is not None else (shard.path, shard.data_offset + tensor.offset)
        planned.append(_Written(replace(tensor, name=name), place, values))
    known = {t.name for _, t in by_new_name.values()}
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


def _data_of(tensor: _Written) -> DataPieces:
    if tensor.source is None:
        assert tensor.values is not None
        return rounded(tensor.values, tensor.info.ggml_type)
    return _copied(*tensor.source, tensor.info)


def _copied(path: Path, offset: int, info: TensorInfo) -> Iterator[bytes]:
    with os_errors("read it", path), path.open("rb") as source:
        source.seek(offset)
        left = info.n_bytes
        while piece := source.read(min(left, _PIECE_BYTES)):
            yield piece
            left -= len(piece)
    if left:
        raise ModelError(f"{path}: ends within tensor {info.name!r}", hint="it changed while it was copied")


# metadata


def _with_label(
    source: GgufHeader, infos: Iterable[TensorInfo], layers: Collection[int], metadata: Mapping[str, NewValue]
) -> Mapping[str, NewValue]:
    """The new metadata, with a size label that fits what is left where the source has one."""
    label = source.text("general.size_label")
    if not layers or not label or "general.size_label" in metadata:
        return metadata
    return {**metadata, "general.size_label": fitting_label(label, infos)}


def fitting_label(label: str, tensors: Iterable[TensorInfo]) -> str:
    """A size label in the form of ``label`` that fits these tensors."""
    return size_label(tensors, of_experts=bool(_KEYED.match(label)))


def _kv(source: GgufHeader, metadata: Mapping[str, NewValue]) -> Iterator[bytes]:
    """Every key with its value, as bytes: the source's without those of a split, then the new ones."""
    path, known = source.shards[0].path, {entry.key: entry for entry in source.entries}
    with os_errors("read it", path), path.open("rb") as file:
        for entry in source.entries:
            if entry.key in metadata:
                yield encoded_key(entry.key, metadata[entry.key], entry)
            elif entry.key not in SPLIT_KEYS:
                file.seek(entry.offset)
                yield file.read(entry.n_bytes)
    yield from (encoded_key(key, value) for key, value in metadata.items() if key not in known)
