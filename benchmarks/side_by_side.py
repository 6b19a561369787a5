"""Two recipes of three targets each on a tiny model: two workers of one core each beside one process.

The process has one thread, then one for each core: what llama.cpp spreads over all of them is no faster side by side.
The bytes of every record and file are compared. All begin with nothing done, in turns, in homes of their own.

Usage: python benchmarks/side_by_side.py [TURNS]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lwq.llama.toolchain import home
from tests.run_tiny import RECIPE, write_inputs
from tests.tiny_models import write_tiny_llama, write_tiny_text

ROOT = Path(__file__).parents[1]
TARGETS = {"one": ("Q4_K_M", "Q8_0", "Q5_K_M"), "two": ("Q3_K_M", "Q6_K", "Q4_0")}
TEXTS = ("calibration", "evaluation")


def write_work(folder: Path) -> None:
    """Recipes and a model whose steps take some seconds each."""
    write_inputs(folder)
    write_tiny_llama(folder / "tiny.gguf", n_layer=8, n_embd=512)
    for seed, role in enumerate(TEXTS):
        write_tiny_text(folder / f"{role}.txt", n_words=12_000, seed=seed)
    shared = RECIPE[RECIPE.index("[calibration]") : RECIPE.index("[selection]")]
    shared += RECIPE[RECIPE.index("[evaluation]") : RECIPE.index("[[targets]]")]
    shared = shared.replace("n_chunks = 6", "n_chunks = 60").replace("n_chunks = 5", "n_chunks = 60")
    for name, ftypes in TARGETS.items():
        targets = "".join(f'[[targets]]\nftype = "{ftype}"\n' for ftype in ftypes)
        text = f'name = "{name}"\nmodel = "tiny.gguf"\n{shared}[bench]\ntests = []\n{targets}'
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")


def run(folder: Path, out: str, *options: str, threads: str = "1") -> tuple[float, dict[str, Any]]:
    """Seconds of a run from nothing, and what came of it."""
    own = folder / f"{out}-home"
    own.mkdir()
    for link in ("toolchains", "compiled"):
        (own / link).symlink_to(home() / link)
    environ = {**os.environ, "LWQ_HOME": str(own), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lwq", "--threads", threads, "run", "one.toml", "two.toml", "--out", out, *options]
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began, outcome(folder / out)


def outcome(folder: Path) -> dict[str, Any]:
    """Of each report the record without what a clock measured, and the bytes of every GGUF."""
    found = {}
    for path in sorted(folder.glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        del record["provenance"]
        for row in record["rows"]:
            del row["speed"]
        found[path.parent.name] = (record, {p.name: p.read_bytes() for p in path.parent.glob("*.gguf")})
    return found


def main() -> None:
    turns, same = int(sys.argv[1]) if len(sys.argv) > 1 else 3, True
    n_cpus, ratios, spread = os.cpu_count() or 1, list[float](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_work(folder)
        for turn in range(turns):
            alone, first = run(folder, f"alone{turn}")
            beside, second = run(folder, f"beside{turn}", "--workers", "2")
            ratios.append(beside / alone)
            same = same and first == second
            many, first = run(folder, f"many{turn}", threads=str(n_cpus))
            beside_many, second = run(folder, f"besides{turn}", "--workers", "2", threads=str(n_cpus))
            spread.append(beside_many / many)
            same = same and first == second
            print(f"one thread {alone:.1f} s, two workers {beside:.1f} s; {n_cpus} threads {many:.1f} s, ", end="")
            print(f"two workers {beside_many:.1f} s; load {os.getloadavg()[0]:.1f}", flush=True)
    worst = f"worst={max(ratios):.3f} spread={statistics.median(spread):.3f} worst_spread={max(spread):.3f}"
    print(f"side_by_side: ratio={statistics.median(ratios):.3f} {worst} same_bytes={same}")


if __name__ == "__main__":
    main()
