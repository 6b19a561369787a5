"""The folder in which recipes of several tests lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run_tiny import write_inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path
