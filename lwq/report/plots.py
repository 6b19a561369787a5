"""The two plots: KLD against size, and what each tensor class holds of each file."""

from __future__ import annotations

import io
from typing import Any, Final

import matplotlib as mpl

from lwq.record import Record, Row
from lwq.report.rows import pareto

mpl.use("Agg")

_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "lwq",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "#ffffff",
    "axes.facecolor": "#ffffff",
    "text.color": "#222222",
    "axes.labelcolor": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}
# Okabe and Ito's colours, which people with any colour vision tell apart
_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999", "#000000")
_SMALL_SHARE: Final = 0.01
Figure = dict[str, bytes]


def figures(record: Record) -> Figure:
    """File name → bytes of every figure, as SVG and PNG."""
    found: Figure = {}
    with mpl.rc_context(dict(_STYLE)):
        for name, draw in (("kld_against_size", _kld_against_size), ("bytes_by_class", _bytes_by_class)):
            figure = draw(record)
            for kind in ("svg", "png"):
                stream = io.BytesIO()
                metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
                figure.savefig(stream, format=kind, metadata=metadata, dpi=160, bbox_inches="tight")
                found[f"{name}.{kind}"] = stream.getvalue()
    return found


def _kind(row: Row) -> tuple[str, str, str]:
    """(legend, marker, colour) of a row."""
    if row.origin == "third-party":
        return "third party", "D", _COLOURS[3]
    if row.pruned_layers:
        return "layers removed", "v", _COLOURS[5]
    if row.tensor_type_patterns:
        return "by hand", "s", _COLOURS[2]
    return ("stock, imatrix", "o", _COLOURS[0]) if row.uses_imatrix else ("stock, no imatrix", "X", _COLOURS[1])


def _kld_against_size(record: Record) -> Any:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7.2, 4.4))
    axes = canvas.add_subplot()
    rows = [r for r in record.rows if r.origin != "base" and r.evaluation.kld.value > 0]
    seen: set[str] = set()
    for row in rows:
        name, marker, colour = _kind(row)
        kld = row.evaluation.kld
        low = min(kld.stderr or 0.0, 0.99 * kld.value)
        axes.errorbar(
            row.file_bytes / 2**20,
            kld.value,
            yerr=[[low], [kld.stderr or 0.0]],
            fmt=marker,
            color=colour,
            markersize=7,
            capsize=3,
            label=None if name in seen else name,
        )
        seen.add(name)
    front = pareto(rows)
    axes.plot([r.file_bytes / 2**20 for r in front], [r.evaluation.kld.value for r in front], color="#bbbbbb", zorder=0)
    axes.set_yscale("log")
    axes.margins(x=0.12, y=0.15)
    if record.floor.value > 1e-6:
        axes.axhline(record.floor.value, linestyle="--", color="#999999", label="floor: the base against itself")
    _label_points(axes, rows)
    axes.set_xlabel("file size (MiB)")
    axes.set_ylabel("mean KLD against the original (nats)")
    axes.grid(visible=True, which="both", axis="y", color="#eeeeee")
    axes.legend(frameon=False, fontsize=9)
    return canvas


def _label_points(axes: Any, rows: list[Row]) -> None:
    """Names beside the points, alternately above and below so that neighbours stay apart."""
    for i, row in enumerate(sorted(rows, key=lambda r: (r.file_bytes, r.evaluation.kld.value))):
        above = i % 2 == 0
        axes.annotate(
            row.name,
            (row.file_bytes / 2**20, row.evaluation.kld.value),
            xytext=(0, 10 if above else -16),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )


def _bytes_by_class(record: Record) -> Any:
    from matplotlib.figure import Figure as Canvas

    rows = list(reversed(record.rows))
    canvas = Canvas(figsize=(7.2, 0.42 * len(rows) + 1.6))
    axes = canvas.add_subplot()
    total: dict[str, int] = {}
    for row in rows:
        for share in row.classes:
            total[share.name] = total.get(share.name, 0) + share.n_bytes
    everything = sum(total.values())
    large = sorted((n for n, b in total.items() if b / everything >= _SMALL_SHARE), key=lambda n: -total[n])
    left = [0.0] * len(rows)
    for i, name in enumerate([*large, "other"]):
        widths = [_mib(row, name, large) for row in rows]
        colour = _COLOURS[i % len(_COLOURS)]
        axes.barh([r.name for r in rows], widths, left=left, color=colour, label=name, height=0.7)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_xlabel("MiB of tensors")
    axes.legend(frameon=False, fontsize=8, ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return canvas


def _mib(row: Row, name: str, large: list[str]) -> float:
    if name == "other":
        return sum(s.n_bytes for s in row.classes if s.name not in large) / 2**20
    return sum(s.n_bytes for s in row.classes if s.name == name) / 2**20
