"""lwq's own time beside the time of the llama.cpp tools, in one run of the quickstart recipe.

Everything is measured in an empty cache that shares only the toolchain and the downloaded model with
the user's own. ``share`` is (wall time of `lwq run` − time inside the tools) ÷ time inside the tools;
``help`` is the median of ten warm runs of `lwq --help`, in seconds.
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


def main() -> None:
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
        helps = [run(["--help"], lwq_home, folder) for _ in range(11)][1:]
    print(f"first run {wall:.2f} s, inside the tools {tools:.2f} s, lwq inside steps {inside:.2f} s")
    print(f"second run {again:.2f} s; help median {statistics.median(helps):.3f} s, worst {max(helps):.3f} s")
    share = (wall - tools) / tools
    print(f"overhead: share={share:.4f} help={statistics.median(helps):.3f} second={again:.2f}")


if __name__ == "__main__":
    main()
