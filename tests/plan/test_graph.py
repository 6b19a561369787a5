"""What waits for what in a real plan, and what must have the machine for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.llama.toolchain import Toolchain
from lwq.plan import sources
from lwq.plan.graph import Pending, longest_chain, pending_of, ranks
from lwq.plan.plan import Machine, Plan
from lwq.plan.planner import Planner
from lwq.plan.twins import alike
from lwq.recipe.parse import parse_recipe
from tests.run_tiny import RECIPE, write_inputs

EVERYTHING = RECIPE[: RECIPE.index("[[targets]]")] + (
    '[[targets]]\nbudget = "Q4_0"\nmin_tg = 1.0\ntypes = ["q8_0", "q5_0", "q4_0"]\n'
    + RECIPE[RECIPE.index("[[tasks]]") :]
)


@pytest.fixture
def toolchain(tmp_path: Path) -> Toolchain:
    """One that is only asked who it is."""
    return Toolchain(
        bin_dir=tmp_path,
        lib_dir=tmp_path,
        commit="0" * 40,
        backend="cpu",
        flags=(),
        compiler="cc",
        stock=True,
        manifest_sha256="",
    )


def planned(folder: Path, toolchain: Toolchain) -> Plan:
    asked = parse_recipe(EVERYTHING, "tiny.toml")
    found = sources.fetch(asked, folder, folder / "home", lambda note: None)
    return Planner(asked, found, Machine(toolchain=toolchain, n_threads=1, cpu="a test's CPU")).plan()


def test_a_task_stands_behind_all_that_it_waits_for(tmp_path: Path, toolchain: Toolchain) -> None:
    write_inputs(tmp_path)
    plan = planned(tmp_path, toolchain)
    tasks = pending_of(plan.steps, alike(plan))
    labels = {step.key: step.label for step in plan.steps}
    after = {labels[task.key]: {labels[key] for key in task.after} for task in tasks}
    seen = set[str]()
    for label, before in after.items():
        assert before <= seen
        seen.add(label)
    assert after["imatrix"] == {"convert"}
    assert after["baseline:evaluation"] == {"convert"}
    name = plan.rows[1].name
    assert after[f"evaluate:{name}:evaluation"] == {f"quantize:{name}", "baseline:evaluation"}


def test_a_twin_waits_for_the_step_whose_result_it_may_have(tmp_path: Path, toolchain: Toolchain) -> None:
    write_inputs(tmp_path)
    plan = planned(tmp_path, toolchain)
    own = next(row.own for row in plan.rows if row.own and row.own.twin)
    tasks = {task.key: task for task in pending_of(plan.steps, alike(plan))}
    assert own.twin
    assert own.quantize.key in tasks[own.twin.quantize.key].after
    assert plan.rows[1].evaluations["evaluation"].key in tasks[own.twin.evaluate.key].after


def test_what_measures_time_is_alone_and_what_is_quick_is_done_here(tmp_path: Path, toolchain: Toolchain) -> None:
    write_inputs(tmp_path)
    plan = planned(tmp_path, toolchain)
    kinds = {step.key: step.module.NAME for step in plan.steps}
    where = {kinds[task.key]: task.where for task in pending_of(plan.steps, {})}
    assert {name for name, place in where.items() if place == "alone"} == {"bench", "pace", "search"}
    assert {name for name, place in where.items() if place == "here"} == {"select", "statistics"}


def test_the_rank_is_the_time_of_the_longest_chain_that_begins_with_a_task() -> None:
    def task(key: str, seconds: float, *after: str) -> Pending:
        return Pending(key=key, seconds=seconds, after=frozenset(after))

    tasks = (task("a", 1.0), task("b", 5.0, "a"), task("c", 2.0, "a"), task("d", 1.0, "b", "c"), task("e", 6.5))
    assert ranks(tasks) == {"a": 7.0, "b": 6.0, "c": 3.0, "d": 1.0, "e": 6.5}
    assert longest_chain(tasks) == 7.0
