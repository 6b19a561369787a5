"""How fast this machine is, from a few seconds with a small model: for times of steps of which none ran here yet."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from lwq.gguf.write import write_gguf
from lwq.llama import tools
from lwq.llama.requests import QuantizeRequest
from lwq.metrics.values import Speed
from lwq.outlook.effort import Effort
from lwq.plan.plan import Machine
from lwq.store.cache import read_sealed, write_sealed
from lwq.store.files import os_errors, sha256_file, write_atomic
from lwq.store.temporary import temporary_folder

_FILE: Final = "calibration.json"
_N_LAYER, _N_EMBD, _N_FF, _N_VOCAB, _HEAD_DIM = 4, 1024, 2816, 256, 64
"""46 million weights in layers of the usual proportions: more than the caches of most CPUs hold."""
_N_FF_QUANTIZED = 512
"""Of the one layer that is quantized, which takes far longer."""
_PROMPT, _GENERATED = 128, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePace:
    """Seconds of each kind of work."""

    passed: float
    """Of one parameter and one token, many tokens at once."""
    generated: float
    """The same, one token after another."""
    quantized: float
    """Of one weight, in a K-quant."""
    written: float
    """Of one byte that is written, flushed and hashed."""

    def seconds(self, effort: Effort) -> float:
        return (
            self.passed * effort.passed
            + self.generated * effort.generated
            + self.quantized * effort.quantized
            + self.written * effort.written
        )


def calibrated(machine: Machine, home: Path) -> MachinePace:
    """This machine's pace; measured when it never was, or with another build, other threads or on another processor.

    What was measured beside other work is kept until the machine has less to do; nothing is in a cache that this user
    can only read.

    Raises:
        LwqError: the small model could not be written, quantized or timed.
    """
    facts, path, busy = _facts(machine), home / _FILE, _is_busy()
    kept = read_sealed(path)
    if kept and kept["facts"] == facts and (busy or not kept["busy"]):
        return MachinePace(**kept["pace"])
    with os_errors("make the cache", home):
        home.mkdir(parents=True, exist_ok=True)
    is_ours = os.access(home, os.W_OK)
    made = temporary_folder(home if is_ours else None, prefix=".calibration-")
    with made as folder, os_errors("time this machine", folder):
        pace = _measured(machine, folder)
    if is_ours:
        write_sealed(path, {"facts": facts, "busy": busy, "pace": asdict(pace)})
    return pace


def _is_busy() -> bool:
    """Whether more than half of the processors had work in the last minute."""
    return os.getloadavg()[0] > (os.cpu_count() or 1) / 2


def _facts(machine: Machine) -> Mapping[str, Any]:
    toolchain = machine.toolchain
    return {
        "cpu": machine.cpu,
        "n_threads": machine.n_threads,
        "toolchain": toolchain.manifest_sha256,
        "device": toolchain.device.label,
    }


def _measured(machine: Machine, folder: Path) -> MachinePace:
    n_params = _write_small(folder / "small.gguf", _N_LAYER, _N_FF)
    n_quantized = _write_small(folder / "layer.gguf", 1, _N_FF_QUANTIZED)
    toolchain, threads = machine.toolchain, machine.n_threads
    tests = (f"pp{_PROMPT}", f"tg{_GENERATED}")
    done = tools.bench(toolchain, cwd=folder, model="small.gguf", tests=tests, repetitions=1, threads=threads)
    passed, generated = (_seconds_of_a_token(speed) / n_params for speed in done.speed)
    request = QuantizeRequest(model="layer.gguf", output="quantized.gguf", ftype="Q4_K_M")
    quantized = tools.quantize(toolchain, request, cwd=folder, threads=threads).seconds / n_quantized
    began = time.monotonic()
    data = (folder / "small.gguf").read_bytes()
    write_atomic(folder / "copy", data)
    sha256_file(folder / "copy")
    written = (time.monotonic() - began) / len(data)
    return MachinePace(passed=passed, generated=generated, quantized=quantized, written=written)


def _seconds_of_a_token(speed: Speed) -> float:
    return 1 / speed.tokens_per_second.value


def _write_small(path: Path, n_layer: int, n_ff: int) -> int:
    """A llama without a vocabulary, of random weights; its number of parameters."""
    draw = np.random.default_rng(7).standard_normal(_N_EMBD * _N_FF, np.float32)
    block = (draw / np.sqrt(_N_EMBD)).astype(np.float16)
    shapes = {
        "attn_q": (_N_EMBD, _N_EMBD),
        "attn_k": (_N_EMBD // 4, _N_EMBD),
        "attn_v": (_N_EMBD // 4, _N_EMBD),
        "attn_output": (_N_EMBD, _N_EMBD),
        "ffn_gate": (n_ff, _N_EMBD),
        "ffn_up": (n_ff, _N_EMBD),
        "ffn_down": (_N_EMBD, n_ff),
    }
    tensors: dict[str, Any] = {"token_embd.weight": _shaped(block, (_N_VOCAB, _N_EMBD))}
    for layer in range(n_layer):
        for norm in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{layer}.{norm}.weight"] = np.ones(_N_EMBD, np.float32)
        for name, shape in shapes.items():
            tensors[f"blk.{layer}.{name}.weight"] = _shaped(block, shape)
    tensors["output_norm.weight"] = np.ones(_N_EMBD, np.float32)
    write_gguf(path, {**_METADATA, "llama.block_count": n_layer, "llama.feed_forward_length": n_ff}, tensors)
    return sum(int(t.size) for t in tensors.values())


def _shaped(block: Any, shape: tuple[int, int]) -> Any:
    return block[: shape[0] * shape[1]].reshape(shape)


_METADATA: Final[dict[str, str | int | float]] = {
    "general.architecture": "llama",
    "tokenizer.ggml.model": "none",
    "llama.vocab_size": _N_VOCAB,
    "llama.context_length": 1024,
    "llama.embedding_length": _N_EMBD,
    "llama.attention.head_count": _N_EMBD // _HEAD_DIM,
    "llama.attention.head_count_kv": _N_EMBD // _HEAD_DIM // 4,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": _HEAD_DIM,
    "llama.rope.freq_base": 10000.0,
}
