"""The importance of the output tensor, which llama-imatrix leaves out where it is the token embedding.

It collects data for layers, and for ``output.weight`` if asked; a tied ``token_embd.weight`` never gets any, so
llama-quantize rounds the largest tensor of a small model blindly. It does use an entry of that name if there is one.
Source: tools/imatrix/imatrix.cpp ``collect_imatrix``; src/llama-quant.cpp at the pinned commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from lwq.engine.engine import Engine
from lwq.engine.graph import read_node
from lwq.gguf.data import read_tensor
from lwq.gguf.header import read_array, read_header
from lwq.gguf.reader import BigArray
from lwq.gguf.statistics import ImatrixEntry
from lwq.gguf.types import renumber
from lwq.gguf.write import write_gguf
from lwq.metrics.arrays import Bytes, Tokens
from lwq.store.files import link_or_copy


def output_entry(engine: Engine, windows: Tokens, known: Iterable[ImatrixEntry]) -> tuple[ImatrixEntry, ...]:
    """Σ x² of what enters the output multiplication, if the matrix has no such entry; else nothing."""
    assert engine.graph
    product = next((n for n in reversed(engine.graph.nodes) if n.op in engine.ggml.products), None)
    if product is None:
        return ()
    name = read_node(product.src[0]).name
    if name not in engine.graph.weights or name in {entry.name for entry in known}:
        return ()
    n_channels = engine.ggml.shape(product.src[1])[0]
    total = np.zeros(n_channels, np.float64)
    n_tokens = 0

    def add(_: int, data: Bytes) -> None:
        nonlocal n_tokens
        rows = data.view(np.float32).reshape(-1, n_channels)
        total[:] += (rows.astype(np.float64) ** 2).sum(axis=0)
        n_tokens += len(rows)

    for tokens in windows:
        engine.observe(tokens, (product.src[1],), add)
    counts = np.array([n_tokens], np.int64)
    return (ImatrixEntry(name=name, in_sum2=total.astype(np.float32)[None], counts=counts),)


def write_with(source: Path, more: tuple[ImatrixEntry, ...], path: Path, without: Collection[int] = ()) -> None:
    """The importance matrix with further entries, or of a model without some layers; the same file where neither is."""
    if not more and not without:
        link_or_copy(source.resolve(), path)
        return
    header = read_header(source)
    metadata = {k: read_array(header, k) if isinstance(v, BigArray) else v for k, v in header.metadata.items()}
    names = {t.name: renumber(t.name, without) for t in header.tensors}
    tensors = {new: read_tensor(header, old) for old, new in names.items() if new}
    for entry in more:
        tensors[f"{entry.name}.in_sum2"] = entry.in_sum2
        tensors[f"{entry.name}.counts"] = entry.counts.astype(np.float32)[:, None]
    write_gguf(path, metadata, tensors)
