"""Faults injected into runs of lwq; what it does not survive is listed with how to try it again.

.venv/bin/python -m tests.faults SEED CASES [CASE]      (`make faults SEED=7 CASES=3000`, `make faults CASE=12`)
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from lwq.llama.toolchain import find
from tests.faults.stage import Stage, preload, warm


def begin() -> None:
    """Starts this process again with the library of faults, which begins with a process."""
    if sys.platform != "linux":
        sys.exit("faults of the disk are injected with LD_PRELOAD, which is Linux's")
    if "FAULTS_ROOT" in os.environ:
        return
    root = Path(tempfile.mkdtemp(prefix="lwq-faults-", dir=_fast()))
    root.chmod(0o755)
    more = {**preload(root), "FAULTS_ROOT": str(root), "FAULTS_TOOLS": str(find().bin_dir.parent / "manifest.json")}
    os.execve(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]], {**os.environ, **more})


def _fast() -> str | None:
    """Memory as a folder, where programs may lie in it: what fails is injected and needs no disk."""
    shm = Path("/dev/shm")
    is_good = shm.is_dir() and os.access(shm, os.W_OK) and not os.statvfs(shm).f_flag & os.ST_NOEXEC
    return str(shm) if is_good and shutil.disk_usage(shm).free > 2 << 30 else None


def main(seed: int, n_cases: int, only: str) -> int:
    """Exit status: 1 where something was lost."""
    from lwq.llama.toolchain import read_manifest
    from tests.faults import cases

    root = Path(os.environ["FAULTS_ROOT"])
    try:
        warm()
        stage = Stage(root, read_manifest(Path(os.environ["FAULTS_TOOLS"])))
        stage.build()
        stage.prepare("basic")
        lost, began = [], time.monotonic()
        numbers = [int(only)] if only else range(n_cases)
        for number in numbers:
            case = cases.try_one(stage, seed, number)
            if case.faults:
                lost.append(case)
                print(f"lost: {case.name}: {'; '.join(case.story)}", *case.faults, sep="\n    ", flush=True)
            elif only:
                print(f"{case.name}: {'; '.join(case.story)}")
            if not only:
                shutil.rmtree(root / "worlds" / case.name, ignore_errors=True)
            elif sys.stdout.isatty():
                input(f"{root / 'worlds' / case.name}: Enter removes it ")
        n = len(numbers)
        print(
            f"faults: tried={n} survived={n - len(lost)} lost={len(lost)} seed={seed} ({time.monotonic() - began:.0f} s)"
        )
        return bool(lost)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    begin()
    seed, n_cases, only = (*sys.argv[1:], *("0", "300", "")[len(sys.argv) - 1 :])
    sys.exit(main(int(seed), int(n_cases), only))
