"""Perplexity of the base on a text, and its log-probabilities stored, in one pass."""

from __future__ import annotations

from dataclasses import dataclass

from lwq import tools
from lwq.files import need_space
from lwq.gguf_header import read_header
from lwq.metrics import Perplexity
from lwq.requests import TextRequest, Window
from lwq.steps import Context, Given, Made

NAME = "baseline"
VERSION = 1
USES_TOOLS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    text: Given
    n_ctx: int
    n_chunks: int | None
    logits_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    perplexity: Perplexity
    n_vocab: int


def run(inputs: Inputs, ctx: Context) -> Result:
    """The base's perplexity and the file of its log-probabilities.

    Raises:
        SpaceError: the log-probabilities would not fit; told before the model is loaded.
    """
    header = read_header(ctx.find(inputs.base))
    n_vocab = header.n_vocab
    text = ctx.find(inputs.text)
    most = inputs.n_chunks or max(1, text.stat().st_size // inputs.n_ctx)
    need_space(ctx.folder, logits_bytes(n_vocab, inputs.n_ctx, most), "the base's log-probabilities")
    done = tools.perplexity_base(
        ctx.toolchain,
        TextRequest(
            model=ctx.place(inputs.base),
            text=ctx.place(inputs.text),
            window=Window(n_ctx=inputs.n_ctx, n_chunks=inputs.n_chunks),
            output=inputs.logits_file,
        ),
        cwd=ctx.folder,
        threads=ctx.n_threads,
        on_progress=ctx.progress,
    )
    ctx.ran(done)
    return Result(perplexity=done.perplexity, n_vocab=n_vocab)


def logits_bytes(n_vocab: int, n_ctx: int, n_chunks: int) -> int:
    """Bytes of a ``--kl-divergence-base`` file.

    Source: tools/perplexity/perplexity.cpp: header, tokens, then for each scored token of a chunk
    ``2·⌈n_vocab/2⌉ + 4`` 16-bit values.
    """
    row = 2 * (2 * ((n_vocab + 1) // 2) + 4)
    return 20 + 4 * n_ctx * n_chunks + n_chunks * (n_ctx - 1 - n_ctx // 2) * row
