"""``lwq stats`` and ``lwq inspect``: what a file says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from lwq.cli.tables import WIDTH, print_json, print_table, shortened
from lwq.errors import UsageError
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.imatrix import read_imatrix, tokens_of_experts, unreached_experts
from lwq.gguf.statistics import TensorStatistics, as_printed, layer_statistics, tensor_statistics
from lwq.gguf.types import bits_per_weight
from lwq.record.record import TypeShare, shares
from lwq.store.files import human_bytes

STATS_HEADS = (
    "Layer", "Tensor", "Σ(Act²)", "Min", "Max", "μ", "σ", "% Active", "N", "Entropy", "E (norm)", "ZD", "CosSim",
)  # fmt: skip
STATS_SPARE = ("N", "Min", "Max", "Entropy", "σ", "% Active", "μ")
"""Left out first where a line is too long."""
WIDE = click.option("--wide", is_flag=True, help="All columns and whole values, however long lines get.")
_NAME_WIDTH = 40
SORTS = {
    "layer": "layer", "tensor": "tensor_class", "sum": "sum_sq", "mean": "mean", "entropy": "entropy", "zd": "zd",
    "cossim": "cossim",
}  # fmt: skip


@click.command("stats")
@click.argument("imatrix", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, unrounded.")
@click.option("--sort", "order", type=click.Choice(list(SORTS)), help="Order of the tensors; the tool's when absent.")
@WIDE
def stats_command(imatrix: Path, as_json: bool, order: str | None, wide: bool) -> None:
    """Print the statistics of IMATRIX, as `llama-imatrix --show-statistics` defines them.

    They describe squared activations and are no measure of what a tensor may lose.
    """
    entries = read_imatrix(imatrix).entries
    rows, unreached = tensor_statistics(entries), unreached_experts(entries)
    layers, seen = layer_statistics(rows), tokens_of_experts(entries)
    if order:
        rows = tuple(sorted(rows, key=lambda row: _sort_key(row, SORTS[order])))
    if as_json:
        values = {"tensors": [dataclasses.asdict(r) for r in rows], "layers": [dataclasses.asdict(r) for r in layers]}
        print_json(
            {**values, "tokens_of_experts": {i: n.tolist() for i, n in seen.items()}, "unreached_experts": unreached}
        )
        return
    spare = () if wide else STATS_SPARE
    gone = print_table(STATS_HEADS, [as_printed(row) for row in rows], left=2, spare=spare)
    click.echo()
    print_table(("Layer", "μΣ(Act²)", "μZD", "μCosSim"), [as_printed(row) for row in layers])
    if gone:
        click.echo(f"\nleft out: {', '.join(gone)}; --wide shows them")
    if seen:
        n, least = sum(tokens.size for tokens in seen.values()), min(int(tokens.min()) for tokens in seen.values())
        click.echo(f"\n{n:,} experts in {len(seen)} layers; the least saw {least:,} tokens")
    if unreached:
        click.echo(unreached)


def _sort_key(row: TensorStatistics, field: str) -> tuple[bool, object, str]:
    value = getattr(row, field)
    return (value is None, value if value is not None else 0, row.tensor)


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--by", type=click.Choice(["type", "class", "layer", "tensor"]), multiple=True, help="Tables to print.")
@WIDE
def inspect_command(model: Path, as_json: bool, by: tuple[str, ...], wide: bool) -> None:
    """Print types, sizes and bits per weight of the GGUF MODEL, by type, tensor class and layer."""
    header = read_header(model)
    if not header.tensors:
        raise UsageError(f"{model}: has no tensors", hint="name a GGUF of a model")
    tables = {
        "type": shares(header.tensors, lambda t: t.ggml_type),
        "class": shares(header.tensors, lambda t: t.tensor_class),
        "layer": _by_layer(header),
    }
    if as_json:
        print_json({**_summary(header), **{k: [_share(s) for s in v] for k, v in tables.items()}})
        return
    summary = _summary(header)
    width = max(map(len, summary)) + 2
    for name, value in summary.items():
        click.echo(f"{name:<{width}}{value if wide else shortened(str(value), WIDTH - width)}")
    for kind in by or ("type", "class", "layer"):
        click.echo()
        if kind == "tensor":
            _print_tensors(header, wide)
        else:
            _print_shares(kind, tables[kind], wide)


def _summary(header: GgufHeader) -> dict[str, object]:
    facts: dict[str, object] = {
        "file": header.path.name,
        "architecture": header.architecture,
        "layers": header.n_layer,
        **({"layers_of_further_tokens": n} if (n := header.n_layer_nextn) else {}),
        "parameters": header.n_params,
        "file_bytes": header.file_bytes,
        "bpw": round(bits_per_weight(header.tensors), 4),
        "shards": len(header.shards),
    }
    own = {k: v for k, v in header.metadata.items() if k.startswith(("lwq.", "quantize.imatrix."))}
    return {**facts, **own}


def _by_layer(header: GgufHeader) -> tuple[TypeShare, ...]:
    layers = shares(header.tensors, lambda t: "-" if t.layer is None else str(t.layer))
    return tuple(sorted(layers, key=lambda s: (s.name == "-", int(s.name) if s.name != "-" else 0)))


def _share(share: TypeShare) -> dict[str, object]:
    return {**dataclasses.asdict(share), "bpw": 8 * share.n_bytes / share.n_elements}


def _print_tensors(header: GgufHeader, wide: bool) -> None:
    rows = [(t.name, t.ggml_type, "×".join(map(str, t.ne)), human_bytes(t.n_bytes)) for t in header.tensors]
    most = (
        max(len(name) for name, *_ in rows)
        if wide
        else WIDTH - sum(max(len(r[i]) for r in rows) + 2 for i in (1, 2, 3))
    )
    print_table(("tensor", "type", "ne", "size"), [(shortened(name, most), *rest) for name, *rest in rows], left=2)


def _print_shares(kind: str, type_shares: tuple[TypeShare, ...], wide: bool) -> None:
    total = sum(share.n_bytes for share in type_shares)
    rows = [
        (
            s.name if wide else shortened(s.name, _NAME_WIDTH),
            str(s.n_tensors),
            human_bytes(s.n_bytes),
            f"{100 * s.n_bytes / total:.1f} %",
            f"{8 * s.n_bytes / s.n_elements:.4f}",
        )
        for s in type_shares
    ]
    print_table((kind, "tensors", "size", "share", "bpw"), rows)
