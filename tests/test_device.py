"""A whole run on a device whose memory is not this process's: files, figures, and a card that names it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lwq.llama.devices import Device
from lwq.llama.requests import TextRequest, Window
from lwq.llama.toolchain import Toolchain
from lwq.llama.tools import perplexity_base
from tests.run_tiny import RECIPE, run_tiny, write_inputs
from tests.tiny_models import (
    write_tiny_gemma3,
    write_tiny_lfm2,
    write_tiny_llama,
    write_tiny_moe,
    write_tiny_phi3,
    write_tiny_text,
)

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
    assert f"-dev {','.join(toolchain.device.names)} -ngl 5" in details
    for server in toolchain.device.servers:
        assert server not in text + details
        assert server not in (card.parent / "record.json").read_text(encoding="utf-8")
    assert len(run.plan.rows) == 4
    for row in run.plan.rows:
        for step in row.evaluations.values():
            damage = step.result_of(run.entries[step.key]).damage
            assert math.isfinite(damage.kld.value)


@pytest.mark.parametrize(
    "write", [write_tiny_llama, write_tiny_moe, write_tiny_gemma3, write_tiny_phi3, write_tiny_lfm2]
)
def test_perplexity_there_is_this_machines(write: Callable[..., Path], tmp_path: Path, toolchain: Toolchain) -> None:
    if toolchain.device.is_cpu:
        pytest.skip("needs a second device (`make test-device`)")
    write(tmp_path / "tiny.gguf")
    write_tiny_text(tmp_path / "text.txt")
    here = replace(toolchain, device=Device(names=("none",)))
    there, ours = (
        perplexity_base(
            each,
            TextRequest(model="tiny.gguf", text="text.txt", window=Window(n_ctx=64, n_chunks=8), output=f"{i}.logits"),
            cwd=tmp_path,
            threads=1,
        ).perplexity.ppl
        for i, each in enumerate((toolchain, here))
    )
    assert there.value == pytest.approx(ours.value, rel=2e-4)
