"""Whole mixes in process: every tensor in the type that a file would give it, scored without writing the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lwq.bits.stock import is_refused
from lwq.engine.engine import Engine
from lwq.errors import ModelError
from lwq.gguf.data import raw_tensor, read_tensor
from lwq.llama.machine import available_memory_bytes
from lwq.metrics.arrays import Bytes, Floats
from lwq.metrics.divergence import Scores

_CACHE_SHARE: Final = 0.3
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
    """

    def __init__(
        self, engine: Engine, importance: Mapping[str, Floats], repaired: Mapping[str, Floats] | None = None
    ) -> None:
        self.engine = engine
        self.importance = importance
        self.repaired = repaired or {}
        self.now: dict[str, tuple[str, bool]] = {}
        self._kept: dict[tuple[str, str, bool], Bytes] = {}
        self._room = int(available_memory_bytes() * _CACHE_SHARE)

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
        values = self.repaired.get(name)
        if values is None:
            raw = raw_tensor(engine.header, name)
            if raw.ggml_type == ggml_type:
                return np.ascontiguousarray(raw.data)
            values = read_tensor(engine.header, name)
        if not np.isfinite(values).all():
            raise ModelError(f"{engine.path.name}: {name} has values that are not finite", hint="the model is broken")
        if importance is None and (engine.ggml.needs_importance(ggml_type) or is_refused(name, ggml_type)):
            raise ModelError(
                f"{name}: {ggml_type} cannot be made without importance data, and the matrix has none for it",
                hint="allow coarser or finer types there (`types`), or collect the matrix on more text",
            )
        stack = values.reshape(-1, *values.shape[-2:])
        rows = [
            engine.ggml.quantize(part, ggml_type, None if importance is None else importance[i], engine.n_threads)
            for i, part in enumerate(stack)
        ]
        return np.concatenate(rows)

    def put(self, types: Mapping[str, str], unweighted: frozenset[str] = frozenset()) -> None:
        """Puts a mix in place; tensors that it does not name are as they were loaded.

        Args:
            unweighted: tensors whose importance data the mix does not use.
        """
        for name in [n for n in self.now if n not in types]:
            self.engine.restore(name)
            del self.now[name]
        for name, ggml_type in types.items():
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
