"""Single steps on a tiny model, for the tests of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.llama.toolchain import Toolchain
from tests.steps.test_sensitivity import Bench, write_inputs


@pytest.fixture
def bench(toolchain: Toolchain, tmp_path: Path) -> Bench:
    write_inputs(tmp_path)
    return Bench(tmp_path, toolchain, {}, {})
