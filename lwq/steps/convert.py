"""The base: the original model as one F16 (or BF16) GGUF, from which everything else is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lwq.errors import ModelError
from lwq.gguf.data import was_quantized
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.scan import scan_f16_range
from lwq.llama import converter, tools
from lwq.llama.requests import QuantizeRequest
from lwq.record.record import FileFacts, TypeShare, shares
from lwq.steps.step import Context, Given, file_facts
from lwq.store.files import need_space

NAME = "convert"
VERSION = 1
USES_TOOLS = True
IN_PROCESS = False
_ORIGINAL = "original.gguf"
# what the publisher's card may take from the model's own metadata
_GENERAL = ("name", "license", "languages", "tags", "base_model.0.repo_url", "author", "size_label")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    source: Given
    kind: Literal["gguf", "hf-folder"]
    base_type: Literal["f16", "bf16"]
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    facts: FileFacts
    original_types: tuple[TypeShare, ...]
    was_quantized: bool
    general: tuple[tuple[str, tuple[str, ...]], ...]
    """(key after ``general.``, values) of the base's metadata."""
    notes: tuple[str, ...]
    keep_links: tuple[str, ...]


def run(inputs: Inputs, ctx: Context) -> Result:
    """The base and what became of the original's values on the way.

    Raises:
        ModelError: values that overflow F16; not a model that llama.cpp reads.
    """
    source = _source(inputs, ctx)
    header = read_header(ctx.folder / source)
    if not header.n_layer:
        raise ModelError(f"{inputs.source.name}: a GGUF, but not of a model (no block_count)")
    types = {t.ggml_type for t in header.tensors}
    quantized = was_quantized(header)
    notes: tuple[str, ...] = ()
    as_it_is = types <= {inputs.base_type, "f32"} and inputs.base_type in types and len(header.shards) == 1
    if as_it_is and inputs.kind == "gguf":
        if source != inputs.file:
            (ctx.folder / inputs.file).symlink_to(ctx.find(inputs.source))
    elif as_it_is:
        (ctx.folder / source).rename(ctx.folder / inputs.file)
    else:
        if source == inputs.file:
            source = (ctx.folder / source).rename(ctx.folder / _ORIGINAL).name
            header = read_header(ctx.folder / source)
        notes = _range_notes(header, inputs)
        _convert(inputs, ctx, source, header, quantized)
    base = read_header(ctx.folder / inputs.file)
    return Result(
        facts=file_facts(base),
        original_types=shares(header.tensors, lambda t: t.ggml_type),
        was_quantized=quantized,
        general=_general(base),
        notes=(*_shard_notes(header), *notes),
        keep_links=(inputs.file,) if as_it_is and inputs.kind == "gguf" else (),
    )


def _source(inputs: Inputs, ctx: Context) -> str:
    """A GGUF in the work folder that holds the original's values, by its bare name."""
    if inputs.kind == "gguf":
        for path in ctx.given[inputs.source.sha256]:
            link = ctx.folder / path.name
            if not link.is_symlink():
                link.symlink_to(path)
        return ctx.given[inputs.source.sha256][0].name
    folder = ctx.place(inputs.source)
    done = converter.hf_to_gguf(folder, _ORIGINAL, cwd=ctx.folder)
    ctx.ran(done)
    return _ORIGINAL


def _range_notes(header: GgufHeader, inputs: Inputs) -> tuple[str, ...]:
    """What F16's range does to BF16 and F32 values; an overflow is an error."""
    if inputs.base_type != "f16":
        return ()
    scan = scan_f16_range(header)
    worst = [c.tensor for c in scan.tensors if c.n_overflow or c.n_not_finite]
    if worst:
        n, bad = scan.total.n_overflow, scan.total.n_not_finite
        raise ModelError(
            f"{inputs.source.name}: {n} values overflow F16 and {bad} are not finite, first in {worst[0]}",
            hint="the file is damaged" if bad else 'set base_type = "bf16" in the recipe',
        )
    lost = ((scan.total.n_zero, "became zero"), (scan.total.n_subnormal, "became subnormal"))
    n_values = scan.total.n_values
    return tuple(f"{n:,} of {n_values:,} values {what} in F16" for n, what in lost if n)


def _shard_notes(header: GgufHeader) -> tuple[str, ...]:
    return (f"{len(header.shards)} shards merged",) if len(header.shards) > 1 else ()


def _convert(inputs: Inputs, ctx: Context, source: str, header: GgufHeader, quantized: bool) -> None:
    need_space(ctx.folder, 2 * header.n_params, inputs.file)
    request = QuantizeRequest(
        model=source, output=inputs.file, ftype=inputs.base_type.upper(), allow_requantize=quantized
    )
    done = tools.quantize(ctx.toolchain, request, cwd=ctx.folder, threads=ctx.n_threads, on_progress=ctx.progress)
    ctx.ran(done)
    if inputs.kind == "hf-folder":
        (ctx.folder / source).unlink()


def _general(header: GgufHeader) -> tuple[tuple[str, tuple[str, ...]], ...]:
    facts: list[tuple[str, tuple[str, ...]]] = []
    for key in _GENERAL:
        value = header.metadata.get(f"general.{key}")
        if isinstance(value, str):
            facts.append((key, (value,)))
        elif isinstance(value, tuple | list):
            facts.append((key, tuple(str(v) for v in value)))
    return tuple(facts)
