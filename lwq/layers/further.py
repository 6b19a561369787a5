"""A model without the blocks that predict further tokens (MTP), which the graph of the next token does not read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from lwq.errors import ModelError
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.rewrite import rewrite_gguf
from lwq.layers.pruning import NOT_PER_LAYER, Changes
from lwq.llama.toolchain import home
from lwq.store.files import lock, os_errors

_READ: Final = ("granite-switch",)
"""Architectures whose graph reads that block: it is a router. Source: src/models/granite-switch.cpp."""


def without_further(header: GgufHeader) -> Changes:
    """The keys that must change when the blocks of further tokens go: counts, and arrays of one value a block.

    Raises:
        ModelError: the model's own graph reads them.
    """
    architecture, metadata = header.architecture, header.metadata
    if architecture in _READ:
        raise ModelError(
            f"{header.path}: the last block of {architecture!r} is a router, which the next token needs",
            hint='set mtp = "keep"',
        )
    prefix = f"{architecture}."
    changes: Changes = {f"{prefix}block_count": header.n_layer, f"{prefix}nextn_predict_layers": 0}
    for key, value in metadata.items():
        is_ours = key.startswith(prefix) and key.removeprefix(prefix) not in NOT_PER_LAYER
        if is_ours and isinstance(value, tuple) and len(value) == header.n_layer_all:
            changes[key] = value[: header.n_layer]
    return changes


def drop_further(header: GgufHeader, out: Path, *, with_data: bool = True) -> GgufHeader:
    """The header of the copy without the blocks of further tokens that was written to ``out``.

    Args:
        with_data: False leaves zeros in place of the tensors' data, in a sparse file.

    Raises:
        ModelError: there are none, or the model's own graph reads them.
    """
    if not header.n_layer_nextn:
        raise ModelError(f"{header.path}: no block of it predicts further tokens", hint="use it as it is")
    gone = range(header.n_layer, header.n_layer_all)
    return rewrite_gguf(header, out, layers=gone, metadata=without_further(header), tensors={}, with_data=with_data)


def header_without_further(header: GgufHeader) -> GgufHeader:
    """The header of what ``drop_further`` would write; of a sparse file that is made once for the files as they are."""
    if not header.n_layer_nextn:
        return header
    paths = [shard.path.resolve() for shard in header.shards]
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    twin = home() / "twins" / f"{hashlib.sha256(repr(('without further', facts)).encode()).hexdigest()[:16]}.gguf"
    with os_errors("make the twin of a model", twin):
        twin.parent.mkdir(parents=True, exist_ok=True)
    with lock(twin.with_suffix(".lock")):
        return read_header(twin) if twin.exists() else drop_further(header, twin, with_data=False)
