"""The model that several tests of GGUF files read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny_models


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny.gguf", n_layer=2)
