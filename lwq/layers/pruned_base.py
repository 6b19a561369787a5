"""A base without some of its layers, written so that plain llama.cpp runs it, and proved to be what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lwq.bits.mixes import probed
from lwq.engine import generation
from lwq.engine.engine import Engine
from lwq.errors import ModelError
from lwq.gguf.data import read_tensor
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.rewrite import rewrite_gguf
from lwq.layers.pruning import without_layers
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Floats, Tokens

_AGREES: Final = 1e-3
"""Largest difference between logits, beside their spread, that rounding may make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What is taken out of a model and what is put right."""

    layers: tuple[int, ...]
    tensors: Mapping[str, Floats]
    """Repaired tensors, under their names in the original."""


def read_repairs(path: Path) -> dict[str, Floats]:
    """The tensors of a file of repairs."""
    header = read_header(path)
    return {t.name: read_tensor(header, t.name) for t in header.tensors}


def cut_command(header: GgufHeader, base: str, layers: tuple[int, ...], repairs: str, out: str) -> tuple[str, ...]:
    """The command line that writes the pruned base again."""
    put_in = ("--repairs", repairs) if repairs else ("--no-heal",)
    edge = ("--allow-edge",) if {0, header.n_layer - 1} & set(layers) else ()
    return ("lwq", "prune", base, "--layers", ",".join(map(str, layers)), *put_in, *edge, "--out", out)


def write_pruned(toolchain: Toolchain, header: GgufHeader, cut: Cut, out: Path, base_sha256: str) -> None:
    """Writes the base without those layers, with keys that say so; it loads and generates.

    Raises:
        ModelError: the architecture cannot lose these layers, or what was written does not work.
    """
    changed = without_layers(header.architecture, header.n_layer_all, header.metadata, cut.layers)
    keys = {"lwq.pruned_layers": ",".join(map(str, cut.layers)), "lwq.unpruned_sha256": base_sha256}
    if cut.tensors:
        keys["lwq.healed_tensors"] = ",".join(cut.tensors)
    rewrite_gguf(header, out, layers=cut.layers, metadata={**changed, **keys}, tensors=cut.tensors)
    generation.check_generates(toolchain, out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """On what a written base is compared with the loaded model: the first window of a text."""

    text: str
    name: str
    """What errors call it."""
    n_ctx: int
    n_threads: int


def write_proved(toolchain: Toolchain, header: GgufHeader, cut: Cut, out: Path, base_sha256: str, proof: Proof) -> None:
    """Writes the base without those layers, whose predictions are those of the model in process without them.

    Raises:
        ModelError: the architecture cannot lose these layers, what was written predicts otherwise, or the text is
            too short.
    """
    write_pruned(toolchain, header, cut, out, base_sha256)
    n_ctx = proof.n_ctx
    with Engine(toolchain, header.path, n_ctx=n_ctx, n_threads=proof.n_threads, scored=probed(n_ctx)) as engine:
        windows = engine.cut(proof.text)[:1]
        if not len(windows):
            raise ModelError(f"{proof.name}: has no window of {n_ctx} tokens")
        engine.set_windows(windows)
        prove(engine, cut, out, windows[0], toolchain)


def prove(engine: Engine, cut: Cut, out: Path, tokens: Tokens, toolchain: Toolchain) -> None:
    """Raises ModelError unless the written file predicts what the loaded model predicts without the layers.

    Args:
        engine: the original, with its windows set; it is left as it was.
        tokens: one window.
    """
    engine.restore()
    for layer in cut.layers:
        engine.skip_layer(layer)
    for name, values in cut.tensors.items():
        ggml_type = engine.header.find(name)[1].ggml_type
        engine.swap(name, ggml_type, engine.ggml.quantize(values, ggml_type, None, engine.n_threads))
    inside = engine.decoded(tokens)
    engine.restore()
    with Engine(toolchain, out, n_ctx=engine.n_ctx, n_threads=engine.n_threads, scored=engine.scored) as written:
        from_file = written.decoded(tokens)
    off = float(np.abs(from_file - inside).max() / max(float(inside.std()), 1e-9))
    if not off <= _AGREES:
        raise ModelError(
            f"{out.name}: predicts otherwise than the model without layers {', '.join(map(str, cut.layers))} (logits"
            f" differ by {off:.2g} of their spread)",
            hint="layers of this architecture cannot be pruned rightly; keep them all",
        )
