"""Steps side by side as a user runs them: workers of this machine or of a scheduler, lost, refused, left alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from lwq.llama.toolchain import Toolchain
from tests.cli.test_batch import SHARED, ended, orders, outcome, start
from tests.cli.test_main import lwq
from tests.conftest import REAL_HOME
from tests.dask_cluster import DAMAGING, OTHER_VERSION, DaskCluster, dask_cluster
from tests.run_tiny import write_inputs

pytestmark = pytest.mark.tools
TARGETS = {"one": ("Q4_K_M", "Q8_0", "Q5_K_M"), "two": ("Q3_K_M", "Q6_K", "Q4_0")}
Outcomes = dict[str, tuple[Any, dict[str, bytes]]]
KINDS = ("baseline", "imatrix", "quantize", "contexts", "continuations")
"""Kinds of steps that take long enough to be met."""


def write_work(folder: Path) -> Path:
    """Two recipes of one model, of three targets each."""
    write_inputs(folder)
    for name, ftypes in TARGETS.items():
        targets = "".join(f'[[targets]]\nftype = "{ftype}"\n' for ftype in ftypes)
        text = f'name = "{name}"\nmodel = "tiny.gguf"\n{SHARED}{targets}'
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path, tools_home: Path) -> Path:
    return write_work(tmp_path / "work")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain) -> Outcomes:
    """What the recipes come to in one process, by name."""
    folder = write_work(tmp_path_factory.mktemp("alone") / "work")
    home = folder.parent / "home"
    home.mkdir()
    for link in ("toolchains", "compiled"):
        (home / link).symlink_to(REAL_HOME / link)
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("LWQ_HOME", str(home))
        environ.setenv("LWQ_THREADS", "1")
        said = ended(start("run", "one.toml", "two.toml", cwd=folder))
    assert said.code == 0, said.err
    return outcome(folder)


def n_keys(home: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in home.glob("steps/[!.]*/step.json")}


def test_two_recipes_on_two_workers_make_the_bytes_of_one_process(
    folder: Path, tools_home: Path, alone: Outcomes
) -> None:
    planned = lwq("plan", "one.toml", "two.toml", "--workers", "2", cwd=folder)
    assert "all together, steps that recipes share once: " in planned.out
    assert "side by side: about " in planned.out
    assert " on 2 workers of this machine; " in planned.out
    said = ended(start("run", "one.toml", "two.toml", "--workers", "2", cwd=folder))
    assert said.code == 0, said.err
    assert "card: reports/one/README.md" in said.out
    assert said.out.splitlines()[-1] == "index: reports/index.html and INDEX.md, 2 runs"
    assert {line.partition(":")[0] for line in said.err.splitlines() if "✓" in line} == {"one", "two"}
    assert {name: (o.state, o.n_done) for name, o in orders(tools_home).items()} == {
        "one": ("done", 17),
        "two": ("done", 17),
    }
    assert outcome(folder) == alone
    assert all(f"tiny-{ftype}.gguf" in alone[name][1] for name, ftypes in TARGETS.items() for ftype in ftypes)


def test_workers_with_nothing_in_common_make_the_same_and_another_lwq_is_refused(
    folder: Path, tools_home: Path, tmp_path: Path, alone: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dask_cluster(tmp_path / "cluster", tools_home, "a") as cluster:
        cluster.start_worker("b", DAMAGING)
        cluster.start_worker("stranger", OTHER_VERSION)
        monkeypatch.setenv("LWQ_SCHEDULER", cluster.address)
        said = ended(start("run", "one.toml", "--json", cwd=folder))
        assert said.code == 0, said.err
    assert "is not used: it has lwq 0.0.1, and this is " in said.err
    homes = [cluster.folder / name / "lwq" for name in ("a", "b")]
    assert all(n_keys(home) for home in homes)
    assert (cluster.folder / "b" / "damaged").exists()
    assert not (cluster.folder / "stranger" / "lwq" / "steps").exists()
    assert outcome(folder)["one"] == alone["one"]


def test_what_cannot_be_had_is_told(folder: Path) -> None:
    said = lwq("run", "one.toml", "--detach", cwd=folder)
    assert said.code == 2
    assert "--detach: is for workers of a scheduler" in said.err
    assert lwq("run", "one.toml", "--workers", "0", cwd=folder).code == 2


def at_work(cluster: DaskCluster, kinds: set[str]) -> dict[str, str]:
    """Workers that carry out steps of these kinds now, and the kinds; waits for one."""
    for _ in range(20_000):
        begun = ((name, path) for name in "ab" for path in (cluster.folder / name / "lwq").glob("steps/.*-*.*/"))
        found = {name: kind for name, path in begun if (kind := path.name[1:].partition("-")[0]) in kinds}
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(kinds)


@pytest.mark.slow
def test_a_worker_killed_in_each_kind_of_step_loses_nothing(
    folder: Path, tools_home: Path, tmp_path: Path, alone: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dask_cluster(tmp_path / "cluster", tools_home, "a", "b") as cluster:
        monkeypatch.setenv("LWQ_SCHEDULER", cluster.address)
        process = start("run", "one.toml", cwd=folder)
        left = set(KINDS)
        while left:
            for name, kind in at_work(cluster, left).items():  # of both, where two run
                victim = cluster.worker_process(name)
                tools = victim.children(recursive=True)
                victim.kill()
                assert not psutil.wait_procs([victim, *tools], timeout=30)[1]
                left.discard(kind)
        said = ended(process)
        assert said.code == 0, said.err
    assert said.err.count("✓") == 17
    assert outcome(folder)["one"] == alone["one"]


@pytest.mark.slow
def test_a_scheduler_that_starts_again_is_gone_on_with(
    folder: Path, tools_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dask_cluster(tmp_path / "cluster", tools_home, "a", "b") as cluster:
        monkeypatch.setenv("LWQ_SCHEDULER", cluster.address)
        process = start("run", "one.toml", cwd=folder)
        at_work(cluster, {"quantize"})
        for name in ("scheduler", "a", "b"):
            cluster.stop(name)
        before = set(n_keys(tools_home))
        cluster.start_scheduler()
        for name in ("a", "b"):
            cluster.start_worker(name)
        said = ended(process)
        if said.code:  # it could not reconnect in time: one clear error, and the same command goes on
            assert "scheduler" in said.err.splitlines()[-2]
            said = ended(start("run", "one.toml", cwd=folder))
        assert said.code == 0, said.err
    assert before <= set(n_keys(tools_home))


@pytest.mark.slow
@pytest.mark.parametrize("detach", [False, True])
def test_an_interrupt_stops_the_workers_or_leaves_them_as_was_asked(
    detach: bool, folder: Path, tools_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dask_cluster(tmp_path / "cluster", tools_home, "a", "b") as cluster:
        monkeypatch.setenv("LWQ_SCHEDULER", cluster.address)
        process = start("run", "one.toml", *(["--detach"] if detach else []), cwd=folder)
        (name,) = at_work(cluster, {"continuations"})
        home = cluster.folder / name / "lwq"
        told = orders(tools_home)["one"].at_work
        assert [one.where[:10] for one in told if one.step == "continuations"] == ["127.0.0.1:"]
        os.kill(process.pid, signal.SIGINT)
        assert ended(process).code == 130
        assert orders(tools_home)["one"].state == "stopped"
        assert not orders(tools_home)["one"].at_work
        if detach:
            while list(home.glob("steps/.continuations-*.*/")):
                time.sleep(0.05)
            assert list(home.glob("steps/continuations-*"))
        else:
            time.sleep(3.0)
            assert not list(home.glob("steps/*continuations-*/"))
        said = ended(start("resume", cwd=folder))
        assert said.code == 0, said.err
        made = [path.stat().st_ino for path in home.glob("steps/continuations-*/step.json")]
        assert made or not detach
