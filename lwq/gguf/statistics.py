"""The statistics of an importance matrix, as ``llama-imatrix --show-statistics`` defines them.

They describe squared activations: Σ(Act²) and its kin are sums over channels of a = in_sum2 / counts.
Sums are float32 and sequential, as in the tool, so that every printed digit agrees.
Source: tools/imatrix/imatrix.cpp, ``compute_statistics``, ``compute_cossim``, ``show_statistics``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lwq.gguf.types import split_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ACTIVE_ABOVE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImatrixEntry:
    """Σ x² of each input channel of one tensor, and over how many tokens.

    ``in_sum2`` is float32 of shape (experts, channels), ``counts`` int64 of shape (experts,); a dense
    tensor has one expert.
    """

    name: str
    in_sum2: NDArray[np.float32]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorStatistics:
    """One tensor's row; ``cossim`` is None where the tool has none (or prints nan)."""

    tensor: str
    layer: int | None
    tensor_class: str
    sum_sq: float
    min: float
    max: float
    mean: float
    std: float
    active: float
    n: int
    entropy: float
    entropy_norm: float
    zd: float
    cossim: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStatistics:
    """One layer's averages, weighted by the number of channels."""

    layer: int
    mean_sum_sq: float
    zd: float
    cossim: float | None


def tensor_statistics(entries: Iterable[ImatrixEntry]) -> tuple[TensorStatistics, ...]:
    """One row for each tensor that has data, in the tool's order: by class, then by falling Σ(Act²)."""
    import numpy as np

    by_name = {entry.name: entry for entry in entries if (entry.counts > 0).any()}
    with np.errstate(over="ignore", invalid="ignore"):  # sums near the end of float32: the tool prints inf and nan
        rows = [_row(entry, by_name) for entry in by_name.values()]
    return tuple(sorted(rows, key=lambda row: (_tool_class(row.tensor), -row.sum_sq, row.tensor)))


def _tool_class(name: str) -> str:
    """The tool's own name for a class: the part before ``weight``, else the whole."""
    parts = name.split(".")
    return parts[parts.index("weight") - 1] if "weight" in parts[1:] else name


def _row(entry: ImatrixEntry, by_name: Mapping[str, ImatrixEntry]) -> TensorStatistics:
    import numpy as np

    f32 = np.float32
    seen = entry.counts > 0
    a = (entry.in_sum2[seen] / entry.counts[seen].astype(f32)[:, None]).astype(f32).reshape(-1)
    n = f32(a.size)
    total = _sum(a)
    mean = total / n
    variance = _sum(a * a) / n - mean * mean
    std = np.sqrt(np.maximum(f32(0), variance))
    inactive = int(np.count_nonzero(np.abs(a) <= f32(_ACTIVE_ABOVE)))
    entropy = _entropy(a, total)
    high = int(np.count_nonzero((a - mean) / std > 1)) if std > 0 else 0
    layer, _ = split_name(entry.name)
    return TensorStatistics(
        tensor=entry.name,
        layer=layer,
        tensor_class=_tool_class(entry.name),
        sum_sq=float(total),
        min=float(a.min()),
        max=float(a.max()),
        mean=float(mean),
        std=float(std),
        active=float(f32(1) - f32(inactive) / n),
        n=a.size,
        entropy=float(entropy),
        entropy_norm=float(f32(entropy / math.log2(a.size))) if a.size > 1 else 0.0,
        zd=float(f32(high) / n),
        cossim=_cossim(entry, by_name),
    )


def _sum(values: NDArray[np.float32]) -> Any:
    """Σ in float32, one after the other."""
    import numpy as np

    return np.add.accumulate(values, dtype=np.float32)[-1]


def _entropy(a: NDArray[np.float32], total: Any) -> Any:
    """Shannon entropy of a/Σa in bits; log2f is taken as log2 in double, rounded to float32."""
    import numpy as np

    if not total > 0:
        return np.float32(0)
    p = (a / total).astype(np.float32)
    p = p[p > 0]
    terms = p * np.log2(p.astype(np.float64)).astype(np.float32)
    return np.float32(0) - _sum(terms.astype(np.float32)) if p.size else np.float32(0)  # no zero with a sign


def _cossim(entry: ImatrixEntry, by_name: Mapping[str, ImatrixEntry]) -> float | None:
    """Cosine of the raw sums with the same tensor of the layer before; 0 where there is none, as the tool has it."""
    import numpy as np

    layer, _ = split_name(entry.name)
    before = by_name.get(entry.name.replace(f"blk.{layer}.", f"blk.{(layer or 0) - 1}.", 1)) if layer else None
    if before is None or before.in_sum2.size != entry.in_sum2.size:
        return 0.0
    x, y = entry.in_sum2.reshape(-1), before.in_sum2.reshape(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(_sum(x * y) / (np.sqrt(_sum(x * x)) * np.sqrt(_sum(y * y))))
    return value if math.isfinite(value) else None


def layer_statistics(rows: Iterable[TensorStatistics]) -> tuple[LayerStatistics, ...]:
    """The tool's weighted averages, summed in the order of its rows."""
    import numpy as np

    f32 = np.float32
    sums: dict[int, list[Any]] = {}
    for row in tensor_rows_in_tool_order(rows):
        if row.layer is None:
            continue
        n = f32(row.n)
        cossim = f32("nan") if row.cossim is None else f32(row.cossim)
        with np.errstate(over="ignore", invalid="ignore"):
            added = (n * f32(row.sum_sq), n * f32(row.zd), n * cossim)
            have = sums.setdefault(row.layer, [f32(0), f32(0), f32(0), 0])
            for i, value in enumerate(added):
                have[i] = have[i] + value
        have[3] += row.n
    return tuple(_layer(layer, totals) for layer, totals in sorted(sums.items()))


def tensor_rows_in_tool_order(rows: Iterable[TensorStatistics]) -> list[TensorStatistics]:
    """Rows as the tool sorts them, whatever order they come in."""
    return sorted(rows, key=lambda row: (row.tensor_class, -row.sum_sq, row.tensor))


def _layer(layer: int, totals: list[Any]) -> LayerStatistics:
    import numpy as np

    n = np.float32(totals[3])
    cossim = float(totals[2] / n)
    return LayerStatistics(
        layer=layer,
        mean_sum_sq=float(totals[0] / n),
        zd=float(totals[1] / n),
        cossim=cossim if math.isfinite(cossim) else None,
    )


def as_printed(row: TensorStatistics | LayerStatistics) -> tuple[str, ...]:
    """The cells of a row with the digits that the tool prints."""
    import numpy as np

    def percent(value: float) -> float:
        return float(np.float32(100) * np.float32(value))

    cossim = "nan" if row.cossim is None else f"{row.cossim:.4f}"
    if isinstance(row, LayerStatistics):
        return (str(row.layer), f"{row.mean_sum_sq:.2f}", f"{percent(row.zd):.4f}%", cossim)
    numbers = (f"{row.sum_sq:.2f}", f"{row.min:.4f}", f"{row.max:.4f}", f"{row.mean:.2f}", f"{row.std:.2f}")
    # the tool divides in double and rounds to float32 once: 100 · entropy_norm can differ in the last digit
    entropy_norm = float(np.float32(100 * (row.entropy / math.log2(row.n)))) if row.n > 1 else 0.0
    shares = (f"{percent(row.active):.2f}%", str(row.n), f"{row.entropy:.4f}", f"{entropy_norm:.2f}%")
    layer = "-" if row.layer is None else str(row.layer)
    return (layer, row.tensor_class, *numbers, *shares, f"{percent(row.zd):.2f}%", cossim)
