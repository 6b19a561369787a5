"""A whole run on a device whose memory is not this process's: files, figures, and a card that names it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lwq.llama.toolchain import Toolchain
from tests.run_tiny import RECIPE, run_tiny, write_inputs

pytestmark = pytest.mark.tools
WHOLE = RECIPE[: RECIPE.index("[[targets]]")] + (
    '[bench]\ntests = ["pp8"]\nrepetitions = 2\n[pruning]\nn_windows = 2\nn_fit_windows = 6\n'
    '[[targets]]\nftype = "Q4_0"\n[[targets]]\nbudget = "Q8_0"\nprune = "auto"\ntypes = ["q4_0", "q8_0"]\n'
    '[[targets]]\nftype = "Q8_0"\nprune = 1\n'
)


def test_whole_run_ends_there_and_its_card_names_it(tmp_path: Path, toolchain: Toolchain) -> None:
    if toolchain.device.is_cpu:
        pytest.skip("the CPU's whole run is test_execution's")
    write_inputs(tmp_path)
    run, _, card = run_tiny(tmp_path, tmp_path / "home", toolchain, WHOLE)
    text = card.read_text(encoding="utf-8")
    assert f"models lay on {toolchain.device.label}" in " ".join(text.split())
    details = card.with_name("DETAILS.md").read_text(encoding="utf-8")
    assert "-dev RPC0 -ngl 5" in details
    assert toolchain.device.server not in text + details
    assert toolchain.device.server not in (card.parent / "record.json").read_text(encoding="utf-8")
    assert len(run.plan.rows) == 4
    for row in run.plan.rows:
        for step in row.evaluations.values():
            damage = step.result_of(run.entries[step.key]).damage
            assert math.isfinite(damage.kld.value)
