"""A step in a child: what comes back from it, and what is said when it dies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lwq.errors import EngineError, LwqError, ModelError
from lwq.llama.toolchain import Toolchain
from lwq.plan.child import Done, carry_out
from lwq.steps.step import Context, Step
from tests import odd_step

pytestmark = pytest.mark.tools
Told = list[tuple[int, int]]


def child(what: str, toolchain: Toolchain, folder: Path, told: Told | None = None) -> Done:
    ctx = Context(
        folder=folder,
        toolchain=toolchain,
        n_threads=1,
        progress=lambda done, total: (told if told is not None else []).append((done, total)),
        entries={},
        given={},
    )
    step = Step(title=("odd",), module=odd_step, inputs=odd_step.Inputs(what=what), key_value={}, key="k")
    return carry_out(step, ctx)


def test_result_commands_progress_and_memory_come_back(toolchain, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LLAMA_GRAPH_REUSE_DISABLE", "0")
    told: Told = []
    done = child("", toolchain, tmp_path, told)
    assert done.result["pid"] != os.getpid()
    assert done.result["graph_reuse"] == "1"
    assert done.commands == [("llama-odd", "--option")]
    assert told == [(1, 3), (3, 3)]
    assert done.peak_bytes > 10 << 20
    assert [p.name for p in tmp_path.iterdir()] == ["output.txt"]


def test_what_ggml_says_before_it_gives_up_is_told(toolchain, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="signal 6.*\n  ops.cpp:17: GGML_ASSERT.a == b. failed$") as caught:
        child("abort", toolchain, tmp_path)
    assert "the same command goes on from there" in caught.value.hint


def test_last_words_of_a_child_that_ggml_did_not_end(toolchain, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"(?s)signal 6.*std::bad_alloc"):
        child("exit", toolchain, tmp_path)


def test_errors_of_a_step_come_out_as_they_are(toolchain, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="^it is broken$") as caught:
        child("model", toolchain, tmp_path)
    assert caught.value.hint == "mend it"
    with pytest.raises(LwqError, match="not enough memory"):
        child("memory", toolchain, tmp_path)


def test_fault_of_our_own_comes_out_with_the_childs_traceback(toolchain, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'blk.7'") as caught:
        child("fault", toolchain, tmp_path)
    assert "odd_step.py" in "".join(caught.value.__notes__)
