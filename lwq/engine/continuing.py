"""How a model goes on from a text when it always takes the likeliest token."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lwq.engine.bindings import load_bindings, model_parameters, said
from lwq.engine.vocabulary import Vocabulary
from lwq.errors import ModelError
from lwq.gguf.header import read_header
from lwq.llama.toolchain import Toolchain


def beginnings(toolchain: Toolchain, path: Path, text: str, n: int, length: int) -> tuple[tuple[int, ...], ...]:
    """``n`` pieces of ``length`` tokens, evenly from a text, each with the start token that the model wants.

    Raises:
        ModelError: llama.cpp cannot read the tokenizer; the text is shorter than one piece.
    """
    with Vocabulary(toolchain, path) as vocabulary:
        tokens, start = vocabulary.tokens(text), vocabulary.start()
    tokens = tokens[len(start) :]
    if len(tokens) < length:
        raise ModelError(f"the text has {len(tokens)} tokens, {length} are needed", hint="give a longer text")
    at = (i * (len(tokens) - length) // max(1, n - 1) for i in range(n))
    return tuple(dict.fromkeys((*start, *tokens[i : i + length]) for i in at))


def continuations(
    toolchain: Toolchain, path: Path, prompts: tuple[tuple[int, ...], ...], n_tokens: int, *, n_threads: int
) -> Iterator[tuple[int, ...]]:
    """The ``n_tokens`` that follow each prompt, the likeliest (of equal ones the first) each time.

    Raises:
        ModelError: llama.cpp cannot load or compute the model.
    """
    lib = load_bindings(toolchain)
    n_ctx = max(map(len, prompts)) + n_tokens
    with _context(lib, toolchain, path, n_ctx, n_threads) as (context, n_vocab):
        for prompt in prompts:
            lib.llama_memory_clear(lib.llama_get_memory(context), True)
            yield _follow(lib, context, prompt, n_tokens, n_vocab, path)


def agreed(of_base: tuple[int, ...], of_file: tuple[int, ...]) -> int:
    """Tokens until the two differ."""
    pairs = zip(of_base, of_file, strict=True)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(of_base))


@contextmanager
def _context(lib: Any, toolchain: Toolchain, path: Path, n_ctx: int, n_threads: int) -> Iterator[tuple[Any, int]]:
    header, device = read_header(path), toolchain.device
    parameters = model_parameters(lib, device, device.n_layers(header.file_bytes, header.n_layer_all))
    model = lib.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise ModelError(f"{path.name}: llama.cpp cannot load it{said()}", hint="`lwq inspect` shows what it is")
    try:
        options = lib.llama_context_default_params()
        options.n_ctx = options.n_batch = n_ctx
        options.n_threads = options.n_threads_batch = n_threads
        context = lib.llama_init_from_model(model, options)
        if not context:
            raise ModelError(f"{path.name}: llama.cpp cannot run it with {n_ctx} tokens{said()}")
        try:
            yield context, lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        finally:
            lib.llama_free(context)
    finally:
        lib.llama_model_free(model)


def _follow(
    lib: Any, context: Any, prompt: tuple[int, ...], n_tokens: int, n_vocab: int, path: Path
) -> tuple[int, ...]:
    found: list[int] = []
    given = prompt
    for _ in range(n_tokens):
        tokens = (ctypes.c_int32 * len(given))(*given)
        if lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(given))):
            raise ModelError(f"{path.name}: llama.cpp cannot compute it{said()}", hint="`lwq inspect` shows what it is")
        logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), (n_vocab,))
        found.append(int(logits.argmax()))
        given = (found[-1],)
    return tuple(found)
