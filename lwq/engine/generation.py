"""Proof that a written model works: it loads and generates in process."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path
from typing import Any

from lwq.engine.bindings import load_bindings, model_parameters, said
from lwq.errors import ModelError
from lwq.gguf.header import read_header
from lwq.llama.toolchain import Toolchain


def check_generates(toolchain: Toolchain, path: Path, *, n_tokens: int = 8) -> tuple[int, ...]:
    """The tokens that a model generates greedily after its first one.

    Raises:
        ModelError: it does not load, or its logits are not finite.
    """
    lib = load_bindings(toolchain)
    header, device = read_header(path), toolchain.device
    parameters = model_parameters(lib, device, device.n_layers(header.file_bytes, header.n_layer_all))
    model = lib.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise ModelError(
            f"{path.name}: llama.cpp cannot load what was written{said()}", hint="do not prune this architecture"
        )
    try:
        return _generate(lib, model, path, n_tokens)
    finally:
        lib.llama_model_free(model)


def _generate(lib: Any, model: Any, path: Path, n_tokens: int) -> tuple[int, ...]:
    parameters = lib.llama_context_default_params()
    parameters.n_ctx = 64
    context = lib.llama_init_from_model(model, parameters)
    if not context:
        raise ModelError(
            f"{path.name}: llama.cpp cannot run what was written{said()}", hint="do not prune this architecture"
        )
    try:
        vocab = lib.llama_model_get_vocab(model)
        n_vocab = lib.llama_vocab_n_tokens(vocab)
        token = max(0, lib.llama_vocab_bos(vocab))
        generated: list[int] = []
        for _ in range(n_tokens):
            token = _next(lib, context, token, n_vocab, path)
            generated.append(token)
        return tuple(generated)
    finally:
        lib.llama_free(context)


def _next(lib: Any, context: Any, token: int, n_vocab: int, path: Path) -> int:
    one = (ctypes.c_int32 * 1)(token)
    if lib.llama_decode(context, lib.llama_batch_get_one(one, 1)):
        raise ModelError(
            f"{path.name}: llama.cpp cannot compute what was written{said()}", hint="do not prune this architecture"
        )
    logits = lib.llama_get_logits_ith(context, -1)[:n_vocab]
    if not all(math.isfinite(x) for x in logits):
        raise ModelError(f"{path.name}: its logits are not finite", hint="do not prune these layers")
    return max(range(n_vocab), key=logits.__getitem__)
