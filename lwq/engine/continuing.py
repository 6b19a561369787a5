"""How a model goes on from a text when it always takes the likeliest token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lwq.engine.bindings import SHORT_OF_MEMORY, load_bindings, model_parameters, said
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
    toolchain: Toolchain,
    path: Path,
    prompts: tuple[tuple[int, ...], ...],
    n_tokens: int,
    *,
    n_threads: int,
    on_token: Callable[[], None] = lambda: None,
) -> tuple[tuple[int, ...], ...]:
    """The ``n_tokens`` that follow each prompt, the likeliest (of equal ones the first) each time.

    All prompts go on side by side, so the weights are read once for each token of all.

    Args:
        on_token: called when all have one token more.

    Raises:
        ModelError: llama.cpp cannot load or compute the model.
    """
    lib = load_bindings(toolchain)
    with _context(lib, toolchain, path, prompts, n_tokens, n_threads) as (context, batch, n_vocab):
        found: list[list[int]] = [[] for _ in prompts]
        given: list[tuple[int, ...]] = list(prompts)
        for _ in range(n_tokens):
            at = [len(prompt) + len(own) - len(new) for prompt, own, new in zip(prompts, found, given, strict=True)]
            ends = _fill(batch, given, at)
            if lib.llama_decode(context, batch):
                raise ModelError(
                    f"{path.name}: llama.cpp cannot compute it{said()}", hint="`lwq inspect` shows what it is"
                )
            for own, end in zip(found, ends, strict=True):
                logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, end), (n_vocab,))
                own.append(int(logits.argmax()))
            given = [(own[-1],) for own in found]
            on_token()
        return tuple(map(tuple, found))


def agreed(of_base: tuple[int, ...], of_file: tuple[int, ...]) -> int:
    """Tokens until the two differ."""
    pairs = zip(of_base, of_file, strict=True)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(of_base))


@contextmanager
def _context(
    lib: Any, toolchain: Toolchain, path: Path, prompts: tuple[tuple[int, ...], ...], n_tokens: int, n_threads: int
) -> Iterator[tuple[Any, Any, int]]:
    """A context with a sequence for each prompt, a batch that holds all prompts, and the size of the vocabulary."""
    header, device = read_header(path), toolchain.device
    parameters = model_parameters(lib, device, device.n_layers(header.file_bytes, header.n_layer_all))
    model = lib.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise ModelError(f"{path.name}: llama.cpp cannot load it{said()}", hint="`lwq inspect` shows what it is")
    n_given = sum(map(len, prompts))
    options = lib.llama_context_default_params()
    options.n_ctx = n_given + len(prompts) * n_tokens
    options.n_batch, options.n_seq_max, options.kv_unified = n_given, len(prompts), True
    options.n_threads = options.n_threads_batch = n_threads
    try:
        context = lib.llama_init_from_model(model, options)
        if not context:
            told = f"{path.name}: llama.cpp cannot run it with {len(prompts)} sequences{said()}"
            raise ModelError(told, hint=SHORT_OF_MEMORY)
        batch = lib.llama_batch_init(n_given, 0, 1)
        try:
            yield context, batch, lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        finally:
            lib.llama_batch_free(batch)
            lib.llama_free(context)
    finally:
        lib.llama_model_free(model)


def _fill(batch: Any, given: list[tuple[int, ...]], at: list[int]) -> list[int]:
    """Puts tokens of each sequence, from these positions on, into the batch; the places of their last ones."""
    n, ends = 0, []
    for sequence, (tokens, start) in enumerate(zip(given, at, strict=True)):
        for i, token in enumerate(tokens):
            batch.token[n], batch.pos[n], batch.n_seq_id[n], batch.seq_id[n][0] = token, start + i, 1, sequence
            batch.logits[n] = i == len(tokens) - 1
            n += 1
        ends.append(n - 1)
    batch.n_tokens = n
    return ends
