"""Each command plans the steps that it needs, and each step once."""

from __future__ import annotations

from dataclasses import replace
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


BUDGETS = '[[targets]]\nbudget = ["Q8_0", "Q4_0"]\n'
STOCK_MIX = '[[targets]]\nname = "mix"\nftype = "Q4_0"\nvalues = "compensated"\n'


def labels_of(folder: Path, toolchain: Toolchain, targets: str) -> list[str]:
    return [s.label for s in planner(folder, toolchain, targets).plan().steps]


@pytest.mark.tools
def test_a_budget_is_planned_with_gram_matrices_and_a_stock_valued_twin(folder: Path, toolchain: Toolchain) -> None:
    found = planner(folder, toolchain, '[[targets]]\nbudget = "Q8_0"\n').plan()
    assert [s.label for s in found.steps] == [
        "convert",
        "baseline:evaluation",
        "baseline:selection",
        "imatrix",
        "statistics",
        "sensitivity",
        "grams",
        "allocate:Q8_0_LWQ",
        "quantize:Q8_0_LWQ",
        "evaluate:F16:evaluation",
        "evaluate:F16:selection",
        "evaluate:Q8_0_LWQ:evaluation",
        "evaluate:Q8_0_LWQ:selection",
        "quantize:Q8_0_LWQ:stock-values",
        "evaluate:Q8_0_LWQ:evaluation:stock-values",
        "contexts",
        "continuations",
        "select",
    ]
    (row,) = (r for r in found.rows if r.own)
    assert row.own
    assert row.own.twin
    file, twin = row.own.quantize.inputs, row.own.twin.quantize.inputs
    assert file.grams
    assert replace(file, grams=None, file=twin.file) == twin
    assert twin.file == "tiny-Q8_0_LWQ-stock-values.gguf"
    assert row.own.twin.evaluate.inputs.candidate == row.own.twin.file
    assert row.own.twin.evaluate.inputs.baseline == row.evaluations["evaluation"].inputs.baseline


@pytest.mark.tools
@pytest.mark.parametrize(
    "targets", ['[[targets]]\nbudget = "Q8_0"\nvalues = "stock"\n', '[[targets]]\nftype = "Q8_0"\n']
)
def test_stock_values_are_planned_without_gram_matrices_and_twin(
    targets: str, folder: Path, toolchain: Toolchain
) -> None:
    found = planner(folder, toolchain, targets).plan()
    assert not [s.label for s in found.steps if s.label == "grams" or "stock-values" in s.label]
    assert all(row.own is None or row.own.twin is None for row in found.rows)
    assert all(s.inputs.grams is None for s in found.steps if s.module.NAME in ("quantize", "search"))


@pytest.mark.tools
def test_a_stock_mix_with_compensated_values_is_planned_with_gram_matrices(folder: Path, toolchain: Toolchain) -> None:
    labels = labels_of(folder, toolchain, STOCK_MIX)
    assert "sensitivity" not in labels
    wanted = ["grams", "allocate:mix", "quantize:mix", "quantize:mix:stock-values"]
    assert [label for label in labels if label in wanted] == wanted


@pytest.mark.tools
def test_targets_of_one_base_share_one_step_of_gram_matrices(folder: Path, toolchain: Toolchain) -> None:
    steps = planner(folder, toolchain, BUDGETS + STOCK_MIX).plan().steps
    (made,) = [s for s in steps if s.module.NAME == "grams"]
    keys = [s.inputs.grams.key for s in steps if s.module.NAME in ("quantize", "search") and s.inputs.grams]
    assert keys == [made.key] * 5  # two searches, three files
    assert len([s for s in steps if s.title[-1] == "stock-values"]) == 6


@pytest.mark.tools
def test_a_pruned_base_has_gram_matrices_of_its_own(folder: Path, toolchain: Toolchain) -> None:
    cut = '[[targets]]\nbudget = "Q8_0"\nprune_layers = [1]\n'
    labels = labels_of(folder, toolchain, cut + BUDGETS)
    assert [label for label in labels if label.startswith("grams")] == ["grams:without-1-unhealed", "grams"]
