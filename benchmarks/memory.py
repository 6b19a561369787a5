"""Memory that measuring a large model takes: probes, a race of two whole mixes, the removal of one layer.

The model is synthetic: the shapes of a LLaMA of 8 B parameters (or of a Mistral of 24 B), random but finite F16
weights, and no vocabulary; it is written on first use (16 or 47 GB) and removed with ``--remove``. Windows are random
tokens. ``anonymous`` is the most memory that belongs to the process alone: pages of the mapped file are not counted,
since the system takes them back when somebody needs them.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lwq.bits.mixes import Mixer
from lwq.bits.race import Runner, race, rounds_of
from lwq.engine.engine import Engine
from lwq.gguf.header import read_header
from lwq.gguf.types import TensorInfo
from lwq.gguf.write import encoded_head, encoded_key, with_offsets, write_parts
from lwq.llama.toolchain import find, home
from lwq.store.files import need_space

N_CTX, N_WINDOWS, ALIGNMENT = 64, 2, 32
BLOCK = 1 << 24
"""Random weights, repeated from another place for each tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A dense model's sizes."""

    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_vocab: int

    def tensors(self) -> Iterator[TensorInfo]:
        """All tensors, in file order."""
        yield TensorInfo(name="token_embd.weight", ne=(self.n_embd, self.n_vocab), ggml_type="f16")
        width, width_kv = self.n_head * self.head_dim, self.n_head_kv * self.head_dim
        matrices = {
            "attn_q": (self.n_embd, width),
            "attn_k": (self.n_embd, width_kv),
            "attn_v": (self.n_embd, width_kv),
            "attn_output": (width, self.n_embd),
            "ffn_gate": (self.n_embd, self.n_ff),
            "ffn_up": (self.n_embd, self.n_ff),
            "ffn_down": (self.n_ff, self.n_embd),
        }
        for layer in range(self.n_layer):
            for norm in ("attn_norm", "ffn_norm"):
                yield TensorInfo(name=f"blk.{layer}.{norm}.weight", ne=(self.n_embd,), ggml_type="f32")
            for name, ne in matrices.items():
                yield TensorInfo(name=f"blk.{layer}.{name}.weight", ne=ne, ggml_type="f16")
        yield TensorInfo(name="output_norm.weight", ne=(self.n_embd,), ggml_type="f32")
        yield TensorInfo(name="output.weight", ne=(self.n_embd, self.n_vocab), ggml_type="f16")

    def keys(self) -> list[bytes]:
        """Metadata, encoded."""
        sizes = {
            "llama.block_count": self.n_layer,
            "llama.context_length": 8192,
            "llama.embedding_length": self.n_embd,
            "llama.feed_forward_length": self.n_ff,
            "llama.attention.head_count": self.n_head,
            "llama.attention.head_count_kv": self.n_head_kv,
            "llama.attention.key_length": self.head_dim,
            "llama.attention.value_length": self.head_dim,
            "llama.rope.dimension_count": self.head_dim,
            "llama.vocab_size": self.n_vocab,
        }
        others = {
            "general.architecture": "llama",
            "general.name": "synthetic",
            "tokenizer.ggml.model": "none",
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.freq_base": 500000.0,
        }
        return [encoded_key(key, value) for key, value in {**others, **sizes}.items()]


SHAPES = {
    "1b": Shape(n_layer=16, n_embd=2048, n_ff=8192, n_head=32, n_head_kv=8, head_dim=64, n_vocab=128256),
    "3b": Shape(n_layer=28, n_embd=3072, n_ff=8192, n_head=24, n_head_kv=8, head_dim=128, n_vocab=128256),
    "8b": Shape(n_layer=32, n_embd=4096, n_ff=14336, n_head=32, n_head_kv=8, head_dim=128, n_vocab=128256),
    "24b": Shape(n_layer=40, n_embd=5120, n_ff=32768, n_head=32, n_head_kv=8, head_dim=128, n_vocab=131072),
}


def synthetic(name: str) -> Path:
    """The model of that shape in the user's cache, written on first use."""
    path, shape = home() / "benchmarks" / f"synthetic-{name}.gguf", SHAPES[name]
    if path.exists():
        return path
    infos = with_offsets(shape.tensors(), ALIGNMENT)
    need_space(path.parent, sum(t.n_bytes for t in infos), path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    block = np.random.default_rng(7).standard_normal(BLOCK, np.float32)

    def pieces(info: TensorInfo) -> Iterator[memoryview]:
        if len(info.ne) == 1:
            yield np.ones(info.ne, np.float32).data
            return
        scaled = (block / np.sqrt(info.ne[0])).astype(np.float16)
        left, at = info.n_elements, info.offset % BLOCK
        while left:
            piece = scaled[at : at + left]
            yield piece.data
            left, at = left - len(piece), 0

    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        parts = ((info, pieces(info)) for info in infos)
        write_parts(file, encoded_head(shape.keys(), infos, ALIGNMENT), parts, ALIGNMENT)
    return partial.replace(path)


@dataclass(slots=True)
class Watcher:
    """Looks at this process's anonymous memory ten times a second."""

    peak: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watcher:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            kib = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
            self.peak = max(self.peak, kib << 10)


def timed(what: str, work: Callable[[], object]) -> float:
    """Seconds that it takes, printed."""
    began = time.monotonic()
    said = work()
    seconds = time.monotonic() - began
    print(f"{what:<28} {seconds:8.1f} s  {said or ''}", flush=True)
    return seconds


def measure(engine: Engine, name: str) -> dict[str, float]:
    """Seconds of each part."""
    shape = SHAPES[name]
    windows = np.random.default_rng(1).integers(0, shape.n_vocab, (N_WINDOWS, N_CTX), np.int32)
    mixer = Mixer(engine, {})
    places = (0, shape.n_layer // 2, shape.n_layer - 1)
    probed = [f"blk.{layer}.{tensor}.weight" for layer in places for tensor in ("attn_q", "ffn_down")]
    weights = [t.name for t in shape.tensors() if len(t.ne) > 1]
    mixes = [Runner(name=q, types=dict.fromkeys(weights, q)) for q in ("q4_0", "q5_0")]

    def removal() -> str:
        names = engine.skip_layer(shape.n_layer // 2)
        kld = engine.score(*names).mean_kld
        engine.restore()
        return f"KLD {kld:.4f}"

    return {
        "base": timed("base, two windows", lambda: engine.set_windows(windows)),
        "probes": timed("six probes", lambda: [mixer.measured(n, "q4_0") for n in probed] and ""),
        "race": timed("a race of two mixes", lambda: race(mixer, mixes, rounds_of(N_WINDOWS), lambda: None)),
        "back": timed("originals back", lambda: mixer.put({})),
        "removal": timed("one layer left out", removal),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shape", choices=SHAPES, default="8b")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--remove", action="store_true", help="remove the model afterwards")
    options = arguments.parse_args()
    path = synthetic(options.shape)
    n_bytes = read_header(path).file_bytes
    print(f"{path.name}: {n_bytes / 2**30:.2f} GiB", flush=True)
    with (
        Watcher() as watcher,
        Engine(find(), path, n_ctx=N_CTX, n_threads=options.threads) as engine,
    ):
        seconds = measure(engine, options.shape)
    told = " ".join(f"{what}_s={value:.0f}" for what, value in seconds.items())
    base, peak = n_bytes / 2**30, watcher.peak / 2**30
    print(f"memory: shape={options.shape} base_gib={base:.2f} anonymous_gib={peak:.2f} {told}")
    if options.remove:
        path.unlink()


if __name__ == "__main__":
    main()
