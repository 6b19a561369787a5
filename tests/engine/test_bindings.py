"""Libraries that are not as they were built are refused in words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lwq.llama.toolchain import Toolchain

pytestmark = pytest.mark.tools
ROOT = Path(__file__).parents[2]
LOAD = """
import sys
from dataclasses import replace
from pathlib import Path
from lwq.engine.bindings import load_bindings
from lwq.errors import ToolchainError
from tests.fake_toolchain import make_fake_toolchain
from lwq.llama.toolchain import COMMIT
folder = Path(sys.argv[1])
try:
    load_bindings(replace(make_fake_toolchain(folder, {}), commit=COMMIT))
except ToolchainError as error:
    print(error.message, error.hint)
"""


@pytest.mark.parametrize("damage", ["empty", "text", "gone"])
def test_a_library_that_is_cut_short_or_gone_is_told_with_the_way_out(
    damage: str, tmp_path: Path, toolchain: Toolchain
) -> None:
    for path in toolchain.lib_dir.glob("lib*.so*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    library = tmp_path / "libllama.so"
    library.unlink() if damage == "gone" else library.write_bytes(b"#!/bin/sh\n" * (damage == "text"))
    command = [sys.executable, "-c", LOAD, str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "its libraries cannot be loaded" in done.stdout
    assert "`lwq toolchain build`" in done.stdout
