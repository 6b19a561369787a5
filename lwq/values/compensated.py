"""Tensors of one model with compensated values, made when they are first asked for and kept in files.

A tensor keeps its stock values where compensated ones do not lower the error of its products on held-out tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, Final

import numpy as np

from lwq.engine.ggml import Ggml
from lwq.gguf.data import RawTensor, raw_tensor, row_pieces, row_values
from lwq.gguf.header import GgufHeader
from lwq.gguf.types import UNQUANTIZED, tensor_bytes
from lwq.metrics.arrays import Bytes, Floats
from lwq.store.files import write_atomic
from lwq.store.pieces import Pieces
from lwq.values.blas import one_blas_thread
from lwq.values.compensation import Compensation
from lwq.values.factor import GramError
from lwq.values.grams import Gathered, Grams

N_JUDGED_ROWS: Final = 256
N_SAMPLED_ROWS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What became of a tensor in a type."""

    error: float
    """Mean of |Q x − W x|² ÷ |W x|² over held-out tokens, with compensated values; 0 where none was measured."""
    stock_error: float
    kept: str
    """Why it keeps its stock values; empty where it does not."""
    sha256: str
    """Of its bytes with compensated values."""
    without_tokens: tuple[int, ...] = ()
    """Experts that no token reached, which have stock values all the same."""


