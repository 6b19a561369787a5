"""Task sets from file to score: with the real tool, item by item, and with tools that lose some."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest

from lwq.errors import FileError, LwqError, TranscriptError
from lwq.llama.process import run_tool
from lwq.llama.task_transcripts import Outcomes, parse_task_score
from lwq.llama.toolchain import Toolchain
from lwq.plan.assemble import assemble
from lwq.record.record import Record
from tests.fake_toolchain import make_fake
from tests.run_tiny import run_tiny, write_inputs

pytestmark = pytest.mark.tools
RECIPE = """
name = "sets"
model = "tiny.gguf"
[calibration]
text = "calibration.txt"
[evaluation]
text = "evaluation.txt"
n_ctx = 64
n_chunks = 5
[[third_party]]
name = "same"
model = "tiny.gguf"
[[tasks]]
name = "ARC"
file = "arc.jsonl"
n_items = 100
n_ctx = 64
[[tasks]]
name = "WinoGrande"
file = "winogrande.csv"
n_items = 100
n_ctx = 64
[[tasks]]
name = "HellaSwag"
file = "hellaswag.txt"
n_items = 100
n_ctx = 64
[bench]
tests = []
"""


def write_sets(folder: Path) -> None:
    write_inputs(folder)
    item = "A cook stands in kitchen {0}. He\n{1}\nsings {0} songs.\nflies away.\ncuts {0} onions.\nis a stone.\n"
    (folder / "hellaswag.txt").write_text("".join(item.format(i, i % 4) for i in range(110)), encoding="utf-8")


def scored(argv: tuple[str, ...], folder: Path, kind: str, n_items: int) -> Outcomes:
    """What the tool prints; run again where it ended before it had printed all (a race of its own)."""
    for _ in range(20):
        done = run_tool(argv, cwd=folder)
        with contextlib.suppress(TranscriptError):
            return parse_task_score(kind, done.stdout, done.stderr, n_items)
    raise AssertionError(argv)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain) -> tuple[Record, Path, str]:
    folder = tmp_path_factory.mktemp("sets")
    write_sets(folder)
    run, _, card = run_tiny(folder, folder / "home", toolchain, RECIPE)
    return assemble(run), folder, card.read_text(encoding="utf-8")


def test_every_score_is_the_mean_of_its_items_and_the_tools_own(finished, toolchain: Toolchain) -> None:
    record, folder, card = finished
    for row in record.rows:
        pasted = [c.argv for c in row.commands if c.step == "tasks"]
        assert len(pasted) == 3
        for score, argv in zip(row.tasks, pasted, strict=True):
            assert score.n_items == len(score.outcomes) == 100
            assert sum(score.right()) / 100 == pytest.approx(score.score.value, abs=1e-9)
            kind = next(s.kind for s in record.task_sets if s.name == score.name)
            raw = scored((str(toolchain.program(argv[0])), *argv[1:]), folder / "report", kind, 100)
            assert raw.score == score.score
            assert f"{100 * score.score.value:.2f} ±{100 * (score.score.stderr or 0):.2f}" in card


def test_one_file_under_two_names_has_the_same_outcomes(finished) -> None:
    record, _, _ = finished
    base, same = record.rows
    assert [t.outcomes for t in base.tasks] == [t.outcomes for t in same.tasks]


def test_outcomes_stand_in_the_order_of_the_ids(finished, toolchain: Toolchain) -> None:
    record, folder, _ = finished
    # HellaSwag is asked in another order than that of the file: the same items one by one must give the same
    found = next(s for s in record.task_sets if s.name == "HellaSwag")
    score = next(t for t in record.rows[0].tasks if t.name == "HellaSwag")
    lines = (folder / "hellaswag.txt").read_text(encoding="utf-8").splitlines()
    for place in (0, 17, 99):
        row = int(found.ids[place].rpartition("-")[2])
        (folder / "one.txt").write_text("\n".join(lines[6 * row : 6 * row + 6]) + "\n", encoding="utf-8")
        argv = ("-m", "report/tiny-F16.gguf", "-f", "one.txt", "--hellaswag", "--hellaswag-tasks", "1", "-c", "64")
        raw = scored((str(toolchain.program("llama-perplexity")), *argv), folder, "hellaswag", 1)
        assert raw.right == (score.right()[place],)


def test_context_grows_where_an_item_needs_more(tmp_path: Path, toolchain: Toolchain) -> None:
    write_sets(tmp_path)
    lines = (tmp_path / "arc.jsonl").read_text(encoding="utf-8").splitlines()
    item = json.loads(lines[0])
    item["question"]["stem"] = "Why? " + "river stone candle " * 200
    (tmp_path / "arc.jsonl").write_text("\n".join([json.dumps(item), *lines[1:100]]), encoding="utf-8")
    run, _, _ = run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE)
    found = {s.name: s.n_ctx for s in assemble(run).task_sets}
    assert found["ARC"] > 64
    assert found["WinoGrande"] == 64


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        ('"$real" "$@" | grep -v "^100\t"', "99 of 100 items"),
        ('"$real" "$@" | sed -E "s/^(50\t).*/\\1nan/"', "nan"),
        ('"$real" "$@" | head -c 900', "of 100 items"),
    ],
)
def test_tool_that_loses_an_item_fails_the_step_by_name(
    behaviour: str, told: str, tmp_path: Path, toolchain: Toolchain
) -> None:
    write_sets(tmp_path)
    body = f'case "$*" in *--multiple-choice*) {behaviour};; *) exec "$real" "$@";; esac'
    fake = make_fake(tmp_path / "bin", toolchain, {"llama-perplexity": body})
    with pytest.raises(TranscriptError, match=told) as caught:
        run_tiny(tmp_path, tmp_path / "home", fake, RECIPE)
    assert "tasks:F16:ARC" in caught.value.message


def test_run_broken_off_between_sets_does_not_score_a_finished_one_again(tmp_path: Path, toolchain: Toolchain) -> None:
    write_sets(tmp_path)
    body = 'case "$*" in *--hellaswag*) kill -KILL $$;; *) exec "$real" "$@";; esac'
    with pytest.raises(LwqError, match="tasks:F16:HellaSwag"):
        run_tiny(
            tmp_path, tmp_path / "home", make_fake(tmp_path / "bin", toolchain, {"llama-perplexity": body}), RECIPE
        )
    _, log, _ = run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE)
    assert {"tasks:F16:ARC", "tasks:F16:WinoGrande"} <= set(log.kept)
    assert "tasks:F16:HellaSwag" in log.fresh


def test_bad_items_are_told_before_anything_runs(tmp_path: Path, toolchain: Toolchain) -> None:
    write_sets(tmp_path)
    lines = (tmp_path / "arc.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "arc.jsonl").write_text("\n".join([*lines[:6], "{broken", *lines[7:]]), encoding="utf-8")
    with pytest.raises(FileError, match="line 7"):
        run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE)
    assert not (tmp_path / "home" / "steps").exists()
    (tmp_path / "arc.jsonl").write_text("\n".join(lines[:50]), encoding="utf-8")
    with pytest.raises(FileError, match="has 50 items, 100 are wanted"):
        run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE)


def test_items_with_faults_can_be_left_out_and_the_card_says_so(tmp_path: Path, toolchain: Toolchain) -> None:
    write_sets(tmp_path)
    lines = (tmp_path / "arc.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "arc.jsonl").write_text("\n".join([*lines, lines[3]]), encoding="utf-8")
    with pytest.raises(FileError, match="line 121: repeats"):
        run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE)
    skip = RECIPE.replace('file = "arc.jsonl"', 'file = "arc.jsonl"\nfaulty = "skip"')
    run, _, card = run_tiny(tmp_path, tmp_path / "home", toolchain, skip)
    found = assemble(run).task_sets[0]
    assert (found.n_faulty, found.n_given, len(set(found.ids))) == (1, 120, 100)
    assert "1 items with faults left out" in card.with_name("DETAILS.md").read_text(encoding="utf-8")


def test_released_log_probs_are_made_again_only_for_a_new_row(tmp_path: Path, toolchain: Toolchain) -> None:
    write_sets(tmp_path)
    run, _, _ = run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE)
    from lwq.store.cache import Cache

    name = run.step("baseline:evaluation").inputs.logits_file
    entry = run.entry("baseline:evaluation")
    Cache(tmp_path / "home").release(entry, (name,))
    assert not entry.path(name).exists()
    _, log, _ = run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE)
    assert log.fresh == []
    more = RECIPE.replace("[[tasks]]", '[[third_party]]\nname = "again"\nmodel = "tiny.gguf"\n[[tasks]]', 1)
    (tmp_path / "again").mkdir()
    changed = more.replace('name = "again"\nmodel = "tiny.gguf"', 'name = "again"\nmodel = "other.gguf"')
    raw = bytearray((tmp_path / "tiny.gguf").read_bytes())
    raw[-1] ^= 1  # the same model but for one bit
    (tmp_path / "other.gguf").write_bytes(raw)
    run, log, _ = run_tiny(tmp_path, tmp_path / "home", toolchain, changed)
    assert "baseline:evaluation" in log.fresh
    assert "evaluate:F16:evaluation" in log.kept
    assert run.entry("baseline:evaluation").path(name).exists()


def test_fewer_windows_where_log_probs_would_take_too_much(tmp_path: Path, toolchain: Toolchain) -> None:
    write_sets(tmp_path)
    run, _, _ = run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE)
    n_bytes = run.entry("baseline:evaluation").outputs[run.step("baseline:evaluation").inputs.logits_file]["n_bytes"]
    less = RECIPE.replace("n_chunks = 5\n", f'n_chunks = 5\nmax_logits = "{n_bytes - 1} bytes"\n')
    run, _, _ = run_tiny(tmp_path, tmp_path / "home", toolchain, less)
    record = assemble(run)
    assert record.baseline.n_chunks == 4
    assert [len(row.evaluation.chunk_kld) for row in record.rows] == [4, 4]
    with pytest.raises(LwqError, match="max_logits leaves 0 windows of 64 tokens, 4 are needed"):
        run_tiny(tmp_path, tmp_path / "home", toolchain, less.replace(f"{n_bytes - 1} bytes", "100 bytes"))


def test_record_of_sets_is_read_back(finished) -> None:
    from lwq.report.record_json import record_from_json, record_to_json

    record, _, _ = finished
    assert record_from_json(record_to_json(record), "record.json") == dataclasses.replace(record)
