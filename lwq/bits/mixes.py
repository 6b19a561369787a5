"""Whole mixes in process: every tensor in the type that a file would give it, scored without writing the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from lwq.bits.stock import is_refused
from lwq.engine.engine import Engine
from lwq.errors import ModelError
from lwq.gguf.data import RawTensor, raw_tensor, row_values
from lwq.gguf.types import tensor_bytes
from lwq.llama.machine import room_bytes
from lwq.metrics.arrays import Bytes, Floats
from lwq.metrics.divergence import Scores

_PIECE_VALUES: Final = 1 << 24
"""Values that are dequantized and quantized at once: 64 MiB as float32."""
_ENOUGH: Final = 0.08
"""Relative standard error at which a probe needs no more windows."""


def probed(n_ctx: int) -> range:
    """The positions of a window that probes score: every second one, from 64 tokens (of a small window, half) on.

    Neighbours say much the same, and each costs a row of the output multiplication.
    """
    return range(min(64, n_ctx // 2), n_ctx - 1, 2)


def _pieces(raw: RawTensor) -> Iterator[tuple[slice, int]]:
    """(rows, number of their matrix) of a tensor, few enough to be held as float32; each expert is a matrix."""
    step, n_rows = max(1, _PIECE_VALUES // raw.ne[0]), raw.ne[1]
    for matrix in range(len(raw.data) // n_rows):
        end = (matrix + 1) * n_rows
        for start in range(matrix * n_rows, end, step):
            yield slice(start, min(start + step, end)), matrix


class Mixer:
    """Tensors of one engine quantized as llama-quantize would, and the mix that is in place now.

    Args:
        importance: tensor → float32 (experts, row length), as ``importance_rows`` gives it.
        repaired: tensors whose values are not those of the file.
    """

    def __init__(
        self, engine: Engine, importance: Mapping[str, Floats], repaired: Mapping[str, Floats] | None = None
    ) -> None:
        self.engine = engine
        self.importance = importance
        self.repaired = repaired or {}
        self.now: dict[str, tuple[str, bool]] = {}
        self._kept: dict[tuple[str, str, bool], Bytes] = {}
        self._room = room_bytes(engine.header.file_bytes)

    def stored(self, name: str, ggml_type: str, weighted: bool = True) -> Bytes:
        """A tensor's bytes in that type, as llama-quantize writes them (``weighted``: with the importance matrix).

        Raises:
            ModelError: values that are not finite, or a type that needs importance data where there are none.
        """
        key = (name, ggml_type, weighted)
        if key not in self._kept:
            data = self._quantized(name, ggml_type, self.importance.get(name) if weighted else None)
            if data.nbytes <= self._room:
                self._room -= data.nbytes
                self._kept[key] = data
            return data
        return self._kept[key]

    def _quantized(self, name: str, ggml_type: str, importance: Floats | None) -> Bytes:
        engine = self.engine
        raw, repaired = raw_tensor(engine.header, name), self.repaired.get(name)
        if repaired is None and raw.ggml_type == ggml_type:
            return np.ascontiguousarray(raw.data)
        if importance is None and (engine.ggml.needs_importance(ggml_type) or is_refused(name, ggml_type)):
            raise ModelError(
                f"{name}: {ggml_type} cannot be made without importance data, and the matrix has none for it",
                hint="allow coarser or finer types there (`types`), or collect the matrix on more text",
            )
        stored = np.empty((len(raw.data), tensor_bytes(raw.ne[:1], ggml_type)), np.uint8)
        for rows, matrix in _pieces(raw):
            values = repaired.reshape(-1, raw.ne[0])[rows] if repaired is not None else None
            values = row_values(engine.header, raw, rows, name) if values is None else values
            if not np.isfinite(values).all():
                why = f"{engine.path.name}: {name} has values that are not finite"
                raise ModelError(why, hint="the model is broken")
            row = None if importance is None else importance[matrix]
            stored[rows] = engine.ggml.quantize(values, ggml_type, row, engine.n_threads)
        return stored

    def put(self, types: Mapping[str, str], unweighted: frozenset[str] = frozenset()) -> None:
        """Puts a mix in place; tensors that it does not name, or that the graph does not read, are as they were loaded.

        Args:
            unweighted: tensors whose importance data the mix does not use.
        """
        for name in [n for n in self.now if n not in types]:
            self.engine.restore(name)
            del self.now[name]
        assert self.engine.graph
        for name, ggml_type in types.items():
            if name not in self.engine.graph.weights:
                continue
            wanted = (ggml_type, name not in unweighted)
            if self.now.get(name) != wanted:
                self.engine.swap(name, ggml_type, self.stored(name, *wanted))
                self.now[name] = wanted

    def probe(self, name: str, ggml_type: str, windows: Sequence[int] | None = None) -> Scores:
        """Scores with this one tensor in that type and all others as they are; it is put back afterwards."""
        before = self.now.get(name)
        self.engine.swap(name, ggml_type, self.stored(name, ggml_type))
        try:
            return self.engine.score(name, windows=windows)
        finally:
            if before is None:
                self.engine.restore(name)
            else:
                self.engine.swap(name, before[0], self.stored(name, *before))

    def measured(self, name: str, ggml_type: str) -> tuple[float, float]:
        """(KLD in nats, standard error) of a probe: two windows, and more while the error is large."""
        n_windows = len(self.engine.windows)
        n = min(2, n_windows)
        scores = self.probe(name, ggml_type, windows=range(n))
        while n < n_windows and scores.kld_stderr() > _ENOUGH * scores.mean_kld > 0:
            scores = scores.with_more(self.probe(name, ggml_type, windows=[n]))
            n += 1
        return max(0.0, scores.mean_kld), scores.kld_stderr()
