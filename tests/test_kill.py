"""Runs killed in every step, by every signal: the next run goes on and makes the same files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lwq.llama.toolchain import Toolchain
from tests.run_tiny import RECIPE, write_inputs
from tests.tiny_models import write_tiny_llama

pytestmark = pytest.mark.slow
STEPS = (
    "convert", "baseline", "imatrix", "statistics", "allocate", "quantize", "evaluate", "items", "tasks",
    "contexts", "continuations", "bench", "select",
)  # fmt: skip
PRUNING = RECIPE[: RECIPE.index("[[targets]]")] + (
    "[bench]\ntests = []\n[pruning]\nn_windows = 2\nn_fit_windows = 6\n"
    + "".join(f'[[targets]]\nftype = "Q8_0"\nprune = {n}\n' for n in (1, 2))
)
IN_PROCESS = {
    "baseline", "sensitivity", "items", "prune", "heal", "pace", "search", "lean", "cut", "quantize",
}  # fmt: skip
EVERYTHING = RECIPE[: RECIPE.index("[[targets]]")] + (
    "[bench]\ntests = []\n[pruning]\nn_windows = 2\nn_fit_windows = 6\n[sensitivity]\nn_windows = 2\n"
    '[[targets]]\nbudget = "Q8_0"\nprune = "auto"\nmin_tg = 1.0\ntypes = ["q8_0", "q4_0"]\n'
    '[[targets]]\nftype = "Q8_0"\nprune = 1\n' + RECIPE[RECIPE.index("[[tasks]]") : RECIPE.index("[bench]")]
)
COMPENSATED = RECIPE[: RECIPE.index("[[targets]]")] + (
    "[bench]\ntests = []\n[sensitivity]\nn_windows = 2\n"
    '[[targets]]\nbudget = "Q4_0"\ntypes = ["q8_0", "q5_0", "q4_0"]\n'
)
CODES = {signal.SIGINT: 130, signal.SIGTERM: 130, signal.SIGKILL: -9}


def start(folder: Path) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "lwq", "run", "tiny.toml"]
    return subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(folder: Path) -> None:
    process = start(folder)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def outcome(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The record without what a clock measured, and the bytes of every GGUF."""
    report = folder / "reports" / "tiny"
    record = json.loads((report / "record.json").read_text(encoding="utf-8"))
    del record["provenance"]
    for row in record["rows"]:
        del row["speed"]
        if row["search"]:
            row["search"]["paces"] = []
    return record, {p.name: p.read_bytes() for p in report.glob("*.gguf")}


def kill_in(step: str, how: signal.Signals, folder: Path, home: Path) -> int | None:
    """The exit code of a run that got a signal while that step worked; None where it was over too soon."""
    process = start(folder)
    while process.poll() is None and not list(home.glob(f"steps/.{step}-*.*/")):
        if list(home.glob(f"steps/{step}-*")):
            break
        time.sleep(0.002)
    if process.poll() is None:
        process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode


def fresh(tools_home: Path, into: Path) -> Path:
    """A home that has the toolchain and the compiled loops, and nothing else."""
    into.mkdir()
    for name in ("toolchains", "compiled"):
        (into / name).symlink_to((tools_home / name).resolve())
    return into


