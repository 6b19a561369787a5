"""Card and details say all that the record holds, and nothing private."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lwq.metrics.values import Estimate, TaskScore
from lwq.record.command import Command
from lwq.record.record import Projector, Record, Row, TypeShare
from lwq.report.card import card, card_body, details, squeezed
from lwq.report.choices import offered
from lwq.report.figures import front
from lwq.report.numerals import estimate, fixed, percent
from lwq.report.remarks import remarks
from lwq.report.rows import alike
from lwq.report.tables import label
from tests import published_gemma
from tests.documents import whole, whole_page
from tests.sample_damage import ODD_NAME, damage
from tests.sample_record import sample_record

GOLDEN = Path(__file__).parents[1] / "golden"


def difference(name: str, made: str) -> str:
    """A unified diff against the golden file, empty where they are the same."""
    kept = (GOLDEN / name).read_text(encoding="utf-8")
    return "".join(difflib.unified_diff(kept.splitlines(True), made.splitlines(True), name, "made", n=1))


def changed(record: Record, name: str, **changes: Any) -> Record:
    """The record with one row changed."""
    rows = tuple(replace(row, **changes) if row.name == name else row for row in record.rows)
    return replace(record, rows=rows)


def row(record: Record, name: str) -> Row:
    return next(row for row in record.rows if row.name == name)


def test_card_and_page_are_the_golden_ones() -> None:
    assert not difference("card.md", card(sample_record()))
    assert not difference("details.md", details(sample_record()))
    assert not difference("page.html", whole_page(sample_record()))


def sections(text: str) -> list[str]:
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


def test_what_a_reader_chooses_by_comes_first_and_evidence_has_its_own_document() -> None:
    assert sections(card(sample_record())) == [
        "Choose a file",
        "Run it",
        "Bits per Weight, Perplexity and KL Divergence scores",
        "Which values the files hold",
        "ARC and WinoGrande scores",
        "Tokens per Second – Benchmarks",
        "How it was made",
        "Which files are kept, and why",
        "Warnings",
        "Notes",
        "Metrics explained",
        "Provenance",
        "Credits",
    ]
    assert sections(details(sample_record())) == [
        "Commands",
        "Sizes",
        "Quality in detail",
        "Task sets",
        "Load times and memory",
        "Layers",
        "How the bits were chosen",
        "Statistics of the importance matrix",
        "Tensor types of each file",
        "Metrics of tensors and layers",
        "Texts",
        "Steps and recipe",
    ]


def test_first_screen_of_the_card_has_the_files_and_how_to_run_one() -> None:
    text = card_body(sample_record())
    assert len(text.encode()) < 25_000
    first = "\n".join(text.splitlines()[:60])
    for row in offered(sample_record()):
        assert f"({row.file})" in first
    assert "llama-server -m" in first


def test_tables_and_figures_of_the_page_are_numbered_through() -> None:
    for kind in ("Table", "Figure"):
        numbers = [int(n) for n in re.findall(rf"<strong>{kind} (\d+)\.</strong>", whole_page(sample_record()))]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > 5


def test_front_matter_parses_and_says_what_the_hub_reads() -> None:
    head = yaml.safe_load(card(sample_record()).split("---\n")[1])
    assert head["base_model"] == ["HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert head["base_model_relation"] == "quantized"
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == ("apache-2.0", "gguf", "text-generation")
    assert (head["language"], head["quantized_by"]) == (["en", "de"], "Zoë_Q")
    assert head["tags"] == ["gguf", "quantized", "imatrix", "pruned", "smollm2"]
    (model,) = head["model-index"]
    metrics = {m["name"]: m["value"] for result in model["results"] for m in result["metrics"]}
    assert metrics["Q4_K_M: mean KL divergence against the base, nats"] == 0.035198
    assert metrics["Q4_K_M: accuracy"] == 0.34  # ARC; WinoGrande's items were made up here, so it is no benchmark
    assert not [name for name in metrics if ODD_NAME in name or name.startswith("F16")]


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("My own: licence", {"license": "other", "license_name": "my-own-licence"}),
        ("", {"license": "unknown"}),
    ],
)
def test_licence_unknown_to_the_hub_is_given_as_other_with_its_name(licence: str, expected: dict[str, str]) -> None:
    record = sample_record()
    record = replace(record, card=replace(record.card, licence=licence))
    head = yaml.safe_load(card(record).split("---\n")[1])
    assert {key: value for key, value in head.items() if key.startswith("license")} == expected


def test_tags_name_only_what_is_true_of_our_files() -> None:
    record = sample_record()
    kept = tuple(replace(r, uses_imatrix=False) for r in record.rows if not r.pruned_layers)
    tags = yaml.safe_load(card(replace(record, rows=kept)).split("---\n")[1])["tags"]
    assert tags == ["gguf", "quantized", "smollm2"]


def figures_of(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a record with its place."""
    if is_dataclass(value) and not isinstance(value, Estimate):
        for field in fields(value):
            yield from figures_of(getattr(value, field.name), f"{where}.{field.name}")
    elif isinstance(value, tuple):
        for item in value:
            yield from figures_of(item, where)
    else:
        yield where, value


