"""What the Hub calls files by their names, asked of the Hub's own parser."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.gguf.types import FTYPES
from lwq.recipe.parse import parse_recipe
from lwq.record.hub_terms import hub_label
from tests.browser import answered

pytestmark = pytest.mark.web
RECIPES = Path(__file__).parents[1] / "recipes"
ENDS = ("", "_LWQ", "_LWQPRUNED2", "_PRUNED2", "-lwq", "-00001-of-00002", "_MINE-4bpw")


def test_labels_are_the_hubs() -> None:
    files = [f"Some-F16-model-7B-{ftype}{end}.gguf" for ftype in FTYPES for end in ENDS]
    files += ["M-lwq-12GiB.gguf", "m.gguf", "Q4_K_M.gguf", "M-UD-Q4_K_XL.gguf", "m-q4_k_m_lwq.gguf"]
    assert [hub_label(file) for file in files] == [label or "" for label in answered("labels.mjs", files)]


@pytest.mark.parametrize("name", ["quickstart", "prune-two", "same-size-as-stock", "mistral-small-3.2-24b-pruned"])
def test_files_of_the_recipes_have_labels_of_their_own_which_begin_with_their_ftype(name: str) -> None:
    recipe = parse_recipe((RECIPES / f"{name}.toml").read_text(encoding="utf-8"), name)
    targets = recipe.targets
    labels = answered("labels.mjs", [f"Some-Model-24B-{target.name}.gguf" for target in targets])
    assert len(set(labels)) == len(targets)
    for target, label in zip(targets, labels, strict=True):
        budget = target.wanted()
        assert label.startswith(target.ftype or (budget.ftype if budget else ""))