class Compensated:
    """Args:
    importance: tensor → float32 (experts, row length): what stock values are weighted by.
    folder: where tensors are kept; it belongs to these Gram matrices alone.
    """

    def __init__(
        self,
        ggml: Ggml,
        header: GgufHeader,
        grams: Grams,
        importance: Mapping[str, Floats],
        folder: Path,
        n_threads: int,
    ) -> None:
        self.ggml, self.header, self.grams, self.importance = ggml, header, grams, importance
        self.folder, self.n_threads = folder, n_threads
        folder.mkdir(parents=True, exist_ok=True)
        self._verdicts = Pieces(folder / "verdicts.jsonl")
        self._place: tuple[str, Gathered] | None = None
        self._made: tuple[tuple[str, int], Compensation] | None = None
        self._making = RLock()

    def stored(self, name: str, ggml_type: str) -> Bytes | None:
        """A tensor's rows as bytes, or None where it keeps its stock values."""
        if ggml_type in UNQUANTIZED:
            return None
        verdict = self.verdict(name, ggml_type)
        if verdict.kept:
            return None
        path = self._path(name, ggml_type)
        data = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(data).hexdigest() != verdict.sha256:  # lost, harmed, or other libraries round otherwise
            if Judged(**self._verdicts.again(*self._judgement(name, ggml_type))).kept:
                return None
            data = path.read_bytes()
        row_bytes = tensor_bytes(self.header.find(name)[1].ne[:1], ggml_type)
        return np.frombuffer(data, np.uint8).reshape(-1, row_bytes)

    def verdict(self, name: str, ggml_type: str) -> Judged:
        """What becomes of a tensor in a type; made now if it was not before."""
        return Judged(**self._verdicts.get(*self._judgement(name, ggml_type)))

    def ratios(self, name: str, types: Iterable[str]) -> dict[str, float]:
        """Type → error with compensated values ÷ error with stock values, on sampled rows and held-out tokens.

        At most 1; 1 where nothing is known, and for types of 8 bits, whose error is that of rounded activations.
        """

        def ratio(ggml_type: str) -> float:
            known = self._verdicts.get(f"ratio/{name}/{ggml_type}", partial(self._ratio, name, ggml_type))
            return float(known)

        types = tuple(types)
        with one_blas_thread(), ThreadPoolExecutor(self.n_threads) as pool:  # few rows are too few to share
            return dict(zip(types, pool.map(ratio, types), strict=True))

    def _path(self, name: str, ggml_type: str) -> Path:
        return self.folder / f"{name}.{ggml_type}"

    def _judgement(self, name: str, ggml_type: str) -> tuple[str, Callable[[], dict[str, Any]]]:
        """The key under which it is kept, and what makes it."""
        return f"{name}/{ggml_type}", partial(self._judged, name, ggml_type)

    def _judged(self, name: str, ggml_type: str) -> dict[str, Any]:
        unknown = {"error": 0.0, "stock_error": 0.0, "sha256": ""}
        if name not in self.grams:
            return {**unknown, "kept": "no multiplication by it was seen"}
        try:
            data = self._bytes(name, ggml_type)
        except GramError as why:
            return {**unknown, "kept": str(why)}
        raw = raw_tensor(self.header, name)
        errors, stock_errors = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
        with one_blas_thread():
            for expert, rows, held in self._sampled(name, raw, N_JUDGED_ROWS):
                w = row_values(self.header, raw, rows, name)
                errors.append(_errors(w, self.ggml.dequantize(data[rows], ggml_type, raw.ne[0]), held))
                stock_errors.append(self._stock_errors(name, w, expert, ggml_type, held))
        error, stock_error = _mean(np.concatenate(errors)), _mean(np.concatenate(stock_errors))
        if error is None or stock_error is None:
            return {**unknown, "kept": "no held-out token tells its errors"}
        if not error < stock_error:
            return {"error": error, "stock_error": stock_error, "kept": "no better on held-out tokens", "sha256": ""}
        write_atomic(self._path(name, ggml_type), data.tobytes())
        digest, reached = hashlib.sha256(data.tobytes()).hexdigest(), self._gathered(name).grams
        bare = [e for e in range(len(raw.data) // raw.ne[1]) if e not in reached]
        return {"error": error, "stock_error": stock_error, "kept": "", "sha256": digest, "without_tokens": bare}

    def _ratio(self, name: str, ggml_type: str) -> float:
        if name not in self.grams or ggml_type in (*UNQUANTIZED, "q8_0"):
            return 1.0
        raw = raw_tensor(self.header, name)
        for expert, rows, held in self._sampled(name, raw, N_SAMPLED_ROWS):
            w = row_values(self.header, raw, rows, name)
            try:
                data = self._compensation(name, expert).quantized(w, ggml_type)
            except GramError:
                return 1.0
            error = _mean(_errors(w, self.ggml.dequantize(data, ggml_type, raw.ne[0]), held))
            stock_error = _mean(self._stock_errors(name, w, expert, ggml_type, held))
            return min(1.0, error / stock_error) if error is not None and stock_error else 1.0
        return 1.0

    def _sampled(self, name: str, raw: RawTensor, n_rows: int) -> Iterator[tuple[int, slice, Floats]]:
        """(expert, rows at equal distances, held-out tokens), the expert that has most of these first."""
        n, place = raw.ne[1], self._gathered(name)
        reached = (e for e in place.held if e in place.grams)
        for expert in sorted(reached, key=lambda e: (-len(place.held[e]), e)):
            yield expert, slice(expert * n, (expert + 1) * n, -(-n // n_rows)), place.held[expert]

    def _stock(self, name: str, rows: Floats, expert: int, ggml_type: str) -> Bytes:
        """Weighted by what is known of a matrix; where that is nothing, evenly if the type cannot do without."""
        weights, gram = self.importance.get(name), self._gathered(name).grams.get(expert)
        row = np.ones(rows.shape[1], np.float32) if self.ggml.needs_importance(ggml_type) else None
        row = weights[expert] if weights is not None else gram.diagonal if gram else row
        return self.ggml.quantize(rows, ggml_type, row, self.n_threads)

    def _stock_errors(self, name: str, rows: Floats, expert: int, ggml_type: str, held: Floats) -> Floats:
        data = self._stock(name, rows, expert, ggml_type)
        return _errors(rows, self.ggml.dequantize(data, ggml_type, rows.shape[1]), held)

    def _bytes(self, name: str, ggml_type: str) -> Bytes:
        """All rows, each matrix by its own Gram matrix; what no token reached has its stock values.

        Raises:
            GramError: a Gram matrix that is of no use.
        """
        raw, grams = raw_tensor(self.header, name), self._gathered(name).grams
        out = np.empty((len(raw.data), tensor_bytes(raw.ne[:1], ggml_type)), np.uint8)
        for rows, expert in row_pieces(raw):
            w = row_values(self.header, raw, rows, name)
            if expert in grams:
                out[rows] = self._compensation(name, expert).quantized(w, ggml_type)
            else:
                out[rows] = self._stock(name, w, expert, ggml_type)
        return out

    def _gathered(self, name: str) -> Gathered:
        place = self.grams.place(name)
        with self._making:
            if self._place is None or self._place[0] != place:
                self._place = (place, self.grams.of(name))
            return self._place[1]

    def _compensation(self, name: str, expert: int) -> Compensation:
        """Raises GramError for a Gram matrix that is of no use."""
        key = (self.grams.place(name), expert)
        with self._making:
            if self._made is None or self._made[0] != key:
                gram = self._gathered(name).grams[expert]
                if not np.isfinite(gram.diagonal).all() or not gram.diagonal.any():
                    raise GramError("what enters it is not finite, or nothing")
                self._made = (key, Compensation(self.ggml, gram.conditioned(), gram.diagonal, self.n_threads))
            return self._made[1]


def _errors(w: Floats, q: Floats, held: Floats) -> Floats:
    """Relative squared errors of the products of held-out tokens that have any."""
    energy = ((held @ w.T).astype(np.float64) ** 2).sum(axis=1)
    error = ((held @ (q - w).T).astype(np.float64) ** 2).sum(axis=1)
    counted = energy > 1e-9 * energy.max(initial=0.0)
    return np.asarray(error[counted] / energy[counted], np.float32)


def _mean(errors: Floats) -> float | None:
    mean = float(errors.mean()) if len(errors) else np.nan
    return mean if np.isfinite(mean) else None