def expected_text(where: str, value: Any) -> str:
    """How the card writes a figure of that place, "" where it shows none."""
    name = where.rsplit(".", 1)[-1]
    if isinstance(value, Estimate):
        if name in ("mean_delta_p", "rms_delta_p", "same_top_p"):
            return percent(value, 3)
        return {"score": percent(value, 2), "tokens_per_second": estimate(value, 2)}.get(name, estimate(value, 6))
    decimals = {"bpw": 4, "sum_sq": 2, "mean_sum_sq": 2, "min": 4, "max": 4, "mean": 2, "std": 2, "entropy": 4}
    shares = {"cor_ln_ppl": 2, "active": 2, "entropy_norm": 2, "zd": 4 if ".layer_statistics" in where else 2}
    if name in decimals:
        return fixed(value, decimals[name])
    if name in shares:
        return fixed(100 * value, shares[name])
    if name == "cossim" and value is not None:
        return fixed(value, 4)
    counts = (
        "file_bytes",
        "predicted_file_bytes",
        "n_params",
        "n_bytes",
        "n_elements",
        "n_ctx",
        "n_chunks",
        "n_tensors",
    )
    return f"{value:,}" if name in counts and value is not None else ""


ELSEWHERE = (
    ".sensitivity",
    ".rows.search.candidates.n_bytes",
    ".pruning",
    ".rows.parts",
    ".rows.twin",
    ".rows.contexts",
)
"""Looked at in test_search_section.py, test_prune_section.py, test_values_section.py, test_choices.py."""


def test_every_figure_of_the_record_is_in_the_card() -> None:
    record, text = sample_record(), whole(sample_record())
    shown = 0
    for where, value in figures_of(record):
        if where.startswith(ELSEWHERE):
            continue
        special = ".baseline" in where or ".selection.kld_percentiles" in where or ".chunk_" in where
        wanted = "" if special else expected_text(where, value)
        if ".selection." in where and not where.endswith((".ppl", ".kld")):
            continue
        if where.endswith("predicted_file_bytes") and value == row(record, "Q8_0").file_bytes:
            wanted = "exact"
        assert wanted in text, (where, value, wanted)
        shown += bool(wanted)
    assert shown > 500
    for r in record.rows:
        for _, nats in r.evaluation.kld_percentiles:
            assert fixed(nats, 6) in text
        for _, fraction in r.evaluation.delta_p_percentiles:
            assert fixed(100 * fraction, 3) in text
    assert "24.4980 ±1.65901" in text


def test_commands_can_be_pasted() -> None:
    text = details(sample_record())
    assert "llama-bench -m 'other'\"'\"'s [Q4_1] <i>.gguf' -p 128" in text
    assert 'export PATH="$(lwq toolchain show --bin):$PATH"' in text
    assert text.index("llama-imatrix -m") < text.index("llama-quantize --tensor-type-file")


def test_tasks_are_a_section_only_where_some_were_asked() -> None:
    assert "## ARC and WinoGrande scores" in card(sample_record())
    without = card(sample_record(tasks=False))
    assert "scores" in without
    assert "WinoGrande scores" not in without
    assert "Task scores" not in without


def test_task_average_needs_all_tasks() -> None:
    # (34.67 + 51.87) / 2, √(1.74² + 1.83²) / 2; the third party's row lacks WinoGrande
    lines = [line for line in card(sample_record()).splitlines() if "34.67 ±1.74" in line]
    assert [line.endswith("| 43.27 ±1.26 |") for line in lines] == [True, False]


def test_rows_measured_otherwise_stand_in_a_table_of_their_own() -> None:
    shorter = replace(damage("IQ4_XS"), chunk_kld=(0.1, 0.11))
    record = changed(sample_record(), "IQ4_XS", evaluation=shorter)
    assert [len(group) for group in alike(record.rows)] == [9, 1]
    text = card_body(record)
    tables = [part for part in text.split("**Table ") if "| RMS Δp (%) |" in part]
    assert len(tables) == 2
    assert "2 chunks, PPL(base) 24.451778" in tables[1]
    assert "IQ4_XS" not in tables[0]
    assert any("Not all files were measured alike" in remark for remark in remarks(record))
    assert "IQ4_XS" not in {r.name for r in front(record)}


def test_quantized_original_is_said_at_the_top_and_only_when_true() -> None:
    record = sample_record()
    assert "was itself a quantized file" in card_body(record).split("## ")[0]
    honest = replace(record, model=replace(record.model, was_quantized=False))
    assert "was itself a quantized file" not in card_body(honest)
    assert "original was a quantized file" not in card_body(honest)


@pytest.mark.parametrize("text", ["selection", "evaluation"])
def test_rule_that_keeps_every_file_is_not_called_a_choice(text: Any) -> None:
    record = sample_record(pruned=False)
    record = replace(record, selection=replace(record.selection, rule="all", text=text))
    body = card_body(record)
    assert "Every file is kept." in body
    assert "chosen on" not in body
    assert "udged on the" not in body


