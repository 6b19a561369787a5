"""Formulas of memory against what was measured, and against hand calculations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lwq.gguf.header import read_header
from lwq.llama.devices import CPU, Device
from lwq.outlook.memory import Footprint, padded, windows_of
from lwq.outlook.shape import ModelShape
from tests.tiny_models import N_EXPERT, write_tiny_deci, write_tiny_llama, write_tiny_moe

ROOT = Path(__file__).parents[2]
GIB = 1 << 30


GPU = Device(names=("CUDA0",), label="a GPU", sizes=(80 * GIB,))


def footprint(path: Path, device: Device = CPU) -> Footprint:
    shape = ModelShape(read_header(path))
    return Footprint(shape=shape, room_bytes=max(GIB, shape.base_bytes // 10), device=device)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    for name in ("llama-1b", "llama-8b"):
        write = str(ROOT / "recipes/shapes/write_sparse.py")
        subprocess.run([sys.executable, write, name, f"{name}.gguf"], check=True, cwd=folder)
    return folder


@pytest.mark.parametrize(("name", "measured_gib"), [("llama-1b", 2.56), ("llama-8b", 7.59)])
def test_a_race_of_two_mixes_takes_what_the_benchmark_measured(name: str, measured_gib: float, shapes: Path) -> None:
    """Of ``benchmarks/memory.py``: windows of 64 tokens, 31 scored, mixes of q4_0 and q5_0; random weights."""
    model = footprint(shapes / f"{name}.gguf")
    mix, form = (int(n * 5.5 / 8) for n in (model.shape.n_params, model.shape.largest))
    kept = model.mixer(int(model.shape.n_params * 10 / 8)) + form
    peak = model.engine(64, 31, 2, own=kept, swapped=mix + form)
    assert peak.anonymous / GIB == pytest.approx(measured_gib, rel=0.05)
    assert peak.mapped == pytest.approx(model.shape.base_bytes, rel=0.02)


def test_sizes_of_a_shape_are_those_of_its_tensors(shapes: Path) -> None:
    header = read_header(shapes / "llama-8b.gguf")
    shape = ModelShape(header)
    assert shape.base_bytes == pytest.approx(header.file_bytes, rel=1e-4)
    assert (shape.n_embd, shape.n_ff, shape.n_vocab) == (4096, 14336, 128256)
    assert shape.kv_bytes == 32 * 8 * (128 + 128) * 2
    assert shape.largest == 4096 * 128256
    assert shape.end_values == 4096 * 4096 + 14336 * 4096


def test_gram_matrices_are_summed_by_place_and_all_experts_of_one_together(shapes: Path, tmp_path: Path) -> None:
    """Sums are 4 bytes for each pair of channels, what is kept of them 2."""
    model = footprint(shapes / "llama-8b.gguf")
    assert sum(n == 14336 for n, _ in model.shape.gathered) == 32
    assert model.summed(2 * GIB) == 3 * GIB
    assert model.summed(1) == 14336**2 * 4 * 3 // 2
    assert 4 * 4 * 14336**2 < model.compensated() < 6 * GIB
    moe = footprint(write_tiny_moe(tmp_path / "moe.gguf"))
    wide = max(n for n, k in moe.shape.gathered if k > 1)
    assert moe.summed(1) == N_EXPERT * wide**2 * 4 * 3 // 2


def test_heads_that_differ_by_layer_and_experts_are_counted(tmp_path: Path) -> None:
    deci = ModelShape(read_header(write_tiny_deci(tmp_path / "deci.gguf")))
    assert deci.kv_bytes == sum((2, 1, 2, 1)) * (32 + 32) * 2
    moe = ModelShape(read_header(write_tiny_moe(tmp_path / "moe.gguf")))
    assert moe.n_ff == 2 * 256  # two of four experts
    assert moe.n_channels == 3 * (4 * 256 + 256 + 3 * 4 * 256) + 2 * 256


def test_tools_compute_as_many_windows_at_once_as_fill_a_batch() -> None:
    used = windows_of(512, 10)  # four windows of 512 in 2,048 tokens, the second half of each scored
    assert (used.n_cells, used.n_tokens, used.n_scored) == (2048, 512, 4 * 256)
    assert windows_of(512, 2).n_scored == 2 * 256
    assert windows_of(128, 80, all_scored=True).n_cells == 16 * 256  # each window's cache is padded
    assert windows_of(4096, 3).n_scored == 2048
    assert padded(257) == 512


def test_on_a_device_the_model_and_what_is_swapped_lie_there(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    here, there = footprint(path), footprint(path, GPU)
    swapped = 10 * GIB
    peak = there.engine(64, 31, 2, swapped=swapped)
    assert peak.device > swapped + here.shape.base_bytes
    assert peak.anonymous < GIB < here.engine(64, 31, 2, swapped=swapped).anonymous
    assert here.engine(64, 31, 2).device == 0
