"""Perplexity of the base on a text, and its log-probabilities stored, in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lwq.engine.vocabulary import Vocabulary
from lwq.errors import ToolchainError, UsageError
from lwq.gguf.header import read_header
from lwq.llama import tools
from lwq.llama.requests import TextRequest, Window, logits_bytes
from lwq.metrics.values import Perplexity
from lwq.steps.step import Context, Given, Made
from lwq.store.files import need_space

NAME = "baseline"
VERSION = 1
USES_TOOLS = True
IN_PROCESS = True
_LEAST_SCORED: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    text: Given
    n_ctx: int
    n_chunks: int | None
    max_bytes: int | None
    """Most bytes for the log-probabilities: fewer windows are used where they would take more."""
    logits_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    perplexity: Perplexity
    n_vocab: int


def run(inputs: Inputs, ctx: Context) -> Result:
    """The base's perplexity and the file of its log-probabilities.

    Raises:
        SpaceError: the log-probabilities would not fit; told before the model is loaded.
        UsageError: fewer than 100 tokens would be scored.
    """
    header = read_header(ctx.find(inputs.base))
    n_vocab = header.n_vocab
    most = inputs.n_chunks or max(1, _n_tokens(ctx, inputs) // inputs.n_ctx)
    n_chunks, limited = inputs.n_chunks, False
    if inputs.max_bytes and logits_bytes(n_vocab, inputs.n_ctx, most) > inputs.max_bytes:
        n_chunks = most = _chunks_within(inputs.max_bytes, n_vocab, inputs.n_ctx)
        limited = True
    _check_enough(most, inputs.n_ctx, limited=limited)
    need_space(ctx.folder, logits_bytes(n_vocab, inputs.n_ctx, most), "the base's log-probabilities")
    done = tools.perplexity_base(
        ctx.toolchain,
        TextRequest(
            model=ctx.place(inputs.base),
            text=ctx.place(inputs.text),
            window=Window(n_ctx=inputs.n_ctx, n_chunks=n_chunks),
            output=inputs.logits_file,
        ),
        cwd=ctx.folder,
        threads=ctx.n_threads,
        on_progress=ctx.progress,
        at_most=limited,
    )
    ctx.ran(done)
    _check_enough(done.perplexity.n_chunks, inputs.n_ctx, limited=limited)
    return Result(perplexity=done.perplexity, n_vocab=n_vocab)


def _n_tokens(ctx: Context, inputs: Inputs) -> int:
    """Tokens of the text; where the tokenizer cannot be asked (another llama.cpp), as many as bytes."""
    raw = ctx.find(inputs.text).read_bytes()
    try:
        with Vocabulary(ctx.toolchain, ctx.find(inputs.base)) as vocabulary:
            return len(vocabulary.tokens(raw.decode()))
    except ToolchainError:
        return len(raw)


def _chunks_within(max_bytes: int, n_vocab: int, n_ctx: int) -> int:
    each = logits_bytes(n_vocab, n_ctx, 1) - logits_bytes(n_vocab, n_ctx, 0)
    return max(0, (max_bytes - logits_bytes(n_vocab, n_ctx, 0)) // each)


def _check_enough(n_chunks: int, n_ctx: int, *, limited: bool) -> None:
    """Raises UsageError where fewer tokens are scored than llama-perplexity makes statistics of."""
    each = n_ctx - 1 - n_ctx // 2
    if n_chunks * each >= _LEAST_SCORED:
        return
    least = -(-_LEAST_SCORED // each)
    why = "max_logits leaves" if limited else "there are"
    raise UsageError(
        f"{why} {n_chunks} windows of {n_ctx} tokens, {least} are needed: llama-perplexity prints no KLD of fewer than"
        f" {_LEAST_SCORED} scored tokens",
        hint="raise max_logits" if limited else "raise n_chunks or n_ctx, or give a longer text",
    )