def test_method_says_that_others_files_were_only_measured() -> None:
    record = sample_record()
    assert "Every file of ours was written from the base" in card_body(record)
    ours = replace(record, rows=tuple(replace(r, speed=()) for r in record.rows if r.origin != "third-party"))
    assert (
        "Every file was written from the base (Q4_K_M-healed from a base without some layers, which lwq wrote) by"
        " llama-quantize; over the values of Q4_K_M-by-hand lwq wrote compensated ones; damage is measured by"
        " llama-perplexity. " in card_body(ours)
    )


def test_script_that_is_not_on_the_path_is_located() -> None:
    record = sample_record()
    script = Command(step="convert", argv=("python", "convert_hf_to_gguf.py", "model", "--outfile", "original.gguf"))
    located = "`convert_hf_to_gguf.py` is in llama.cpp's source of the commit above."
    assert located in details(replace(record, commands=(script, *record.commands)))
    assert located not in details(record)


def test_squeezing_leaves_fenced_blocks_alone() -> None:
    assert squeezed("\na\n\n\n\nb\n\n```sh\nx\n\n\n\ny\n```\n\n\n\nc\n\n") == "a\n\nb\n\n```sh\nx\n\n\n\ny\n```\n\nc\n"


def test_the_projector_has_its_own_line_in_sizes_and_checksums() -> None:
    held = TypeShare(name="f16", n_tensors=3, n_bytes=2 * 2**20, n_elements=2**20)
    tower = Projector(file="mmproj-M-F16.gguf", sha256="d" * 64, file_bytes=2**21 + 4096, n_params=2**20, types=(held,))
    text = whole(replace(sample_record(), projector=tower))
    assert "| `mmproj-M-F16.gguf` | F16 | 2,101,248 | 2.00 | 1.0 M |" in text
    assert f"| `mmproj-M-F16.gguf` | `{'d' * 64}` | 1,048,576 |" in text
    assert "by `--mmproj mmproj-M-F16.gguf`" in text
    assert "--mmproj mmproj-M-F16.gguf\n```" in text
    assert "mmproj" not in whole(sample_record())


REFERENCE_TABLES = {
    "Bits per Weight, Perplexity and KL Divergence scores": ("Model", "BPW", "μPPL", "ρPPL", "μKLD", "RMS Δp"),
    "ARC, HellaSwag, MMLU, TruthfulQA and WinoGrande scores": ("Model", *published_gemma.TASKS, "Average"),
    "Tokens per Second – Benchmarks": ("Model", "Size", "Params", "Backend", "Threads", "Test", "t/s"),
}
"""Sections of the reference card, and the columns of their tables."""


def published() -> Record:
    """The published card's rows: its scores, all else as in the sample."""
    record = sample_record()
    ours = next(row for row in record.rows if row.name == "Q4_K_M")

    def tasks(scores: tuple[float, ...]) -> tuple[TaskScore, ...]:
        n = published_gemma.N_ITEMS
        named = zip(published_gemma.TASKS, map(published_gemma.estimate, scores), strict=True)
        return tuple(TaskScore(name=name, score=score, n_items=n) for name, score in named)

    def of(name: str) -> Row:
        origin = {"F16": "base", "Q4_K_M-bartowski": "third-party"}.get(name, "ours")
        file = f"gemma-3-12b-it-pruned-{name}.gguf"
        return replace(ours, name=name, file=file, origin=origin, tasks=tasks(published_gemma.SCORES[name]))  # type: ignore[arg-type]

    rows = tuple(map(of, published_gemma.SCORES))
    return replace(record, rows=rows, selection=replace(record.selection, verdicts=()), task_sets=())


def test_a_published_card_is_there_whole_and_memory_choice_and_ties_come_on_top() -> None:
    text = card(published())
    for section, heads in REFERENCE_TABLES.items():
        part = text.split(f"## {section}\n")[1].split("\n## ")[0]
        table = next(line for line in part.splitlines() if line.startswith("| Model"))
        told = [cell.strip() for cell in table.strip("|").split("|")]
        assert all(any(cell.startswith(head) for cell in told) for head in heads), (section, heads, told)
        assert all(f"| {label(row)} |" in part for row in published().rows), section
    for row in published().rows:
        name, scores = row.name, published_gemma.SCORES[row.name]
        (line,) = (found for found in text.splitlines() if found.startswith(f"| {label(row)} | {fixed(scores[0], 2)} "))
        cells = [cell.split(" ")[0] for cell in line.strip("| ").split(" | ")[1:]]
        assert cells[:-1] == [fixed(score, 2) for score in scores]
        assert cells[-1] == fixed(100 * published_gemma.AVERAGES[name].value, 2)
    choice = text.split("## Choose a file\n")[1].split("\n## ")[0]
    assert all(title in choice for title in ("| File |", "RAM at 8k (GB)", "KLD (nats)", "Size"))
    assert choice.count("| [gemma-3-12b-it-pruned-") == len(published_gemma.SCORES) - 2
    assert (GOLDEN / "published_gemma.md").read_text(encoding="utf-8").strip() in text
