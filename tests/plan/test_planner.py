"""Each command plans the steps that it needs, and each step once."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.llama.toolchain import Toolchain
from lwq.plan import sources
from lwq.plan.plan import Machine
from lwq.plan.planner import Planner
from lwq.recipe.parse import parse_recipe
from tests.plan.test_sources import HEAD


def planner(folder: Path, toolchain: Toolchain, more: str) -> Planner:
    recipe = parse_recipe(HEAD + more, "a.toml")
    found = sources.fetch(recipe, folder, folder / "home", lambda note: None)
    return Planner(recipe, found, Machine(toolchain=toolchain, n_threads=1, cpu=""))


BY_HAND = '[[targets]]\nname = "a"\nftype = "Q8_0"\nprune_layers = [1]\n'
COUNTED = '[[targets]]\nname = "b"\nftype = "Q8_0"\nprune = 1\n'


@pytest.mark.tools
@pytest.mark.parametrize("targets", [BY_HAND, COUNTED, BY_HAND + COUNTED], ids=["named", "counted", "both"])
def test_scores_of_a_recipe_measure_every_layer_and_cut_nothing(
    targets: str, folder: Path, toolchain: Toolchain
) -> None:
    steps = planner(folder, toolchain, targets).scores(None).steps
    assert [s.label for s in steps] == ["convert", "imatrix", "prune"]
    assert steps[-1].inputs.n_layers == 0


@pytest.mark.tools
def test_cuts_measure_layers_only_for_targets_that_count_them(folder: Path, toolchain: Toolchain) -> None:
    named = planner(folder, toolchain, BY_HAND).cuts().steps
    assert [s.label for s in named] == ["convert", "cut:without-1-unhealed"]
    both = [s.label for s in planner(folder, toolchain, BY_HAND + COUNTED).cuts().steps]
    assert both == ["convert", "imatrix", "prune", "heal", "cut:without-1-unhealed", "cut:pruned1"]


@pytest.mark.tools
def test_targets_without_the_same_layers_share_one_pruned_base(folder: Path, toolchain: Toolchain) -> None:
    other = BY_HAND.replace('"a"', '"c"').replace("Q8_0", "Q4_0")
    steps = planner(folder, toolchain, BY_HAND + other).plan().steps
    cuts = [s for s in steps if s.label.startswith("cut:")]
    assert [s.label for s in cuts] == ["cut:without-1-unhealed"]
    parts = [s for s in steps if s.label.startswith("parts:")]
    assert {s.inputs.base.key for s in parts} == {cuts[0].key}
    assert len(parts) == 2


@pytest.mark.tools
def test_weighing_layers_finds_sets_whatever_the_recipe_removes(folder: Path, toolchain: Toolchain) -> None:
    budget = '[[targets]]\nbudget = "Q8_0"\n'
    labels = [s.label for s in planner(folder, toolchain, budget).measurement(layers=True).steps]
    assert labels == ["convert", "imatrix", "sensitivity", "prune", "heal"]
