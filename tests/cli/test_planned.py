"""`lwq plan` tells what large models take without reading them, and `lwq run` refuses what cannot fit."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from lwq.cli.main import cli
from lwq.store.files import known_sha256
from tests.run_tiny import RECIPE, write_inputs

pytestmark = pytest.mark.tools
ROOT = Path(__file__).parents[2]
SHAPES = """
name = "shape"
model = "shape.gguf"
[calibration]
text = "packaged:calibration"
n_chunks = 80
[selection]
text = "packaged:selection"
n_chunks = 32
[evaluation]
text = "packaged:evaluation"
n_chunks = 64
[[targets]]
ftype = "Q4_K_M"
[[targets]]
budget = "Q4_K_M"
prune = "auto"
[[targets]]
name = "two"
ftype = "Q4_K_M"
prune = 2
"""
MEASURED = """
import json, resource, sys
from pathlib import Path
from lwq.cli.main import main
try:
    main()
finally:
    # ru_maxrss would count what the process that started this one held
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    most = max(int(own.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    facts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    Path("used.json").write_text(json.dumps({"rss": most << 10, "read": int(facts["rchar"])}))
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def write_shape(name: str, folder: Path) -> Path:
    write = str(ROOT / "recipes/shapes/write_sparse.py")
    subprocess.run([sys.executable, write, name, "shape.gguf"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    (folder / "shape.toml").write_text(SHAPES, encoding="utf-8")
    return folder / "shape.gguf"


def measured(*arguments: str, cwd: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """What a command printed as JSON, and the most memory and the bytes read of it and all that it started.

    It may say that this machine cannot do it: exit code 1.
    """
    command = [sys.executable, "-c", MEASURED, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout), json.loads((cwd / "used.json").read_text())


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what a process reads")
@pytest.mark.parametrize(("name", "base_gib"), [("mistral-24b", 43.9), ("llama-70b", 131.4)])
def test_a_plan_of_a_large_model_reads_its_header_alone(
    name: str, base_gib: float, tmp_path: Path, tools_home: Path
) -> None:
    write_shape(name, tmp_path)
    said, used = measured("plan", "shape.toml", "--json", cwd=tmp_path)
    assert used["rss"] < 500e6
    assert used["read"] < 500e6  # to hash the model would be 47 or 141 GB
    steps = {step["label"]: step for step in said["steps"]}
    assert {"sensitivity", "prune", "heal", "cut:pruned2", "quantize:two", "parts:two", "bench"} < set(steps)
    assert not any(step["done"] or step["key"] for step in steps.values())
    assert all(step["ram_bytes"] > 0 and step["vram_bytes"] == 0 for step in steps.values())
    probed = steps["sensitivity"]
    assert probed["ram_mapped_bytes"] / 2**30 == pytest.approx(base_gib, rel=0.01)
    assert probed["ram_mapped_bytes"] < probed["ram_bytes"] < 1.35 * probed["ram_mapped_bytes"] + 3e9
    assert steps["convert"]["disk_bytes"] == 0  # the original is its own base
    assert steps["cut:pruned2"]["disk_bytes"] / 2**30 == pytest.approx(base_gib, rel=0.01)
    written = next(file for file in said["files"] if file["name"] == "two")
    assert steps["quantize:two"]["disk_bytes"] == written["file_bytes"]
    assert steps["parts:two"]["scratch_bytes"] == steps["baseline:evaluation"]["disk_bytes"] > 0
    costly = [step["seconds"] for step in steps.values() if step["seconds"] is not None]
    assert len(costly) > 20
    assert said["seconds"] == pytest.approx(sum(costly))


@pytest.fixture
def folder(tmp_path: Path, tools_home: Path) -> Path:
    write_inputs(tmp_path)
    (tmp_path / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def lwq(*arguments: str, cwd: Path, data_bytes: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, where asked with so much memory of its own and no more (RLIMIT_DATA)."""

    def limit() -> None:
        if data_bytes:
            resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))

    command = [sys.executable, "-m", "lwq", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False, preexec_fn=limit
    )


def test_a_model_that_was_hashed_has_keys_in_the_plan(folder: Path, tools_home: Path) -> None:
    before = lwq("-v", "plan", "tiny.toml", cwd=folder).stdout
    assert before.splitlines()[0].endswith("key")
    assert before.splitlines()[1].endswith("—")
    assert known_sha256(folder / "tiny.gguf", tools_home / "hashes.sqlite") is None
    assert lwq("why", "convert", "tiny.toml", cwd=folder).returncode == 0  # hashes it
    after = json.loads(lwq("plan", "tiny.toml", "--json", cwd=folder).stdout)
    assert all(len(step["key"]) == 64 for step in after["steps"])


def test_a_plan_prints_memory_disk_and_time_of_each_step(folder: Path, tools_home: Path) -> None:
    said = lwq("plan", "tiny.toml", cwd=folder).stdout
    head = next(line for line in said.splitlines() if line.startswith("step"))
    assert head.split() == ["step", "state", "RAM", "mapped", "disk", "time"]
    row = next(line for line in said.splitlines() if line.startswith("evaluate:Q4_K_M:evaluation"))
    assert row.count("MiB") == 2
    assert "RAM: " in said
    assert "at the pace of a small model on this machine" in said
    assert (tools_home / "calibration.json").is_file()


def test_a_plan_warns_and_fails_where_the_disk_lacks_what_it_predicts(
    folder: Path, tools_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("lwq.cli.ahead.free_bytes", lambda _: 1 << 10)
    with pytest.raises(SystemExit) as ended:
        cli.main(["plan", "tiny.toml"], prog_name="lwq", standalone_mode=False)
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "warning: the disk lacks " in said
    assert "LWQ_HOME" in said
    assert "cannot be done" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds a process on Linux")
def test_a_tenth_of_the_memory_is_refused_before_the_start_by_name(tmp_path: Path, tools_home: Path) -> None:
    write_shape("llama-1b", tmp_path)
    planned = json.loads(lwq("plan", "shape.toml", "--json", cwd=tmp_path).stdout)
    own = max(step["ram_bytes"] - step["ram_mapped_bytes"] for step in planned["steps"])
    done = lwq("run", "shape.toml", cwd=tmp_path, data_bytes=own // 10)
    assert done.returncode == 1
    assert not done.stdout
    told = done.stderr.replace("\n", " ")
    assert "heal needs at least" in told
    assert f"RLIMIT_DATA allows {own / 10 / 2**20:.2f} MiB" in told
    assert "lower n_fit_windows of [pruning]" in told
    assert not list(tools_home.glob("steps/*"))
    verdict = lwq("plan", "shape.toml", cwd=tmp_path, data_bytes=own // 10)
    assert verdict.returncode == 1
    assert "cannot be done: heal needs at least" in verdict.stdout


HALF = """
name = "half"
model = "half.gguf"
[calibration]
text = "calibration.txt"
n_ctx = 64
n_chunks = 8
[selection]
text = "selection.txt"
n_ctx = 512
[evaluation]
text = "evaluation.txt"
n_ctx = 64
n_chunks = 5
[[targets]]
budget = "Q4_K_M"
types = ["q4_0", "q8_0"]
prune = "auto"
[sensitivity]
n_windows = 2
n_selection_windows = 28
n_confirmation_windows = 8
[pruning]
n_windows = 2
n_fit_windows = 2
max_layers = 1
[bench]
tests = []
"""
STEPS = """
import hashlib, json, sys
from pathlib import Path
from lwq.cli.progress import Progress
from lwq.cli.settings import Settings
from lwq.plan.execution import execute
from lwq.plan.job import Job
from lwq.plan.reading import read_recipe
settings = Settings(verbosity=-1, llama_dir=None, threads=1, device="cpu")
job = Job.prepare(read_recipe(Path("half.toml")), settings.machine(), settings.cache(), print)
wanted = ("convert", "imatrix", "sensitivity", "prune", "heal", "search")
steps = tuple(s for s in job.plan.steps if s.module.NAME in wanted)
entries = execute(steps, job.surroundings(Progress(-1)))
for step in steps:
    entry = entries[step.key]
    hashes = {name: output["sha256"] for name, output in entry.outputs.items()}  # not when it was written
    said = json.dumps([entry.result, hashes], sort_keys=True)
    print(step.label, hashlib.sha256(said.encode()).hexdigest())
"""


def steps_within(data_bytes: int, folder: Path, home: Path) -> tuple[str, int]:
    """What the steps said, and the most memory (VmData) that one of their processes had."""

    def limit() -> None:
        if data_bytes:
            resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))

    environ = {**environment(), "LWQ_HOME": str(home), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command, most = [sys.executable, "-c", STEPS], 0
    with (folder / "said.txt").open("w+") as out, (folder / "errors.txt").open("w+") as errors:
        child = subprocess.Popen(command, cwd=folder, env=environ, stdout=out, stderr=errors, preexec_fn=limit)
        while child.poll() is None:
            try:
                watched = psutil.Process(child.pid)
                each = [watched, *watched.children(recursive=True)]
                most = max(most, *(p.memory_info().data for p in each if p.name().startswith("python")))
            except psutil.Error:
                pass
            try:
                child.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
    assert child.returncode == 0, (folder / "errors.txt").read_text()[-2000:]
    return (folder / "said.txt").read_text(), most


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds a process on Linux")
def test_half_of_the_memory_gives_the_same_bytes(tmp_path: Path, tools_home: Path) -> None:
    """What is kept to save time gives way: free memory decides time, never a result."""
    from tests.tiny_models import write_tiny_llama, write_tiny_text

    write_tiny_llama(tmp_path / "half.gguf", n_layer=12, n_embd=512, n_ff=64)  # many streams, little to compute
    for seed, (role, n_words) in enumerate((("calibration", 4500), ("selection", 9000), ("evaluation", 4500))):
        write_tiny_text(tmp_path / f"{role}.txt", n_words=n_words, seed=seed)  # half of the selection text is raced on
    (tmp_path / "half.toml").write_text(HALF, encoding="utf-8")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "toolchains").symlink_to((tools_home / "toolchains").resolve())
    whole, took = steps_within(0, tmp_path, tools_home)
    limited, used = steps_within(took // 2, tmp_path, tmp_path / "home")
    assert used <= took // 2
    assert limited == whole
    assert whole.count("\n") == 6
