"""A pruned row's damage in its two parts: what removing layers cost, and what quantizing the rest cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lwq.llama import tools
from lwq.llama.requests import KldRequest, TextRequest, Window, logits_bytes
from lwq.metrics.values import Damage, Perplexity
from lwq.steps.step import Context, Given, Made, from_json, to_json
from lwq.store.files import need_space

NAME = "parts"
VERSION = 3
USES_TOOLS = True
IN_PROCESS = False
_LOGITS = "pruned.logits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    """The pruned base, or the search that may have made one."""
    candidate: Made
    baseline: Made
    """Log-probabilities of the original."""
    text: Given
    n_ctx: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    base_file: str
    prune: Damage | None
    """The pruned base against the original; None where nothing was pruned."""
    quant: Damage | None
    """The file against its own pruned base."""


def run(inputs: Inputs, ctx: Context) -> Result:
    """KLD and PPL of both parts, as llama-perplexity prints them."""
    name = inputs.base.name or str(ctx.entries[inputs.base.key].result.get("cut_file", ""))
    if not name:
        return Result(base_file="", prune=None, quant=None)
    base = Made(step=inputs.base.step, key=inputs.base.key, name=name)
    pieces = ctx.pieces(base.key)  # rows made of one pruned base share its part
    prune = from_json(
        Damage,
        pieces.get(f"parts {VERSION}/{inputs.baseline.key}", lambda: _measured(ctx, base, inputs)),
    )
    scored: Perplexity = ctx.result(inputs.baseline, "perplexity", Perplexity)
    n_vocab = int(ctx.entries[inputs.baseline.key].result["n_vocab"])
    stored = logits_bytes(n_vocab, inputs.n_ctx, scored.n_chunks)
    need_space(ctx.folder, stored, f"the log-probabilities of {base.name}")
    window = Window(n_ctx=inputs.n_ctx, n_chunks=scored.n_chunks)
    request = TextRequest(model=ctx.place(base), text=ctx.place(inputs.text), window=window, output=_LOGITS)
    ctx.ran(tools.perplexity_base(ctx.toolchain, request, cwd=ctx.folder, threads=ctx.n_threads))
    quant = _damage(ctx, inputs.candidate, _LOGITS, inputs.n_ctx)
    (ctx.folder / _LOGITS).unlink()
    return Result(base_file=name, prune=prune, quant=quant)


def _measured(ctx: Context, base: Made, inputs: Inputs) -> Any:
    return to_json(_damage(ctx, base, ctx.place(inputs.baseline), inputs.n_ctx))


def _damage(ctx: Context, model: Made, logits: str, n_ctx: int) -> Damage:
    request = KldRequest(model=ctx.place(model), logits=logits, n_ctx=n_ctx)
    done = tools.kl_divergence(ctx.toolchain, request, cwd=ctx.folder, threads=ctx.n_threads, on_progress=ctx.progress)
    ctx.ran(done)
    return done.damage
