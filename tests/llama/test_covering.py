"""Calibration that goes on gives the very sums of one run, until each expert saw enough or the text is used up."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lwq.errors import ToolError
from lwq.gguf.imatrix import read_imatrix, tokens_of_experts, unreached_experts
from lwq.gguf.statistics import ImatrixEntry
from lwq.llama import tools
from lwq.llama.complaints import USED_UP
from lwq.llama.covering import Covered, collect_covering
from lwq.llama.process import run_tool
from lwq.llama.requests import TextRequest, Window
from lwq.llama.toolchain import Toolchain
from lwq.plan.assemble import assemble
from tests.cli.test_main import lwq
from tests.run_tiny import run_tiny, write_inputs
from tests.tiny_models import write_tiny_llama, write_tiny_moe, write_tiny_text

BATCH = 32
"""Windows of 64 tokens that llama-imatrix computes at once (2,048 tokens)."""


def entry(name: str, *counts: int) -> ImatrixEntry:
    sums = np.ones((len(counts), 2), np.float32)
    return ImatrixEntry(name=name, in_sum2=sums, counts=np.array(counts, np.int64))


def test_experts_that_no_token_reached_are_named_layer_by_layer_with_their_share() -> None:
    entries = [
        entry("blk.3.ffn_up_exps.weight", *(0 if i in (5, 17) else 9 for i in range(64))),
        entry("blk.3.ffn_down_exps.weight", *(0 if i in (5, 17) else 8 for i in range(64))),
        entry("blk.10.ffn_up_exps.weight", *(0 if i == 2 else 9 for i in range(64))),
        entry("blk.3.attn_q.weight", 64),
    ]
    told = "Calibration never reached 3 of 128 experts (2.3%): layer 3: experts 5, 17 (2 of 64); layer 10: expert 2"
    assert unreached_experts(entries) == f"{told} (1 of 64)."
    assert not unreached_experts(entries[3:])
    assert {layer: int(n.max()) for layer, n in tokens_of_experts(entries).items()} == {3: 8, 10: 9}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_moe(tmp_path / "moe.gguf")
    write_tiny_llama(tmp_path / "dense.gguf")
    write_tiny_text(tmp_path / "text.txt", n_words=2000)
    return tmp_path


def request(n_chunks: int | None, output: str, model: str = "moe.gguf") -> TextRequest:
    return TextRequest(model=model, text="text.txt", window=Window(n_ctx=64, n_chunks=n_chunks), output=output)


def covered(folder: Path, toolchain: Toolchain, asked: TextRequest, wanted: int) -> Covered:
    collect = partial(tools.imatrix, toolchain, cwd=folder, threads=1)
    return collect_covering(collect, asked, wanted, folder)


def values(path: Path) -> dict[str, tuple[bytes, bytes]]:
    return {e.name: (e.in_sum2.tobytes(), e.counts.tobytes()) for e in read_imatrix(path).entries}


@pytest.mark.tools
def test_sums_of_two_runs_are_those_of_one(folder: Path, toolchain: Toolchain) -> None:
    """To the bit where the first ends with a batch; else windows are added in another order, to rounding."""
    covered(folder, toolchain, request(2 * BATCH, "once.gguf"), 0)
    least = int(min(n.min() for n in tokens_of_experts(read_imatrix(folder / "once.gguf").entries).values()))
    twice = covered(folder, toolchain, request(BATCH, "twice.gguf"), least)
    assert [run.n_chunks for run in twice.runs] == [BATCH, 2 * BATCH]
    assert values(folder / "twice.gguf") == values(folder / "once.gguf")
    assert twice.runs[1].argv[5:9] == ("--in-file", "twice-32.gguf", "-o", "twice.gguf")
    assert not (folder / "twice-32.gguf").exists()
    odd = covered(folder, toolchain, request(24, "odd.gguf"), least)
    assert [run.n_chunks for run in odd.runs] == [24, 48, 96]
    covered(folder, toolchain, request(96, "whole.gguf"), 0)
    pairs = zip(read_imatrix(folder / "odd.gguf").entries, read_imatrix(folder / "whole.gguf").entries, strict=True)
    for one, other in pairs:
        assert (one.counts == other.counts).all()
        np.testing.assert_allclose(one.in_sum2, other.in_sum2, rtol=1e-5)


@pytest.mark.tools
def test_it_ends_where_experts_saw_enough_or_the_text_ends(folder: Path, toolchain: Toolchain) -> None:
    enough = covered(folder, toolchain, request(4, "enough.gguf"), 1)
    assert len(enough.runs) == 1
    assert enough.experts
    assert (enough.experts.n_experts, enough.experts.n_below) == (12, 0)
    all_of_it = covered(folder, toolchain, request(None, "all.gguf"), 10**6)
    assert all_of_it.experts
    n = all_of_it.last.n_chunks
    assert (all_of_it.experts.n_below, all_of_it.experts.n_first_chunks) == (12, n)
    too_many = covered(folder, toolchain, request(100, "more.gguf"), 10**6)
    assert too_many.experts
    assert [run.n_chunks for run in too_many.runs] == [100, n]
    assert (too_many.experts.n_below, too_many.experts.n_chunks) == (12, n)
    almost = covered(folder, toolchain, request(n - 1, "almost.gguf"), 10**6)
    assert [run.n_chunks for run in almost.runs] == [n - 1]
    assert (folder / "almost.gguf").is_file()
    behind = Window(n_ctx=64, n_chunks=8, first=n)
    last = replace(request(8, "last.gguf"), window=behind, onto="almost.gguf")
    with pytest.raises(ToolError, match=USED_UP):
        tools.imatrix(toolchain, last, cwd=folder, threads=1)
    dense = covered(folder, toolchain, request(4, "dense-imatrix.gguf", "dense.gguf"), 10**6)
    assert len(dense.runs) == 1
    assert dense.experts is None


RECIPE = """
name = "tiny"
model = "tiny.gguf"
[calibration]
text = "calibration.txt"
n_ctx = 64
n_chunks = 4
min_expert_tokens = WANTED
[evaluation]
text = "evaluation.txt"
n_ctx = 64
n_chunks = 5
[bench]
tests = []
[[targets]]
ftype = "Q4_K_M"
"""


@pytest.mark.tools
def test_what_calibration_reached_stands_in_record_card_and_statistics(
    tmp_path: Path, toolchain: Toolchain, tools_home: Path
) -> None:
    write_inputs(tmp_path)
    write_tiny_moe(tmp_path / "tiny.gguf")
    run, _, card = run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE.replace("WANTED", "200"))
    record = assemble(run)
    experts = record.experts
    assert experts
    assert (experts.n_first_chunks, experts.n_below) == (4, 0)
    assert experts.least_tokens >= 200 > experts.n_unreached == 0
    assert experts.n_chunks > 4
    assert record.texts[0].n_chunks == experts.n_chunks
    more = experts.n_chunks - 4
    told = f"Calibration used 4 windows and then {more} more: each of 12 experts saw at least 200 tokens"
    assert told in card.read_text(encoding="utf-8")
    assert [c.argv[0] for c in record.commands].count("llama-imatrix") == len(run.entry("imatrix").commands) > 1
    pasted = tmp_path / "pasted"
    pasted.mkdir()
    for name in ("tiny-F16.gguf", "calibration.txt"):
        shutil.copy(tmp_path / "report" / name, pasted / name)
    for argv in (c.argv for c in record.commands if c.argv[0] == "llama-imatrix"):
        run_tool((str(toolchain.program(argv[0])), *argv[1:]), cwd=pasted)
    assert (pasted / "imatrix.gguf").read_bytes() == (tmp_path / "report" / "imatrix.gguf").read_bytes()
    said = lwq("stats", "report/imatrix.gguf", cwd=tmp_path)
    assert f"12 experts in 3 layers; the least saw {experts.least_tokens} tokens" in said.out
    run, _, card = run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE.replace("WANTED", "1000000"))
    assert "all that the text gives: 12 of 12 experts saw fewer" in card.read_text(encoding="utf-8")
    (tmp_path / "tiny.toml").write_text(RECIPE.replace("WANTED", "200"), encoding="utf-8")
    assert "calibration may use all of its text (min_expert_tokens)" in lwq("plan", "tiny.toml", cwd=tmp_path).out
