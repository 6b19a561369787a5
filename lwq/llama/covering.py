"""Calibration that goes on until each expert has seen enough tokens, or the text is used up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lwq.errors import ToolError
from lwq.gguf.imatrix import read_imatrix, tokens_of_experts
from lwq.llama.complaints import USED_UP
from lwq.llama.requests import Collected, TextRequest, Window
from lwq.record.calibrated import ExpertCoverage

Collect = Callable[[TextRequest], Collected]


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """The runs that made one importance matrix, each going on from the one before, and what its experts saw."""

    runs: tuple[Collected, ...]
    experts: ExpertCoverage | None
    """None where the model has none."""

    @property
    def last(self) -> Collected:
        return self.runs[-1]


def collect_covering(collect: Collect, request: TextRequest, wanted: int, cwd: Path) -> Covered:
    """Writes ``cwd/output`` on the windows of the request, and on twice as many while an expert saw too few tokens.

    A run that goes on adds to the sums of the one before, so they are those of one run over all windows: to the bit
    where the first run ends with a batch (2,048 tokens), else to rounding. The same text always gives the same matrix.

    Args:
        collect: one run of llama-imatrix.
        wanted: tokens that each expert of each layer is to see; 0 asks for nothing.
    """
    if not wanted or request.window.n_chunks is None:
        done = collect(request)
        return Covered(runs=(done,), experts=_coverage(cwd / request.output, wanted, (done,)))
    part = replace(request, output=_part(request, request.window.n_chunks))
    runs = [collect(part)]
    while _lacks(found := _coverage(cwd / part.output, wanted, tuple(runs))):
        n = runs[-1].n_chunks
        window = Window(n_ctx=request.window.n_ctx, n_chunks=n, first=n)
        further = replace(part, window=window, output=_part(request, 2 * n), onto=part.output)
        try:
            runs.append(collect(further))
        except ToolError as error:
            if USED_UP not in error.message:
                raise
            break
        (cwd / part.output).unlink()
        part = further
        if runs[-1].n_chunks < 2 * n:
            found = _coverage(cwd / part.output, wanted, tuple(runs))
            break
    (cwd / part.output).rename(cwd / request.output)
    last = runs.pop()
    argv = tuple(request.output if word == part.output else word for word in last.argv)
    return Covered(runs=(*runs, replace(last, argv=argv)), experts=found)


def _part(request: TextRequest, n_chunks: int) -> str:
    return f"{request.output.removesuffix('.gguf')}-{n_chunks}.gguf"


def _lacks(found: ExpertCoverage | None) -> bool:
    return found is not None and found.n_below > 0


def _coverage(path: Path, wanted: int, runs: tuple[Collected, ...]) -> ExpertCoverage | None:
    tokens = [int(n) for layer in tokens_of_experts(read_imatrix(path).entries).values() for n in layer]
    if not tokens:
        return None
    return ExpertCoverage(
        n_experts=len(tokens),
        least_tokens=min(tokens),
        n_unreached=tokens.count(0),
        wanted_tokens=wanted,
        n_below=sum(n < wanted for n in tokens),
        n_first_chunks=runs[0].n_chunks,
        n_chunks=runs[-1].n_chunks,
    )
