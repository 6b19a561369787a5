"""The importance of the output tensor: what enters it, written where llama-quantize looks for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lwq.bits.output_importance import output_entry, write_with
from lwq.engine.engine import Engine
from lwq.gguf.data import raw_tensor, read_tensor
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.statistics import ImatrixEntry
from lwq.llama import tools
from lwq.llama.requests import QuantizeRequest, TextRequest, Window
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes
from tests.engine.test_engine import N_CTX, opened
from tests.tiny_models import write_tiny_gemma3, write_tiny_llama, write_tiny_moe, write_tiny_phi3, write_tiny_text

pytestmark = pytest.mark.tools


def sums(engine: Engine) -> np.ndarray:
    """Σ x² of result_norm over all windows of the engine."""
    assert engine.graph
    (node,) = [n for n in engine.graph.nodes if n.name == "result_norm"]
    found: list[Bytes] = []
    for tokens in engine.windows:
        engine.observe(tokens, (node.address,), lambda _, data: found.append(data))
    rows = np.concatenate(found).view(np.float32).reshape(-1, 256).astype(np.float64)
    assert len(rows) == engine.n_scored * len(engine.windows)
    return (rows**2).sum(axis=0)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_tiny_llama, "token_embd.weight"),
        (write_tiny_gemma3, "token_embd.weight"),
        (write_tiny_moe, "output.weight"),
        (write_tiny_phi3, "output.weight"),
    ],
)
def test_entry_is_the_sum_of_squares_of_result_norm(write, name: str, toolchain, tmp_path: Path) -> None:
    with opened(toolchain, write(tmp_path / "tiny.gguf")) as engine:
        (entry,) = output_entry(engine, engine.windows, [])
        assert entry.name == name
        assert entry.in_sum2.shape == (1, 256)
        assert entry.counts.tolist() == [engine.n_scored * len(engine.windows)]
        # the entry is stored in float32
        np.testing.assert_allclose(entry.in_sum2[0], sums(engine), rtol=2**-23)


@pytest.mark.parametrize("tied", [True, False])
def test_matrix_that_has_the_output_is_left_alone(tied: bool, toolchain: Toolchain, tmp_path: Path) -> None:
    name = "token_embd.weight" if tied else "output.weight"
    known = ImatrixEntry(name=name, in_sum2=np.ones((1, 256), np.float32), counts=np.array([64]))
    with opened(toolchain, write_tiny_llama(tmp_path / "tiny.gguf", tied=tied)) as engine:
        assert output_entry(engine, engine.windows, [known]) == ()


def collected(folder: Path, toolchain: Toolchain) -> Path:
    """The importance matrix that llama-imatrix makes of the tiny model beside it."""
    write_tiny_text(folder / "tiny.txt", n_words=600)
    window = Window(n_ctx=N_CTX, n_chunks=4)
    request = TextRequest(model="tiny.gguf", text="tiny.txt", window=window, output="imatrix.gguf")
    tools.imatrix(toolchain, request, cwd=folder, threads=1)
    return folder / "imatrix.gguf"


def test_added_entry_is_what_llama_imatrix_would_collect(toolchain: Toolchain, tmp_path: Path) -> None:
    """``--process-output`` exists for an untied output; it counts all tokens of the windows, as here with no skip."""
    write_tiny_llama(tmp_path / "tiny.gguf", tied=False)
    write_tiny_text(tmp_path / "tiny.txt", n_words=600)
    window = Window(n_ctx=N_CTX, n_chunks=4)
    request = TextRequest(model="tiny.gguf", text="tiny.txt", window=window, output="whole.gguf")
    tools.imatrix(toolchain, request, cwd=tmp_path, threads=1, process_output=True)
    theirs = {e.name: e for e in read_imatrix(tmp_path / "whole.gguf").entries}["output.weight"]
    with Engine(toolchain, tmp_path / "tiny.gguf", n_ctx=N_CTX, n_threads=1, scored=range(N_CTX - 1)) as engine:
        windows = engine.cut((tmp_path / "tiny.txt").read_text(encoding="utf-8"))[:4]
        engine.set_windows(windows)
        (ours,) = output_entry(engine, windows, [])
    # the last token of a window is never scored, so 127 of 128 tokens are in ours: means of squares are alike
    mean = [entry.in_sum2[0] / entry.counts[0] for entry in (ours, theirs)]
    np.testing.assert_allclose(mean[0], mean[1], rtol=0.05)


def test_written_matrix_keeps_all_and_adds_the_entry(toolchain: Toolchain, tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf", n_layer=2)
    source = collected(tmp_path, toolchain)
    with opened(toolchain, tmp_path / "tiny.gguf") as engine:
        added = output_entry(engine, engine.windows, read_imatrix(source).entries)
    write_with(source, added, tmp_path / "more.gguf")
    before, after = read_imatrix(source), read_imatrix(tmp_path / "more.gguf")
    assert (after.datasets, after.n_chunks, after.chunk_size) == (before.datasets, before.n_chunks, before.chunk_size)
    found = {entry.name: entry for entry in after.entries}
    assert set(found) == {e.name for e in before.entries} | {"token_embd.weight"}
    for entry in (*before.entries, *added):
        assert np.array_equal(found[entry.name].in_sum2, entry.in_sum2)
        assert np.array_equal(found[entry.name].counts, entry.counts)
    write_with(source, (), tmp_path / "same.gguf")
    assert (tmp_path / "same.gguf").read_bytes() == source.read_bytes()


def test_llama_quantize_rounds_the_embedding_by_the_added_entry(toolchain: Toolchain, tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf", n_layer=2)
    source = collected(tmp_path, toolchain)
    files = {}
    with opened(toolchain, tmp_path / "tiny.gguf") as engine:
        added = output_entry(engine, engine.windows, read_imatrix(source).entries)
        write_with(source, added, tmp_path / "more.gguf")
        for matrix in ("imatrix.gguf", "more.gguf"):
            request = QuantizeRequest(model="tiny.gguf", ftype="Q4_K_M", imatrix=matrix, output=f"with-{matrix}")
            tools.quantize(toolchain, request, cwd=tmp_path, threads=1)
            files[matrix] = read_header(tmp_path / f"with-{matrix}")
        embedding = engine.header.find("token_embd.weight")[1]
        values = read_tensor(engine.header, embedding.name)
        row = importance_rows(added, [embedding])[embedding.name][0]
        ggml_type = files["more.gguf"].find(embedding.name)[1].ggml_type
        expected = {"imatrix.gguf": None, "more.gguf": row}
        for matrix, importance in expected.items():
            ours = engine.ggml.quantize(values, ggml_type, importance)
            assert np.array_equal(ours, raw_tensor(files[matrix], embedding.name).data), matrix
    for tensor in files["more.gguf"].tensors:
        same = np.array_equal(*(raw_tensor(header, tensor.name).data for header in files.values()))
        assert same == (tensor.name != embedding.name), tensor.name
