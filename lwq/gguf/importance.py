"""Importance rows as llama-quantize forms them from an importance matrix, checked against the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lwq.errors import ModelError
from lwq.gguf.statistics import ImatrixEntry
from lwq.gguf.types import TensorInfo
from lwq.metrics.arrays import Floats


def importance_rows(entries: Iterable[ImatrixEntry], tensors: Iterable[TensorInfo]) -> Mapping[str, Floats]:
    """Tensor → mean squared activations, float32 of shape (experts, row length); tensors without data are left out.

    An expert that no token reached has weight 1, as in llama-quantize.
    Source: tools/quantize/quantize.cpp ``load_imatrix``.

    Raises:
        ModelError: an imatrix of another model, or sums that are not finite or below zero.
    """
    by_name = {entry.name: entry for entry in entries}
    rows = {}
    tensors = tuple(tensors)
    for tensor in tensors:
        if (entry := by_name.get(tensor.name)) is not None:
            rows[tensor.name] = _rows(entry, tensor)
    if by_name and not rows:
        raise ModelError(
            f"the importance matrix has no tensor of this model (it has {next(iter(by_name))}, …)",
            hint="collect it from this model: `llama-imatrix -m BASE -f TEXT`",
        )
    return rows


def _rows(entry: ImatrixEntry, tensor: TensorInfo) -> Floats:
    """The means in the order of the tensor's matrices, whatever the rows in which they were collected.

    Of multiplications by many matrices that are no experts (``attn_k_b``), llama-imatrix stores one row for all.
    """
    n_experts = tensor.ne[2] if len(tensor.ne) > 2 else 1
    if entry.in_sum2.size != n_experts * tensor.ne[0]:
        have = "×".join(map(str, entry.in_sum2.shape))
        raise ModelError(
            f"the importance matrix has {have} sums for {tensor.name}, which needs {n_experts}×{tensor.ne[0]}",
            hint="it was collected from another model; collect it from this one",
        )
    if not np.isfinite(entry.in_sum2).all() or (entry.in_sum2 < 0).any():
        raise ModelError(
            f"the importance matrix has sums for {tensor.name} that are not finite or below zero",
            hint="collect it anew; `lwq stats` shows its figures",
        )
    counts = entry.counts.astype(np.float32)[:, None]
    means = np.where(counts > 0, entry.in_sum2 / np.maximum(counts, 1), np.float32(1)).astype(np.float32)
    return means.reshape(n_experts, tensor.ne[0])
