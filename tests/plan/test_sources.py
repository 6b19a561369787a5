"""What a recipe names: files that share a name are kept apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lwq.errors import FileError
from lwq.llama.toolchain import Toolchain
from lwq.plan import sources
from lwq.plan.plan import Machine
from lwq.plan.planner import Planner
from lwq.plan.publish import publish_files
from lwq.plan.sources import Sources
from lwq.recipe.parse import parse_recipe
from tests.run_tiny import RECIPE, run_tiny, write_inputs
from tests.tiny_models import write_tiny_llama

HEAD = RECIPE[: RECIPE.index("[[targets]]")] + "[bench]\ntests = []\n"


def write_items(path: Path, first: int, n: int = 20) -> None:
    """Questions with ids from ``first`` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": f"q{i}", "question": f"What is {i} plus one?", "choices": [str(i + 1), str(i + 2)], "answer": 0}
        for i in range(first, first + n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def fetched(folder: Path, more: str) -> Sources:
    return sources.fetch(parse_recipe(HEAD + more, "a.toml"), folder, folder / "home", lambda note: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


TASK = """[[targets]]
ftype = "Q8_0"
[[tasks]]
name = "ARC"
file = ["easy/test.jsonl", "challenge/test.jsonl"]
n_items = 20
n_ctx = 64
"""


@pytest.mark.tools
def test_files_of_one_name_in_a_set_give_half_of_the_items_each(folder: Path, toolchain: Toolchain) -> None:
    write_items(folder / "easy" / "test.jsonl", 0)
    write_items(folder / "challenge" / "test.jsonl", 100)
    run, _, _ = run_tiny(folder, folder / "home", toolchain, HEAD + TASK)
    found = run.result("items:ARC")
    assert found.n_given == 40
    assert len(found.ids) == 20
    assert found.parts == "10 of test.jsonl, 10 of challenge-test.jsonl"


def test_a_file_that_a_set_names_twice_is_told(folder: Path) -> None:
    for name in ("easy", "challenge"):
        write_items(folder / name / "test.jsonl", 0)
    with pytest.raises(FileError, match="are the same"):
        fetched(folder, TASK)


def test_files_of_others_never_take_the_name_of_ours_or_of_each_other(folder: Path) -> None:
    for name in ("mine", "theirs"):
        (folder / name).mkdir()
        write_tiny_llama(folder / name / "tiny-Q8_0.gguf", seed=1 + len(name))
    rows = "".join(
        f'[[third_party]]\nname = "{name}"\nmodel = "{name}/tiny-Q8_0.gguf"\n' for name in ("mine", "theirs")
    )
    found = fetched(folder, f'[[targets]]\nftype = "Q8_0"\n{rows}')
    assert [f.given.name for f in found.third_party.values()] == ["mine.gguf", "theirs.gguf"]
    alone = fetched(folder, f'[[targets]]\nftype = "Q4_0"\n{rows}')
    assert [f.given.name for f in alone.third_party.values()] == ["tiny-Q8_0.gguf", "theirs.gguf"]


@pytest.mark.tools
def test_published_files_of_one_name_are_whose_row_says(folder: Path, toolchain: Toolchain) -> None:
    from lwq.plan.assemble import assemble
    from lwq.store.files import sha256_file

    run_tiny(folder, folder / "home", toolchain, HEAD + '[[targets]]\nftype = "Q8_0"\n')
    (folder / "theirs").mkdir()
    theirs = folder / "theirs" / "tiny-Q4_0.gguf"
    theirs.write_bytes((folder / "report" / "tiny-Q8_0.gguf").read_bytes())
    more = '[[targets]]\nftype = "Q4_0"\n[[third_party]]\nname = "theirs"\nmodel = "theirs/tiny-Q4_0.gguf"\n'
    run, _, _ = run_tiny(folder, folder / "home", toolchain, HEAD + more)
    publish_files(run, folder / "report")
    rows = assemble(run).rows
    assert len({row.file for row in rows}) == 3
    for row in rows:
        assert sha256_file(folder / "report" / row.file) == row.sha256


# which steps a command plans


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
