"""The reference card's family, predicted from shapes alone, has the published sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lwq.gguf.header import read_header
from lwq.llama.toolchain import Toolchain
from lwq.plan.preview import planned_files
from lwq.recipe.parse import parse_recipe

ROOT = Path(__file__).parents[2]


@pytest.mark.tools
def test_published_figures_are_predicted(tmp_path: Path, toolchain: Toolchain) -> None:
    model = tmp_path / "mistral.gguf"
    write = str(ROOT / "recipes/shapes/write_sparse.py")
    subprocess.run([sys.executable, write, "mistral-24b", str(model)], check=True)
    assert model.stat().st_blocks * 512 < 20 * 2**20
    text = (ROOT / "recipes" / "mistral-small-3.2-24b-pruned.toml").read_text(encoding="utf-8")
    files = {f.name: f for f in planned_files(parse_recipe(text, "r.toml"), read_header(model), toolchain)}
    assert len(files) == 15
    naive = files["Q4_K_M_NAIVE"]
    # the model's card and llama.cpp's own listing: 13.34 GiB, 4.8620 bpw, 23.57 B parameters
    assert f"{naive.file_bytes / 2**30:.2f}" == "13.34"
    assert f"{naive.bpw:.4f}" == "4.8620"
    assert f"{naive.n_params / 1e9:.2f}" == "23.57"
    assert {f"{f.n_params / 1e9:.2f}" for f in files.values() if f is not naive} == {"22.46"}
