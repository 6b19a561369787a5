"""Layers that go, from the recipe to the card: chosen by measurement, healed, cut, weighed against bits."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from lwq.bits.knapsack import BudgetError
from lwq.bits.mixes import probed
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.errors import ModelError
from lwq.gguf.data import tensor_section_sha256
from lwq.gguf.header import read_header
from lwq.layers.pruned_base import Cut, prove, read_repairs, write_pruned
from lwq.llama.process import run_tool
from lwq.llama.toolchain import Toolchain
from lwq.plan.assemble import assemble
from lwq.plan.finished import Run
from lwq.record.record import Record
from lwq.steps import prune
from tests.run_tiny import RECIPE, Log, run_tiny, write_inputs

pytestmark = pytest.mark.tools
HEAD = RECIPE[: RECIPE.index("[[targets]]")] + "[bench]\ntests = []\n[pruning]\nn_windows = 2\nn_fit_windows = 6\n"
TYPES = 'types = ["q4_0", "q8_0"]\n'
WHOLE = HEAD + (
    '[[targets]]\nftype = "Q8_0"\nprune = 1\n'
    '[[targets]]\nname = "hand"\nftype = "Q8_0"\nprune_layers = [1]\nheal = true\n'
    '[[targets]]\nname = "plain"\nftype = "Q8_0"\nprune_layers = [1]\n'
    f'[[targets]]\nname = "roomy"\nbudget = "Q8_0"\nprune = "auto"\n{TYPES}'
    f'[[targets]]\nname = "narrow"\nbpw = 7.5\nprune = "auto"\ntypes = ["q8_0"]\n'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pruned")
    write_inputs(found)
    return found


@pytest.fixture(scope="module")
def finished(folder: Path, toolchain: Toolchain) -> tuple[Run, Record, Log]:
    run, log, _ = run_tiny(folder, folder / "home", toolchain, WHOLE)
    return run, assemble(run), log


def row_of(record: Record, name: str):
    return next(row for row in record.rows if row.name == name)


def test_set_that_goes_is_the_one_that_measured_least(finished, toolchain: Toolchain, folder: Path) -> None:
    run, record, _ = finished
    found: prune.Result = run.result("prune")
    assert [layer for layer, _ in found.barred] == [0, 3]
    assert (found.n_windows, found.n_set_windows) == (2, 4)
    klds = {}
    base = folder / "report" / "tiny-F16.gguf"
    with Engine(toolchain, base, n_ctx=64, n_threads=1, scored=probed(64)) as engine:
        text = (folder / "calibration.txt").read_text(encoding="utf-8")
        engine.set_windows(spread_over(engine.cut(text), 4))
        for layer in (1, 2):
            klds[layer] = engine.score(*engine.skip_layer(layer)).mean_kld
            engine.restore()
    assert found.sets[0].layers == (min(klds, key=lambda layer: klds[layer]),)
    assert found.sets[0].kld.value == pytest.approx(min(klds.values()), rel=0.02)  # quarters differ by a token
    assert row_of(record, "Q8_0_PRUNED1").pruned_layers == found.sets[0].layers


def test_pruned_rows_tell_their_damage_in_parts(finished) -> None:
    _, record, _ = finished
    for name in ("Q8_0_PRUNED1", "hand", "plain"):
        row = row_of(record, name)
        assert row.parts
        assert row.parts.quant.kld.value < 0.01 < row.parts.prune.kld.value
        assert row.evaluation.kld.value == pytest.approx(row.parts.prune.kld.value, rel=0.1)
    assert row_of(record, "plain").parts.healed is None
    assert row_of(record, "plain").commands[0].argv[-4:] != ()
    assert "--prune-layers" in row_of(record, "plain").commands[0].argv


def test_healed_file_is_closer_to_the_original_than_the_plain_cut(finished) -> None:
    _, record, _ = finished
    healed, plain = row_of(record, "hand"), row_of(record, "plain")
    assert healed.parts.healed.tensors
    assert healed.evaluation.kld.value < plain.evaluation.kld.value


def test_roomy_budget_keeps_every_layer_and_says_so(finished) -> None:
    _, record, _ = finished
    row = row_of(record, "roomy")
    assert row.pruned_layers == ()
    assert row.parts is None
    assert row.search.pruning.startswith("Every layer stays")
    assert row.n_params == record.rows[0].n_params


def test_budget_that_cannot_hold_all_layers_gets_a_working_pruned_model(finished, folder: Path) -> None:
    _, record, _ = finished
    row = row_of(record, "narrow")
    assert row.pruned_layers
    assert sum(t.n_bytes for t in row.types) * 8 <= 7.5 * record.rows[0].n_params
    assert row.parts
    header = read_header(folder / "report" / row.file)
    assert header.n_layer == 4 - len(row.pruned_layers)
    assert header.text("lwq.pruned_layers") == ",".join(map(str, row.pruned_layers))
    assert "does not keep to the budget" in row.search.pruning
    assert [c.verdict for c in row.search.candidates].count("chosen") == 1


def test_written_base_scores_the_digits_predicted_in_process(finished, folder: Path, toolchain: Toolchain) -> None:
    """For each pruned base: KLD and PPL of the file, by the engine, are those of zeros and repairs put in place."""
    run, record, _ = finished
    base = folder / "report" / record.rows[0].file
    for name in ("Q8_0_PRUNED1", "hand", "plain"):
        row = row_of(record, name)
        made = run.entry(run.made_from(f"parts:{name}"))
        file = made.path(row.parts.base_file)
        repairs = row.parts.healed.file if row.parts.healed else ""
        values = read_repairs(next((folder / "home" / "steps").glob(f"heal-*/{repairs}"))) if repairs else {}
        with Engine(toolchain, base, n_ctx=64, n_threads=1) as engine:
            text = (folder / "evaluation.txt").read_bytes().decode()
            engine.set_windows(engine.cut(text)[:5])
            prove(engine, Cut(layers=row.pruned_layers, tensors=values), file, engine.windows[0], toolchain)
            for layer in row.pruned_layers:
                engine.skip_layer(layer)
            for tensor, found in values.items():
                engine.swap(tensor, "f16", engine.ggml.quantize(found, "f16", None))
            inside = engine.score()
            engine.restore()
        assert f"{inside.ppl:.4f}" == f"{row.parts.prune.ppl.value:.4f}"
        assert inside.mean_kld == pytest.approx(row.parts.prune.kld.value, abs=2e-4)  # the log-probs have 16 bits


def test_cut_command_of_the_card_writes_the_same_tensors(finished, folder: Path, toolchain, tmp_path: Path) -> None:
    _, record, _ = finished
    argv = next(c.argv for c in record.commands if c.argv[:2] == ("lwq", "prune"))
    report = folder / "report"
    values = dict(pairwise(argv))
    layers = tuple(int(n) for n in values["--layers"].split(","))
    repairs = read_repairs(report / values["--repairs"]) if "--repairs" in values else {}
    out = tmp_path / "again.gguf"
    write_pruned(toolchain, read_header(report / argv[2]), Cut(layers=layers, tensors=repairs), out, "0" * 64)
    assert tensor_section_sha256(out) == tensor_section_sha256(report / values["--out"])


def test_second_run_does_nothing(finished, folder: Path, toolchain: Toolchain) -> None:
    run, log, _ = run_tiny(folder, folder / "home", toolchain, WHOLE)
    assert log.fresh == []
    assert len(log.kept) == len(run.steps)


def test_pruned_file_runs_in_plain_llama_bench(finished, folder: Path, toolchain: Toolchain) -> None:
    row = row_of(finished[1], "Q8_0_PRUNED1")
    argv = (str(toolchain.program("llama-bench")), "-m", row.file, "-p", "8", "-n", "4", "-r", "1", "-o", "json")
    (pp, tg) = json.loads(run_tool(argv, cwd=folder / "report").stdout)
    assert pp["avg_ts"] > 0 < tg["avg_ts"]


def test_wrong_written_file_is_caught_by_its_logits(finished, folder: Path, toolchain: Toolchain) -> None:
    _, record, _ = finished
    row = row_of(record, "plain")
    file = folder / "report" / row.parts.base_file
    with Engine(toolchain, folder / "report" / record.rows[0].file, n_ctx=64, n_threads=1) as engine:
        engine.set_windows(engine.cut((folder / "evaluation.txt").read_bytes().decode())[:1])
        with pytest.raises(ModelError, match="predicts otherwise"):
            prove(engine, Cut(layers=(2,), tensors={}), file, engine.windows[0], toolchain)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ('ftype = "Q8_0"\nprune = 3', "3 layers cannot go"),
        ('ftype = "Q8_0"\nprune_layers = [0]', "first"),
        ('ftype = "Q8_0"\nprune_layers = [3]\nheal = true', "last"),
        ('ftype = "Q8_0"\nprune_layers = [1, 9]\nheal = true', "no layer 9"),
    ],
)
def test_layers_that_cannot_go_are_named(target: str, told: str, folder: Path, toolchain: Toolchain) -> None:
    with pytest.raises(ModelError, match=told):
        run_tiny(folder, folder / "home", toolchain, f"{HEAD}[[targets]]\n{target}\n")


def test_budget_that_not_even_two_layers_fit_is_refused(folder: Path, toolchain: Toolchain) -> None:
    target = f'[[targets]]\nbpw = 2\nprune = "auto"\n{TYPES}'
    with pytest.raises(BudgetError, match="even without 2 layers"):
        run_tiny(folder, folder / "home", toolchain, HEAD + target)
