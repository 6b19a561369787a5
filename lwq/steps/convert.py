"""The base: the original model as one F16 (or BF16) GGUF, from which everything else is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lwq.errors import ModelError
from lwq.gguf.data import was_quantized
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.hf_folder import ModelFolder, read_folder
from lwq.gguf.hf_tokenizer import as_before_5
from lwq.gguf.scan import scan_f16_range
from lwq.gguf.usable import check_usable
from lwq.layers.further import drop_further
from lwq.llama import converter, tools
from lwq.llama.requests import QuantizeRequest
from lwq.record.record import FileFacts, TypeShare, shares
from lwq.steps.step import Context, Given, file_facts
from lwq.store.files import human_bytes, need_space

NAME = "convert"
VERSION = 2
USES_TOOLS = True
IN_PROCESS = False
_ORIGINAL = "original.gguf"
_WITHOUT = "without-mtp.gguf"
# what the publisher's card may take from the model's own metadata
_GENERAL = ("name", "license", "languages", "tags", "base_model.0.repo_url", "author", "size_label")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    source: Given
    kind: Literal["gguf", "hf-folder"]
    base_type: Literal["f16", "bf16"]
    file: str
    mtp: Literal["keep", "drop"] = "keep"
    """Whether the base has the original's blocks that predict further tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    facts: FileFacts
    original_types: tuple[TypeShare, ...]
    was_quantized: bool
    general: tuple[tuple[str, tuple[str, ...]], ...]
    """(key after ``general.``, values) of the base's metadata."""
    notes: tuple[str, ...]
    keep_links: tuple[str, ...]
    projector: str = ""
    """File of the folder's vision or audio tower, in F16; empty where there is none, or the converter knows it not."""


def run(inputs: Inputs, ctx: Context) -> Result:
    """The base and what became of the original's values on the way.

    Raises:
        ModelError: values that overflow F16; not a model that llama.cpp reads.
    """
    folder = read_folder(ctx.given[inputs.source.sha256][0]) if inputs.kind == "hf-folder" else None
    source = _source(inputs, ctx, folder)
    original = read_header(ctx.folder / source)
    check_usable(original)
    quantized = was_quantized(original)  # of a folder's file never: the converter writes floats
    header, dropped = _without_further(inputs, ctx, original)
    as_it_is = _is_base(header, inputs.base_type)
    notes = (*_further_notes(inputs, original), *_range_notes(header, inputs, is_converted=not as_it_is))
    is_link = as_it_is and inputs.kind == "gguf" and not dropped
    if is_link:
        if source != inputs.file:
            (ctx.folder / inputs.file).symlink_to(ctx.find(inputs.source))
    elif as_it_is:
        header.path.rename(ctx.folder / inputs.file)
    else:
        _convert(inputs, ctx, _beside(inputs, header), quantized)
    projector, why = _projector(inputs, ctx, folder) if folder and folder.has_tower else ("", ())
    base = read_header(ctx.folder / inputs.file)
    return Result(
        facts=file_facts(base),
        original_types=shares(folder.tensors, lambda t: t.dtype.lower())
        if folder
        else shares(original.tensors, lambda t: t.ggml_type),
        was_quantized=quantized or bool(folder and folder.quantized_as),
        general=_general(base),
        notes=(*_shard_notes(original), *_method_notes(folder), *notes, *why),
        projector=projector,
        keep_links=(inputs.file,) if is_link else (),
    )


def _is_base(header: GgufHeader, base_type: str) -> bool:
    """Whether a file is one of 16 bits already."""
    types = {t.ggml_type for t in header.tensors}
    return types <= {base_type, "f32"} and base_type in types and len(header.shards) == 1


def _without_further(inputs: Inputs, ctx: Context, original: GgufHeader) -> tuple[GgufHeader, bool]:
    """The original without its blocks of further tokens, where it has some that are not wanted; and whether it had."""
    if inputs.mtp == "keep" or not original.n_layer_nextn:
        return original, False
    header = _beside(inputs, original)
    beyond = {t.name for t in header.tensors_nextn}
    kept = [t.ggml_type for t in header.tensors if t.name not in beyond]
    is_whole = set(kept) <= {inputs.base_type, "f32"} and inputs.base_type in kept
    name = inputs.file if is_whole else _WITHOUT
    written = drop_further(header, ctx.folder / name)
    ctx.commands.append(("lwq", "drop-mtp", header.path.name, "--out", name))
    if inputs.kind == "hf-folder":
        header.path.unlink()
    return written, True


def _beside(inputs: Inputs, header: GgufHeader) -> GgufHeader:
    """The file under another name, where it has the base's."""
    if header.path.name != inputs.file:
        return header
    return read_header(header.path.rename(header.path.with_name(_ORIGINAL)))


