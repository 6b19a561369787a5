"""What the header of a safetensors file says: names, dtypes and shapes; the values are not read.

Source: the format's own description, github.com/huggingface/safetensors: eight bytes of length, a JSON object with a
dtype, a shape and a span of bytes for each tensor, then the data without gaps.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lwq.errors import ModelError
from lwq.gguf.reader import AGAIN, shown
from lwq.store.files import os_errors

DTYPES: Final[Mapping[str, int]] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2,
    "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip
"""dtype → bytes of an item."""
_MOST: Final = 1 << 25
"""Bytes of a header that are read: the format allows three times as many, no model needs them."""
_MOST_ITEMS: Final = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor of a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    n_bytes: int

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)


def read_safetensors(path: Path) -> tuple[StoredTensor, ...]:
    """The tensors of a file, checked against its size.

    Raises:
        ModelError: a Git LFS pointer, no safetensors file, or one that is cut short.
    """
    with os_errors("read it", path), path.open("rb") as file:
        n_file = path.stat().st_size
        start = file.read(8)
        if (start + file.read(32)).startswith(b"version https://git-lfs"):
            raise ModelError(f"{path}: a Git LFS pointer, not the file itself", hint="run `git lfs pull` in its folder")
        n_header = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= n_header <= min(_MOST, n_file - 8):
            raise ModelError(f"{path}: is no safetensors file, or cut short ({n_file:,} bytes)", hint=AGAIN)
        file.seek(8)
        raw = file.read(n_header)
    return parse_header(raw, n_file - 8 - n_header, str(path))


def parse_header(raw: bytes, n_data: int, where: str) -> tuple[StoredTensor, ...]:
    """The tensors of a header's JSON, whose data take ``n_data`` bytes.

    Raises:
        ModelError: not of the format, or data that reach past the end.
    """
    try:
        stated: dict[str, Any] = json.loads(raw, object_pairs_hook=_once)
        entries = {name: entry for name, entry in stated.items() if name != "__metadata__"}
        tensors = tuple(_tensor(name, entry) for name, entry in entries.items())
        spans = sorted((tuple(entry["data_offsets"]), name) for name, entry in entries.items())
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        what = str(error)[:200]
        raise ModelError(f"{where}: its header is not of the safetensors format: {what}", hint=AGAIN) from None
    end = 0
    for (first, last), name in spans:
        if first != end:
            raise ModelError(f"{where}: {shown(name)} begins at byte {first:,} of the data, not at {end:,}", hint=AGAIN)
        end = last
    if end > n_data:
        raise ModelError(f"{where}: cut short: its tensors need {end:,} bytes, {n_data:,} are there", hint=AGAIN)
    return tensors


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON in which no key stands twice."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError(f"{shown(Counter(name for name, _ in pairs).most_common(1)[0][0])} appears twice")
    return found


def _tensor(name: str, entry: Mapping[str, Any]) -> StoredTensor:
    (first, last), shape, dtype = entry["data_offsets"], tuple(entry["shape"]), entry["dtype"]
    if not name or not name.isprintable() or not isinstance(dtype, str):
        raise ValueError(f"{shown(name)} of {shown(dtype)} is no name of a tensor and its dtype")
    if any(type(n) is not int or not 0 <= n < _MOST_ITEMS for n in (first, last, *shape)):
        raise ValueError(f"{shown(name)} has a shape or a place that no tensor has: {shown((first, last, *shape))}")
    n_bytes, item = last - first, DTYPES.get(dtype)
    if n_bytes < 0 or (item is not None and n_bytes != item * math.prod(shape)):
        raise ValueError(f"{shown(name)} has {n_bytes} bytes for {shown(shape)} of {shown(dtype)}")
    return StoredTensor(name=name, dtype=dtype, shape=shape, n_bytes=n_bytes)