def test_killed_run_goes_on_to_the_same_record_and_bytes(
    tmp_path: Path, tools_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each signal: a run is killed in every step, and the next goes on from there to its kill in a later one."""
    write_inputs(tmp_path)
    (tmp_path / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    finish(tmp_path)
    whole = outcome(tmp_path)
    for how, code in CODES.items():
        shutil.rmtree(tmp_path / "reports")
        home = fresh(tools_home, tmp_path / how.name)
        monkeypatch.setenv("LWQ_HOME", str(home))
        codes = []
        for step in STEPS:
            codes.append(kill_in(step, how, tmp_path, home))
            for entry in home.glob("steps/[!.]*"):
                assert (entry / "step.json").exists(), entry
        assert codes.count(code) >= len(STEPS) - 3, (how, codes)
        finish(tmp_path)
        assert outcome(tmp_path) == whole, how
        assert not [p for p in home.glob("steps/.*") if p.is_dir()]


def kill_after(n_pieces: int, file: Path, how: signal.Signals, folder: Path) -> int:
    """The exit code of a run that got a signal when so many pieces of a measurement were finished."""
    process = start(folder)
    while process.poll() is None and len(finished(file)) < n_pieces:
        time.sleep(0.002)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode


def finished(file: Path) -> list[bytes]:
    """Whole lines of a file of pieces, each a key and a value."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    return [line for line in lines if line]


def test_killed_measurement_of_layers_goes_on_behind_the_last_piece(tmp_path: Path, tools_home: Path) -> None:
    write_inputs(tmp_path)
    write_tiny_llama(tmp_path / "tiny.gguf", n_layer=6)
    (tmp_path / "tiny.toml").write_text(PRUNING, encoding="utf-8")
    finish(tmp_path)
    whole = outcome(tmp_path)
    (entry,) = tools_home.glob("steps/convert-*")
    file = tools_home / "pieces" / f"{entry.name.removeprefix('convert-')}.jsonl"
    all_pieces = finished(file)
    for step, n_pieces in (("heal", 1), ("prune", 5)):
        measured = [line for line in all_pieces if line.startswith(f'["{step} '.encode())]
        kept = ("convert", "baseline", "imatrix", "statistics", *(("prune",) if step == "heal" else ()))
        for how, code in CODES.items():
            for made in tools_home.glob("steps/[!.]*"):
                if made.name.split("-")[0] not in kept:
                    shutil.rmtree(made)
            for made in file.parent.glob(f"{file.stem}.*"):
                made.unlink()
            assert kill_after(n_pieces, file, how, tmp_path) == code
            before = finished(file)
            assert n_pieces <= len(before) < len(measured)
            assert not list(tools_home.glob(f"steps/{step}-*"))
            finish(tmp_path)
            assert outcome(tmp_path) == whole
            assert finished(file)[: len(before)] == before
            again = [line for line in finished(file) if line.startswith(f'["{step} '.encode())]
            assert sorted(again) == sorted(measured)  # each once, so none was lost but the one under way


def test_run_killed_among_compensated_tensors_goes_on_to_the_same_bytes(
    tmp_path: Path, tools_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the measurement of gains, and again among the tensors that the search makes."""
    write_inputs(tmp_path)
    (tmp_path / "tiny.toml").write_text(COMPENSATED, encoding="utf-8")
    finish(tmp_path)
    whole = outcome(tmp_path)
    (made,) = tools_home.glob("pieces/*.values/verdicts.jsonl")
    keys = [json.loads(line)[0] for line in finished(made)]
    gains = [key for key in keys if key.startswith("ratio/")]
    assert 0 < len(gains) < len(keys)
    files = {p.name: p.read_bytes() for p in made.parent.iterdir() if p != made}
    assert files
    for how, code in CODES.items():
        shutil.rmtree(tmp_path / "reports")
        home = fresh(tools_home, tmp_path / how.name)
        monkeypatch.setenv("LWQ_HOME", str(home))
        file = home / "pieces" / made.parent.name / made.name
        for n_pieces in (len(gains) // 2, len(gains) + 1, (len(gains) + len(keys)) // 2):
            assert kill_after(n_pieces, file, how, tmp_path) == code
            assert len(finished(file)) < len(keys)
        finish(tmp_path)
        assert outcome(tmp_path) == whole
        assert sorted(json.loads(line)[0] for line in finished(file)) == sorted(keys)
        assert {p.name: p.read_bytes() for p in file.parent.iterdir() if p != file} == files


def test_tools_die_with_a_killed_run(tmp_path: Path, tools_home: Path, toolchain: Toolchain) -> None:
    import psutil

    write_inputs(tmp_path)
    (tmp_path / "tiny.toml").write_text(RECIPE.replace("tg8", "tg99999"), encoding="utf-8")
    process = start(tmp_path)
    children: list[psutil.Process] = []
    while not children and process.poll() is None:
        with suppress(psutil.NoSuchProcess):  # an earlier tool ended while it was looked at
            children = [c for c in psutil.Process(process.pid).children() if c.name() == "llama-bench"]
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert children
    assert not alive


def child_of(process: subprocess.Popen[str], home: Path, spared: set[str]) -> tuple[str, int] | None:
    """A step of a run and the process that carries it out, once there is one not to be spared; None at its end."""
    import psutil

    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():
                at_work = [p.name[1:].split("-")[0] for p in home.glob("steps/.*-*.*/")]
                if "lwq.plan.child" in " ".join(child.cmdline()) and at_work and at_work[0] not in spared:
                    return at_work[0], child.pid
        time.sleep(0.002)
    return None


def test_killed_child_is_one_error_with_its_step_and_the_next_run_goes_on(tmp_path: Path, tools_home: Path) -> None:
    write_inputs(tmp_path)
    write_tiny_llama(tmp_path / "tiny.gguf", n_layer=6)
    (tmp_path / "tiny.toml").write_text(EVERYTHING, encoding="utf-8")
    finish(tmp_path)
    whole = outcome(tmp_path)
    for left in (tmp_path / "reports", tools_home / "steps", tools_home / "pieces"):
        shutil.rmtree(left)
    times: Counter[str] = Counter()
    while times != Counter(dict.fromkeys(IN_PROCESS, 2)):
        process = start(tmp_path)
        found = child_of(process, tools_home, {step for step in times if times[step] == 2})
        assert found, (times, process.communicate(timeout=60)[1])
        step, pid = found
        how, words = ((signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "out of memory"))[times[step]]
        time.sleep(0.2)
        os.kill(pid, how)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1, (step, err)
        (said,) = (line for line in err.splitlines() if line.startswith("lwq: "))
        assert said.startswith((f"lwq: {step}", "lwq: allocate")), said
        assert words in said
        assert "the same command goes on from there" in err
        assert "Traceback" not in err
        assert not [p for p in tools_home.glob("steps/.*-*.*") if p.is_dir()]
        times[step] += 1
    finish(tmp_path)
    assert outcome(tmp_path) == whole
