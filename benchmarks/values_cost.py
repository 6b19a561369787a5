"""What compensated values cost in models that are too large to be here: time and memory of tensors as wide.

For each width that the shapes have, on random data: windows of tokens are summed to a Gram matrix, which is packed,
unpacked, conditioned and factored, and rows are quantized with it. The rest is multiplication: a layer has the
matrices of its places (attention's inputs, its output's, the MLP's two) and all rows of its tensors, in one type.
Forward passes are not counted: these are the model's own, as in a perplexity of the same windows.
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from reference_copy import reference_model

from lwq.engine.engine import Engine
from lwq.engine.ggml import Ggml
from lwq.llama.toolchain import find
from lwq.metrics.arrays import Floats
from lwq.values.blas import one_blas_thread
from lwq.values.collecting import Gathering
from lwq.values.compensation import Compensation
from lwq.values.grams import packed


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A dense model."""

    name: str
    n_layers: int
    hidden: int
    ffn: int
    kv: int

    @property
    def rows(self) -> dict[int, int]:
        """Rows of a layer's tensors by their length."""
        return {self.hidden: 2 * self.hidden + 2 * self.kv + 2 * self.ffn, self.ffn: self.hidden}

    @property
    def places(self) -> dict[int, int]:
        """Gram matrices of a layer by their width."""
        return {self.hidden: 3, self.ffn: 1}


SHAPES = (
    Shape(name="8b", n_layers=32, hidden=4096, ffn=14336, kv=1024),
    Shape(name="70b", n_layers=80, hidden=8192, ffn=28672, kv=1024),
)
N_ROWS, N_CTX = 256, 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds of one width."""

    window: float
    """To add a window to a Gram matrix."""
    matrix: float
    """To pack, unpack, condition and factor one."""
    weight: float
    """To quantize a weight."""


def cost_of(ggml: Ggml, width: int, ggml_type: str, n_threads: int) -> Cost:
    """Measured on random tokens that a sixteenth as many directions explain for the most part."""
    rng = np.random.default_rng(width)
    mix = rng.standard_normal((width // 16, width), np.float32)

    def window() -> Floats:
        own = rng.standard_normal((N_CTX, width), np.float32)
        return own + rng.standard_normal((N_CTX, len(mix)), np.float32) @ mix / np.float32(len(mix)) ** 0.5

    sums = Gathering()
    with one_blas_thread(), ThreadPoolExecutor(n_threads) as pool:
        sums.add(0, window(), pool)
        values, started = window(), time.perf_counter()
        sums.add(0, values, pool)
        summed = time.perf_counter() - started
    started = time.perf_counter()
    gram = packed(sums.totals.pop(0), sums.n_tokens[0])
    fitted = Compensation(ggml, gram.conditioned(), gram.diagonal, n_threads)
    made = time.perf_counter() - started
    rows = rng.standard_normal((N_ROWS, width), np.float32)
    fitted.quantized(rows[:n_threads], ggml_type)
    started = time.perf_counter()
    fitted.quantized(rows, ggml_type)
    return Cost(window=summed, matrix=made, weight=(time.perf_counter() - started) / rows.size)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--type", default="q4_K", help="of the rows")
    arguments.add_argument("--windows", type=int, default=64, help="of which matrices are summed")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--shapes", nargs="+", default=[s.name for s in SHAPES], choices=[s.name for s in SHAPES])
    options = arguments.parse_args()
    shapes, figures = [s for s in SHAPES if s.name in options.shapes], []
    with Engine(find(), reference_model(), n_ctx=64, n_threads=options.threads) as engine:
        for shape in shapes:
            costs = {n: cost_of(engine.ggml, n, options.type, options.threads) for n in shape.rows}
            for n, cost in costs.items():
                print(
                    f"{n:>6} channels: a window {cost.window:.2f} s, a matrix {cost.matrix:.1f} s, "
                    f"a weight {1e6 * cost.weight:.2f} µs"
                )
            grams, factors, rows = (
                shape.n_layers / 60 * sum(seconds)
                for seconds in (
                    (options.windows * k * costs[n].window for n, k in shape.places.items()),
                    (k * costs[n].matrix for n, k in shape.places.items()),
                    (k * n * costs[n].weight for n, k in shape.rows.items()),
                )
            )
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            minutes = f"sums {grams:.0f} min, matrices {factors:.0f} min, rows {rows:.0f} min"
            print(f"{shape.name}: {minutes}; {peak:.1f} GiB", flush=True)
            figures.append(f"{shape.name}_min={grams + factors + rows:.0f} {shape.name}_gib={peak:.1f}")
    print("values_cost: " + " ".join(figures))


if __name__ == "__main__":
    main()
