"""Whole mixes in process: every tensor in the type that a file would give it, scored without writing the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np

from lwq.bits.stock import is_refused
from lwq.engine.engine import Engine
from lwq.errors import ModelError
from lwq.gguf.data import raw_tensor, row_pieces, row_values
from lwq.gguf.types import tensor_bytes
from lwq.llama.machine import room_bytes
from lwq.metrics.arrays import Bytes, Floats
from lwq.metrics.divergence import Scores
from lwq.values.compensated import Compensated

Rounding: TypeAlias = Literal["weighted", "unweighted", "compensated"]
"""How a tensor's values are chosen: as by llama-quantize, with importance data or without; or compensated."""
_ENOUGH: Final = 0.08
"""Relative standard error at which a probe needs no more windows."""


def probed(n_ctx: int) -> range:
    """The positions of a window that probes score: every second one, from 64 tokens (of a small window, half) on.

    Neighbours say much the same, and each costs a row of the output multiplication.
    """
    return range(min(64, n_ctx // 2), n_ctx - 1, 2)


class Mixer:
    """Tensors of one engine quantized as llama-quantize would, and the mix that is in place now.

    Args:
        importance: tensor → float32 (experts, row length), as ``importance_rows`` gives it.
        repaired: tensors whose values are not those of the file.
        compensated: where tensors with compensated values are had; then these are what is measured.
    """

    def __init__(
        self,
        engine: Engine,
        importance: Mapping[str, Floats],
        repaired: Mapping[str, Floats] | None = None,
        compensated: Compensated | None = None,
    ) -> None:
        self.engine = engine
        self.importance = importance
        self.repaired = repaired or {}
        self.compensated = compensated
        self.now: dict[str, tuple[str, Rounding]] = {}
        self._kept: dict[tuple[str, str, Rounding], Bytes] = {}
        self._room = room_bytes(engine.header.file_bytes)

    @property
    def usual(self) -> Rounding:
        """How values are chosen where nothing else is said."""
        return "compensated" if self.compensated else "weighted"

    def stored(self, name: str, ggml_type: str, rounding: Rounding | None = None) -> Bytes:
        """A tensor's bytes in that type: as llama-quantize writes them, with the importance matrix or without, or with
        compensated values where those are better.

        Raises:
            ModelError: values that are not finite, or a type that needs importance data where there are none.
        """
        rounding = rounding or self.usual
        key = (name, ggml_type, rounding)
        if key not in self._kept:
            data = self.compensated.stored(name, ggml_type) if rounding == "compensated" and self.compensated else None
            if data is None:
                importance = None if rounding == "unweighted" else self.importance.get(name)
                data = self._quantized(name, ggml_type, importance)
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
        for rows, matrix in row_pieces(raw):
            values = repaired.reshape(-1, raw.ne[0])[rows] if repaired is not None else None
            values = row_values(engine.header, raw, rows, name) if values is None else values
            if not np.isfinite(values).all():
                why = f"{engine.path.name}: {name} has values that are not finite"
                raise ModelError(why, hint="the model is broken")
            row = None if importance is None else importance[matrix]
            stored[rows] = engine.ggml.quantize(values, ggml_type, row, engine.n_threads)
        return stored

    def put(
        self, types: Mapping[str, str], unweighted: frozenset[str] = frozenset(), rounding: Rounding | None = None
    ) -> None:
        """Puts a mix in place; tensors that it does not name, or that the graph does not read, are as they were loaded.

        Args:
            unweighted: tensors whose importance data the mix does not use.
            rounding: of the others.
        """
        for name in [n for n in self.now if n not in types]:
            self.engine.restore(name)
            del self.now[name]
        assert self.engine.graph
        for name, ggml_type in types.items():
            if name not in self.engine.graph.weights:
                continue
            how: Rounding = "unweighted" if name in unweighted else rounding or self.usual
            wanted = (ggml_type, how)
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
