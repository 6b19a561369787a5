"""What a GPU brings, and that it measures rightly: one script for a machine that has one.

The engine's tests there; the quickstart's whole run; synthetic models in the shapes of 3 B and 8 B parameters, where
probes are timed beside the same probes on the CPU of the same build. ``same_size_swap`` is the largest difference, in
nats, between the KLD of a type and of the same type after another of equal block size stood in its place.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from memory import SHAPES, measure, synthetic

from lwq.bits.mixes import Mixer
from lwq.engine.engine import Engine
from lwq.llama.devices import Device
from lwq.llama.toolchain import Toolchain, find_for, home
from lwq.store.cache import Cache

ROOT = Path(__file__).resolve().parents[1]
TESTS = [f"tests/engine/test_{name}.py" for name in ("engine", "judge", "session")]
TENSORS = ("attn_q", "ffn_down")
EQUAL = ("q4_0", "iq4_nl"), ("iq4_nl", "q4_0"), ("q3_K", "iq3_s"), ("iq3_s", "q3_K")
N_CTX, N_WINDOWS = 512, 2


def check(device: str) -> None:
    """The engine's tests there; ends the script where one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "tools", "--device", device, *TESTS]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    print(done.stdout.strip().splitlines()[-1], flush=True)
    if done.returncode:
        sys.exit(done.stdout)


@contextmanager
def fresh_home() -> Iterator[Path]:
    """A home without finished steps, with the user's toolchains and downloads."""
    with tempfile.TemporaryDirectory() as name:
        for kept in ("toolchains", "downloads", "hashes.sqlite"):
            if (home() / kept).exists():
                (Path(name) / kept).symlink_to(home() / kept)
        yield Path(name)


def quickstart(device: str, model: str | None) -> float:
    """Seconds of the search in the quickstart's whole run."""
    with fresh_home() as fresh:
        more = ["--model", model] if model else []
        command = [sys.executable, "-m", "lwq", "--device", device, "run", "recipes/quickstart.toml", *more]
        environ = {**os.environ, "LWQ_HOME": str(fresh), "PYTHONPATH": str(ROOT)}
        began = time.monotonic()
        subprocess.run([*command, "--out", str(fresh / "report")], cwd=ROOT, env=environ, check=True)
        card = (fresh / "report" / "README.md").read_text(encoding="utf-8")
        print(f"quickstart {time.monotonic() - began:.0f} s; its card has {len(card)} characters", flush=True)
        return sum(entry.seconds for entry in Cache(fresh).entries() if entry.step == "search")


def windows(n_vocab: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return np.random.default_rng(1).integers(0, n_vocab, (N_WINDOWS, N_CTX), np.int32)


def probed(toolchain: Toolchain, shape: str, threads: int, layers: tuple[int, ...]) -> tuple[float, float]:
    """(median seconds of a probe's scores, largest difference between types of equal size) there."""
    with Engine(toolchain, synthetic(shape), n_ctx=N_CTX, n_threads=threads) as engine:
        engine.set_windows(windows(SHAPES[shape].n_vocab))
        mixer = Mixer(engine, {})
        stored = {q: mixer.stored("blk.1.ffn_down.weight", q) for pair in EQUAL for q in pair}
        seconds = []
        for layer in layers:
            for tensor in TENSORS:
                name = f"blk.{layer}.{tensor}.weight"
                engine.swap(name, "q4_0", mixer.stored(name, "q4_0"))
                began = time.monotonic()
                engine.score(name)
                seconds.append(time.monotonic() - began)
                engine.restore(name)
        worst = 0.0
        for first, second in EQUAL if not toolchain.device.is_cpu else ():
            alone, after = (_kld(engine, stored, types) for types in ((second,), (first, second)))
            worst = max(worst, abs(alone - after))
    return median(seconds), worst


def _kld(engine: Engine, stored: dict[str, np.ndarray], types: tuple[str, ...]) -> float:
    for q in types:
        engine.swap("blk.1.ffn_down.weight", q, stored[q])
        kld = engine.score("blk.1.ffn_down.weight").mean_kld
    engine.restore()
    return kld


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="gpu", help="as `lwq --device`")
    arguments.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments.add_argument("--model", help="of the quickstart, where there is no network")
    arguments.add_argument("--small", default="3b", choices=SHAPES, help="shape whose probes are timed")
    arguments.add_argument("--large", default="8b", choices=[*SHAPES, "none"], help="shape that is raced")
    options = arguments.parse_args()
    toolchain = find_for(options.device)
    check(options.device)
    search_s = quickstart(options.device, options.model)
    n_layer = SHAPES[options.small].n_layer
    there, same_size = probed(toolchain, options.small, options.threads, tuple(range(0, n_layer, 4)))
    on_cpu = replace(toolchain, device=Device(names=("none",)))
    here, _ = probed(on_cpu, options.small, options.threads, (n_layer // 2,))
    print(f"a probe of {options.small}: {there * 1e3:.1f} ms there, {here * 1e3:.1f} ms on the CPU", flush=True)
    if options.large != "none":
        with Engine(toolchain, synthetic(options.large), n_ctx=64, n_threads=options.threads) as engine:
            measure(engine, options.large)
    name = toolchain.device.label.replace(" ", "-")
    print(
        f"device: name={name} probe_ms_{options.small}={there * 1e3:.1f} search_s_135m={search_s:.1f}"
        f" speedup_over_cpu={here / there:.1f} same_size_swap={same_size:g}"
    )


if __name__ == "__main__":
    main()
