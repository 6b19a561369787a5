"""Faults injected into runs of lwq; what it does not survive is listed, with how to try it again.

.venv/bin/python -m tests.faults SEED CASES [CASE]      (`make faults SEED=7 CASES=3000`, `make faults CASE=disk-17`)
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lwq.llama.toolchain import find, read_manifest
from tests.faults.cases import Case, all_cases, try_one
from tests.faults.flips import beside, try_flip
from tests.faults.machine import try_sequence
from tests.faults.stage import Stage, preload, warm

SAMPLE: Final = 30
"""So few cases are a look only: nothing but them."""


def begin() -> None:
    """Starts this process again with the library of faults, which begins with a process."""
    if sys.platform != "linux":
        sys.exit("faults of the disk are injected with LD_PRELOAD, which is Linux's")
    if "FAULTS_ROOT" in os.environ:
        return
    root = Path(tempfile.mkdtemp(prefix="lwq-faults-", dir=_fast()))
    root.chmod(0o755)  # other users play too
    tools = find().bin_dir.parent / "manifest.json"
    more = {**preload(root), "FAULTS_ROOT": str(root), "FAULTS_TOOLS": str(tools)}
    os.execve(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]], {**os.environ, **more})


def _fast() -> str | None:
    """Memory as a folder, where programs may lie in it: what fails is injected and needs no disk."""
    shm = Path("/dev/shm")
    is_good = shm.is_dir() and os.access(shm, os.W_OK) and not os.statvfs(shm).f_flag & os.ST_NOEXEC
    return str(shm) if is_good and shutil.disk_usage(shm).free > 2 << 30 else None


def cpu_seconds() -> float:
    """Of this process and all that it started and waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def tell(what: str, seed: int, tried: Iterable[Case]) -> int:
    """How many were lost; each as it comes, and the sum."""
    n, lost, began, used = 0, 0, time.monotonic(), cpu_seconds()
    for case in tried:
        n += max(1, case.times)
        if case.faults:
            lost += 1
            print(f"lost: {case.name}: {'; '.join(case.story)}", *case.faults, sep="\n    ", flush=True)
            print(f"    again: make faults SEED={seed} CASE={case.name}", flush=True)
        shutil.rmtree(case.stage.root / "worlds" / case.name, ignore_errors=True)
        shutil.rmtree(case.stage.root / "worlds" / f"{case.name}-look", ignore_errors=True)
        shutil.rmtree(case.stage.root / "said", ignore_errors=True)
    seconds, cpu = time.monotonic() - began, cpu_seconds() - used
    took = f"{seconds:.0f} s, {cpu:.0f} s of a core"
    print(f"{what}: tried={n} survived={n - lost} lost={lost} seed={seed} ({took})", flush=True)
    return lost


def parts(stage: Stage, seed: int, n_cases: int, wanted: str) -> int:
    """How many were lost of all parts, or of the one that is wanted."""
    n, lost = max(1, n_cases * 2 // 3), 0
    if wanted in ("", "faults"):
        lost += tell("faults", seed, all_cases(stage, seed, n_cases))
    if wanted in ("", "gc"):
        lost += tell("gc beside a run", seed, beside(stage, seed, n))
    if wanted in ("", "machine"):
        stage.prepare("edited")
        lost += tell("machine", seed, (try_sequence(stage, seed, number) for number in range(n_cases // 20)))
    if wanted in ("", "flip"):
        stage.prepare("rich")
        lost += tell("flips", seed, (try_flip(stage, seed, number) for number in range(n)))
    return lost


def one(stage: Stage, seed: int, name: str) -> int:
    """A case by its name, with its story."""
    kind, _, number = name.rpartition("-")
    for recipe in {"machine": ("edited",), "flip": ("rich",)}.get(kind, ()):
        stage.prepare(recipe)
    tried = {"flip": try_flip, "machine": try_sequence}.get(kind, try_one)(stage, seed, int(number))
    print("\n".join(tried.story))
    return tell("faults", seed, [tried])


def main(seed: int, n_cases: int, name: str) -> int:
    """Exit status: 1 where something was lost.

    Args:
        name: of a part (faults, gc, machine, flip), or of cases, commas between them; all when empty.
    """
    root = Path(os.environ["FAULTS_ROOT"])
    try:
        warm()
        stage = Stage(root, read_manifest(Path(os.environ["FAULTS_TOOLS"])))
        stage.build()
        stage.prepare("basic")
        if "-" in name:
            return sum(one(stage, seed, each) for each in name.split(",")) > 0
        return bool(parts(stage, seed, n_cases, "faults" if n_cases <= SAMPLE and not name else name))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    begin()
    seed, n_cases, name = (*sys.argv[1:], *("0", "300", "")[len(sys.argv) - 1 :])
    sys.exit(main(int(seed), int(n_cases), name))
