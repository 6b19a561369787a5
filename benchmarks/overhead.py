"""lwq's own time beside the time of the llama.cpp tools, in one run of the quickstart recipe.

Everything is measured in an empty cache that shares only the toolchain and the downloaded model with
the user's own. ``share`` is (wall time of `lwq run` − time inside the tools) ÷ time inside the tools.
``help_cpu`` and ``python_cpu`` are CPU seconds (user and system) of `lwq --help` and of `python -c pass`,
medians of twenty warm runs in turns; ``--starts`` measures these two alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lwq.llama.toolchain import home

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.toml"
SHARED = ("toolchains", "downloads", "hashes.sqlite")


def run(arguments: list[str], lwq_home: Path, folder: Path) -> float:
    """Wall seconds of one lwq command."""
    began = time.perf_counter()
    environment = {**os.environ, "LWQ_HOME": str(lwq_home)}
    command = [sys.executable, "-m", "lwq", *arguments]
    subprocess.run(command, check=True, env=environment, cwd=folder, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def starts() -> tuple[float, float]:
    """CPU seconds of `lwq --help` and of `python -c pass`."""
    commands = ([sys.executable, "-m", "lwq", "--help"], [sys.executable, "-c", "pass"])
    rounds = [[cpu_seconds(command) for command in commands] for _ in range(21)][1:]
    helps, bare = (statistics.median(one) for one in zip(*rounds, strict=True))
    return helps, bare


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--starts", action="store_true", help="only lwq --help beside python -c pass")
    alone = arguments.parse_args().starts
    helps, bare = starts()
    if alone:
        print(f"overhead: help_cpu={helps:.3f} python_cpu={bare:.3f}")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lwq_home = folder / "home"
        lwq_home.mkdir()
        for shared in SHARED:
            if (home() / shared).exists():
                (lwq_home / shared).symlink_to(home() / shared)
        run(["plan", str(RECIPE)], lwq_home, folder)  # fetches the model if it is not here yet
        wall = run(["run", str(RECIPE)], lwq_home, folder)
        again = run(["-q", "run", str(RECIPE)], lwq_home, folder)
        record = json.loads((folder / "reports" / "quickstart" / "record.json").read_text(encoding="utf-8"))
        steps = record["provenance"]["steps"]
        tools = sum(step["tool_seconds"] for step in steps)
        inside = sum(step["seconds"] - step["tool_seconds"] for step in steps)
    print(f"first run {wall:.2f} s, inside the tools {tools:.2f} s, lwq inside steps {inside:.2f} s")
    print(f"second run {again:.2f} s")
    share = (wall - tools) / tools
    print(f"overhead: share={share:.4f} help_cpu={helps:.3f} python_cpu={bare:.3f} second={again:.2f}")


if __name__ == "__main__":
    main()
