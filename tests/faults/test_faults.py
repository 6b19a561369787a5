"""A sample of `make faults`: what breaks a run leaves what the next run makes as it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import REAL_HOME
from tests.faults.stage import HERE

pytestmark = pytest.mark.tools
ROOT = HERE.parents[1]
linux = pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD")


def tried(seed: int, *more: str) -> str:
    environ = {**os.environ, "LWQ_HOME": str(REAL_HOME), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.faults", str(seed), *more]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@linux
def test_a_few_runs_of_each_kind_are_survived() -> None:
    told = tried(0, "22")
    assert "faults: tried=22 survived=22 lost=0 seed=0" in told


@linux
@pytest.mark.slow
def test_three_hundred_are_survived() -> None:
    told = tried(0, "300")
    assert "faults: tried=300 survived=300 lost=0 seed=0" in told
    assert told.count(" lost=0 ") == 4
