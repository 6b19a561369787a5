"""What a context takes beside a file, by llama.cpp's own account: nothing is computed, no weight is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from lwq.engine.bindings import listening, load_bindings, model_parameters
from lwq.errors import ModelError, TranscriptError
from lwq.llama.devices import Device
from lwq.llama.toolchain import Toolchain
from lwq.llama.transcripts import parse_buffers
from lwq.metrics.values import ContextMemory

_LOAD_NOTHING: Final = 0
"""``LLAMA_LOAD_MODE_NONE``: ``no_alloc`` goes with no other."""
_NO_DEVICE: Final = Device(names=("none",))
"""Else llama.cpp counts buffers of every GPU that the build has."""


def context_memory(toolchain: Toolchain, path: Path, sizes: Iterable[int]) -> tuple[ContextMemory, ...]:
    """Memory of contexts of these sizes and of the whole context that the model was trained for, on a CPU.

    As llama-cli makes them, for one sequence: keys and values in F16, batches of 512 tokens. Sizes beyond the trained
    one are left out, and so are those that llama.cpp cannot make or does not account for.

    Source: common/fit.cpp (``common_get_device_memory_data``), which llama-fit-params prints.

    Raises:
        ModelError: llama.cpp cannot load the file.
    """
    llama = load_bindings(toolchain)
    parameters = model_parameters(llama, _NO_DEVICE, 0)
    parameters.no_alloc, parameters.load_mode = True, _LOAD_NOTHING
    model = llama.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise ModelError(f"{path.name}: llama.cpp cannot load it", hint="`lwq inspect` shows what it is")
    try:
        whole = llama.llama_model_n_ctx_train(model)
        found = (_of(llama, model, n) for n in sorted({n for n in sizes if n < whole} | {whole}))
        return tuple(memory for memory in found if memory)
    finally:
        llama.llama_model_free(model)


def _of(llama: ModuleType, model: Any, n_ctx: int) -> ContextMemory | None:
    options = llama.llama_context_default_params()
    options.n_ctx = n_ctx
    with listening() as lines:
        context = llama.llama_init_from_model(model, options)
    if not context:
        return None
    llama.llama_free(context)
    try:
        cache, compute = parse_buffers("".join(lines))
    except TranscriptError:  # a kind of memory that tells of itself in other words
        return None
    return ContextMemory(n_ctx=n_ctx, cache_bytes=cache, compute_bytes=compute)