def _further_notes(inputs: Inputs, original: GgufHeader) -> tuple[str, ...]:
    """What became of the blocks of further tokens where they are not wanted."""
    if inputs.mtp == "keep":
        return ()
    if not (n := original.n_layer_nextn):
        return ('The original has no block that predicts further tokens (MTP), so mtp = "drop" changed nothing.',)
    gone = original.tensors_nextn
    blocks = f"{n} block{'s' if n > 1 else ''} that predict{'' if n > 1 else 's'} further tokens (MTP)"
    size = human_bytes(sum(t.n_bytes for t in gone))
    return (f"Left out: {blocks}, {len(gone)} tensors, {size} of the original.",)


def _method_notes(folder: ModelFolder | None) -> tuple[str, ...]:
    if not folder or not folder.quantized_as:
        return ()
    return (f"The original is quantized itself ({folder.quantized_as}); the base is that, turned back into floats.",)


def _source(inputs: Inputs, ctx: Context, folder: ModelFolder | None) -> str:
    """A GGUF in the work folder that holds the original's values, by its bare name."""
    if inputs.kind == "gguf":
        return ctx.place(inputs.source)
    assert folder
    n_bytes = 4 if folder.outtype == "f32" else 2
    need_space(ctx.folder, n_bytes * sum(t.n_elements for t in folder.tensors), "the converted model")
    name = inputs.source.name
    with converter.staged(folder.path, ctx.folder / name, as_before_5(folder.path)):
        ctx.ran(converter.hf_to_gguf(name, _ORIGINAL, outtype=folder.outtype, cwd=ctx.folder))
    return _ORIGINAL


def _projector(inputs: Inputs, ctx: Context, folder: ModelFolder) -> tuple[str, tuple[str, ...]]:
    """The tower's file and nothing, or no file and why not: the language model is quantized all the same."""
    stem = inputs.file.removesuffix(f"-{inputs.base_type.upper()}.gguf")
    file, name = f"mmproj-{stem}-F16.gguf", "with-tower"
    try:
        with converter.staged(folder.path, ctx.folder / name, folder.beside_a_tower()):
            ctx.ran(converter.hf_to_gguf(name, file, outtype="f16", cwd=ctx.folder, projector=True))
    except ModelError as error:
        last = next((line for line in reversed(error.message.splitlines()) if line.strip()), "")
        return "", (f"The tower of the original ({folder.architecture}) could not be converted: {last}",)
    return file, (f"The tower of the original lies beside the files, as {file}: give it to llama.cpp by --mmproj.",)


def _range_notes(header: GgufHeader, inputs: Inputs, *, is_converted: bool) -> tuple[str, ...]:
    """What F16's range does to BF16 and F32 values; an overflow is an error, and so is a value that is not finite."""
    scan = scan_f16_range(header, None if is_converted and inputs.base_type == "f16" else ())
    if broken := [c for c in scan.tensors if c.n_not_finite]:
        raise ModelError(
            f"{inputs.source.name}: {scan.total.n_not_finite:,} values are infinite or not a number:"
            f" {', '.join(f'{c.n_not_finite:,} in {c.tensor}' for c in broken[:3])}{', …' if broken[3:] else ''}",
            hint="the model is damaged; fetch it again, or ask its publisher",
        )
    if over := [c for c in scan.tensors if c.n_overflow]:
        raise ModelError(
            f"{inputs.source.name}: {scan.total.n_overflow:,} values are beyond F16's range, first in {over[0].tensor}",
            hint='set base_type = "bf16" in the recipe',
        )
    lost = ((scan.total.n_zero, "became zero"), (scan.total.n_subnormal, "became subnormal"))
    n_values = scan.total.n_values
    return tuple(f"{n:,} of {n_values:,} values {what} in F16" for n, what in lost if n)


def _shard_notes(header: GgufHeader) -> tuple[str, ...]:
    return (f"{len(header.shards)} shards merged",) if len(header.shards) > 1 else ()


def _convert(inputs: Inputs, ctx: Context, header: GgufHeader, quantized: bool) -> None:
    need_space(ctx.folder, 2 * header.n_params, inputs.file)
    request = QuantizeRequest(
        model=header.path.name, output=inputs.file, ftype=inputs.base_type.upper(), allow_requantize=quantized
    )
    done = tools.quantize(ctx.toolchain, request, cwd=ctx.folder, threads=ctx.n_threads, on_progress=ctx.progress)
    ctx.ran(done)
    if inputs.kind == "hf-folder" or header.path.name == _WITHOUT:
        header.path.unlink()


def _general(header: GgufHeader) -> tuple[tuple[str, tuple[str, ...]], ...]:
    facts: list[tuple[str, tuple[str, ...]]] = []
    for key in _GENERAL:
        value = header.metadata.get(f"general.{key}")
        if isinstance(value, str):
            facts.append((key, (value,)))
        elif isinstance(value, tuple | list):
            facts.append((key, tuple(str(v) for v in value)))
    return tuple(facts)
