"""A probe in process against the same probe made with files: llama-quantize, then llama-perplexity.

Same tensors, same types, same tokens, one after another on the same machine. The time in process holds quantizing the
tensor, the swap, the forward pass from its layer on and the restoring, and its share of loading the model and of the
base's own pass; the time with files holds writing the file with that one tensor converted and measuring it against
stored log-probabilities (storing them is not counted). ``max_difference`` is between the two KLDs, in nats; the stored
log-probabilities have 16 bits.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from reference_copy import reference_model

from lwq.bits.mixes import Mixer
from lwq.engine.engine import Engine
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.types import TensorInfo, anchored
from lwq.llama import tools
from lwq.llama.requests import KldRequest, QuantizeRequest, TextRequest, Window
from lwq.llama.toolchain import Toolchain, find, home
from lwq.plan.hub import fetch_text
from lwq.store.files import write_atomic

TYPE = "q4_K"
EVERY = 18
THREADS = 2


def with_files(toolchain: Toolchain, folder: Path, tensors: tuple[TensorInfo, ...], name: str, window: Window) -> float:
    """KLD of a file in which one tensor is converted."""
    types = ((t.name, TYPE if t.name == name else "f16") for t in tensors)
    write_atomic(folder / "types.txt", "".join(f"{anchored(n)}={q}\n" for n, q in types))
    request = QuantizeRequest(
        model="base.gguf", output="probe.gguf", ftype="Q8_0", imatrix="imatrix.gguf", tensor_types_file="types.txt"
    )
    tools.quantize(toolchain, request, cwd=folder, threads=THREADS)
    compared = KldRequest(model="probe.gguf", logits="base.logits", n_ctx=window.n_ctx)
    measured = tools.kl_divergence(toolchain, compared, cwd=folder, threads=THREADS)
    return measured.damage.kld.value


def compare_with_files(n_windows: int, n_ctx: int) -> None:
    """Prints both KLDs of some tensors, and what probes of all would take.

    Args:
        n_windows: that a probe is scored on, of ``n_ctx`` tokens.
    """
    toolchain, model = find(), reference_model()
    header = read_header(model)
    tensors = tuple(t for t in header.tensors if len(t.ne) > 1)
    chosen = [t.name for t in tensors][EVERY // 2 :: EVERY]
    text, _ = fetch_text("packaged:calibration", recipe_dir=Path(), home=home())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base.gguf").symlink_to(model)
        (folder / "text.txt").symlink_to(text)
        window = Window(n_ctx=n_ctx, n_chunks=n_windows)
        threads = THREADS
        read = TextRequest(model="base.gguf", text="text.txt", window=window, output="imatrix.gguf")
        tools.imatrix(toolchain, read, cwd=folder, threads=threads)
        tools.perplexity_base(toolchain, replace(read, output="base.logits"), cwd=folder, threads=threads)

        began = time.perf_counter()
        with Engine(toolchain, model, n_ctx=n_ctx, n_threads=threads) as engine:
            engine.set_windows(engine.cut(text.read_text(encoding="utf-8"))[:n_windows])
            importance = importance_rows(read_imatrix(folder / "imatrix.gguf").entries, tensors)
            setup = (time.perf_counter() - began) / len(tensors)
            inside, klds = 0.0, {}
            for tensor in chosen:
                began = time.perf_counter()
                klds[tensor] = Mixer(engine, importance).probe(tensor, TYPE).mean_kld
                inside += time.perf_counter() - began + setup

        outside, worst = 0.0, 0.0
        for tensor in chosen:
            began = time.perf_counter()
            kld = with_files(toolchain, folder, tensors, tensor, window)
            outside += time.perf_counter() - began
            worst = max(worst, abs(kld - klds[tensor]))
            print(f"{tensor:<28} in process {klds[tensor]:.6f}  with files {kld:.6f}", flush=True)
    n, whole = len(chosen), len(tensors) / len(chosen) / 60
    print(f"{n} probes of {n_windows} windows of {n_ctx} tokens:", end=" ")
    print(f"{inside / n:.2f} s each in process, {outside / n:.2f} s with files")
    print(f"every tensor of the model: {inside * whole:.1f} min in process, {outside * whole:.1f} min with files")
    print(f"sensitivity: speedup={outside / inside:.2f} max_difference={worst:.6f}")
