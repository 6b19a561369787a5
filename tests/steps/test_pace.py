"""A least speed of generation: what a recipe that asks for one ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lwq.bits import pacing
from lwq.bits.knapsack import BudgetError
from lwq.gguf.header import read_header
from lwq.llama import tools
from lwq.llama.toolchain import Toolchain
from lwq.metrics.values import Estimate
from lwq.plan.assemble import assemble
from lwq.report.search_section import outcome
from tests.metrics.test_speeds import SPEED, by_size, per_second
from tests.run_tiny import RECIPE, run_tiny, write_inputs

HEAD = RECIPE[: RECIPE.index("[[targets]]")] + "[bench]\ntests = []\n[pruning]\nn_windows = 2\nn_fit_windows = 4\n"
TYPES = 'types = ["q4_0", "q8_0"]\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("paced")
    write_inputs(found)
    return found


@pytest.fixture
def _by_size(in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama-bench runs, but its speeds are those of the files' sizes: a machine without noise."""
    real = tools.bench

    def bench(toolchain: Toolchain, *, cwd: Path, model: str, **options: Any):
        done = real(toolchain, cwd=cwd, model=model, **options)
        exact = by_size(sum(t.n_bytes for t in read_header(cwd / model).tensors))
        return replace_speed(done, exact)

    monkeypatch.setattr(pacing.tools, "bench", bench)


def replace_speed(done: Any, exact: Estimate) -> Any:
    from dataclasses import replace

    return replace(done, speed=tuple(replace(s, tokens_per_second=exact) for s in done.speed))


def sizes(folder: Path, toolchain: Toolchain) -> tuple[int, int]:
    """Bytes of all tensors in q8_0, and in the smallest of the types."""
    run, _, _ = run_tiny(folder, folder / "home", toolchain, HEAD + '[[targets]]\nftype = "Q8_0"\n')
    tensors = read_header(run.entries[run.step("quantize:Q8_0").key].path("tiny-Q8_0.gguf")).tensors
    small = sum(t.n_bytes * 18 // 34 if t.ggml_type == "q8_0" else t.n_bytes for t in tensors)
    return sum(t.n_bytes for t in tensors), small


@pytest.mark.tools
@pytest.mark.usefixtures("_by_size")
def test_a_file_gets_no_larger_than_its_speed_allows(folder: Path, toolchain: Toolchain) -> None:
    most, least = sizes(folder, toolchain)
    middle = (most + least) // 2
    target = f'[[targets]]\nbudget = "Q8_0"\n{TYPES}min_tg = {SPEED / middle}\n'
    run, _, _ = run_tiny(folder, folder / "home", toolchain, HEAD + target)
    record = assemble(run)
    row = record.rows[1]
    assert row.search
    n_bytes = sum(t.n_bytes for t in row.types)
    assert 0.95 * middle < n_bytes <= row.search.paces[0].n_bytes <= middle
    assert row.search.budget_bytes == most
    assert row.search.budget == f"the size of stock Q8_0, at least {SPEED / middle:g} tokens per second"
    assert row.name == f"Q8_0_LWQ-{SPEED / middle:g}tps"
    assert row.ftype != "Q8_0", "the label is that of the stock mix nearest in size"
    assert f"with all layers {n_bytes / 2**20:.2f} MiB make" in outcome(row, row.search)
    assert not list((folder / "report").glob("without-*")), "files that were only timed are not kept"


@pytest.mark.tools
@pytest.mark.usefixtures("_by_size")
def test_layers_go_where_no_size_of_the_whole_model_is_fast_enough(folder: Path, toolchain: Toolchain) -> None:
    most, least = sizes(folder, toolchain)
    target = f'[[targets]]\nname = "fast"\nbudget = "Q8_0"\nprune = "auto"\n{TYPES}min_tg = {SPEED / (0.93 * least)}\n'
    run, _, card = run_tiny(folder, folder / "home", toolchain, HEAD + target)
    row = assemble(run).rows[1]
    assert row.search
    assert row.pruned_layers
    assert sum(t.n_bytes for t in row.types) <= 0.93 * least
    assert "does not keep to the budget" in row.search.pruning
    assert row.search.paces[0].is_too_slow
    text = card.read_text(encoding="utf-8")
    assert "with all layers no size makes the " in text
    assert row.search.budget_bytes == most
    again, log, _ = run_tiny(folder, folder / "home", toolchain, HEAD + target)
    assert log.fresh == []
    assert assemble(again).rows[1] == row


@pytest.mark.tools
def test_files_that_come_out_slow_give_way_to_the_mix_that_was_timed(
    folder: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is fast while sizes are tried, and slow for whatever is written afterwards."""
    real, seen = tools.bench, list[str]()

    def bench(toolchain: Toolchain, *, cwd: Path, model: str, **options: Any):
        seen.append(str(cwd))
        speed = 100.0 if cwd == Path(seen[0]) else 1.0
        return replace_speed(real(toolchain, cwd=cwd, model=model, **options), per_second(speed))

    monkeypatch.setattr(pacing.tools, "bench", bench)
    target = f'[[targets]]\nname = "fast"\nsize = "1200 KiB"\n{TYPES}min_tg = 50.0\n'
    run, _, _ = run_tiny(folder, folder / "home", toolchain, HEAD + target)
    search = assemble(run).rows[1].search
    assert search
    verdicts = {c.name: c.verdict for c in search.candidates}
    slow = [name for name, verdict in verdicts.items() if verdict.startswith("too slow: 1.00")]
    assert len(slow) == sum(cwd != seen[0] for cwd in seen), "each winner that was timed afterwards"
    assert verdicts[search.chosen] == "chosen"
    assert search.chosen not in slow


@pytest.mark.tools
def test_a_speed_that_nothing_reaches_is_told_with_the_fastest(folder: Path, toolchain: Toolchain) -> None:
    asked = r"1e\+09 tokens per second asked for"
    for prune, told in (("", asked), ('prune = "auto"\n', f"{asked}.*even without 2 layers")):
        target = f'[[targets]]\nbudget = "Q8_0"\n{prune}types = ["q8_0"]\nmin_tg = 1e9\n'
        with pytest.raises(BudgetError, match=told):
            run_tiny(folder, folder / "home", toolchain, HEAD + target)
