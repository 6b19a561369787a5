"""The front matter is what huggingface_hub reads and writes, and says only what is true of the files that are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from lwq.record.record import Record
from lwq.report.card import card
from lwq.report.metadata import front_matter, tags
from tests.hostile import TEXTS
from tests.sample_record import sample_record


def with_facts(**facts: Any) -> Record:
    record = sample_record()
    return replace(record, card=replace(record.card, **facts))


def names_of_results(record: Record) -> set[str]:
    index = yaml.safe_load(front_matter(record))["model-index"]
    assert [model["name"] for model in index] == [record.model.name]
    return {m["name"].split(":")[0] for result in index[0]["results"] for m in result["metrics"]}


def test_huggingface_hub_gives_back_the_card_that_it_was_given() -> None:
    text = card(sample_record())
    read = ModelCard(text)
    assert str(read) == text
    assert read.data.to_yaml(line_break="\n") == front_matter(sample_record()).rstrip("\n")
    assert read.data.model_name == sample_record().model.name
    assert read.data.eval_results


@pytest.mark.parametrize("text", TEXTS[::2])
def test_facts_of_any_text_come_back_from_huggingface_hub(text: str) -> None:
    record = with_facts(author=text, licence=text, tags=(text, "x"), languages=(text, "de"), base_model=(text,))
    read = ModelCard(f"---\n{front_matter(record).rstrip()}\n---\n")
    assert read.data.to_yaml(line_break="\n") == front_matter(record).rstrip("\n")
    assert read.data.language == ["de"]
    assert read.data.base_model is None
    assert text in read.data.tags


def test_model_index_holds_the_kept_files_of_the_whole_model() -> None:
    record = sample_record()
    left_out = {v.row for v in record.selection.verdicts if not v.kept}
    pruned = {row.name for row in record.rows if row.pruned_layers}
    assert left_out
    assert pruned
    found = names_of_results(record)
    assert found == {r.name for r in record.rows if r.origin == "ours"} - left_out - pruned


@pytest.mark.parametrize(
    ("stated", "written"),
    [
        ("Apache License 2.0", {"license": "apache-2.0"}),
        ("other", {"license": "other"}),
        ("x" * 200, {"license": "other", "license_name": "x" * 96}),
    ],
)
def test_licences_are_the_hubs_or_other(stated: str, written: dict[str, str]) -> None:
    head = yaml.safe_load(front_matter(with_facts(licence=stated)))
    assert {key: value for key, value in head.items() if key.startswith("license")} == written


def head_of(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(front_matter(record))
    return found


def results_of(record: Record) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = head_of(record)["model-index"][0]["results"]
    return found


@pytest.mark.parametrize(
    ("stated", "written"),
    [
        ("", {"license": "unknown"}), ("?!", {"license": "unknown"}),
        ("My Own: Licence 1.0", {"license": "other", "license_name": "my-own-licence-1.0"}),
        ("x" * 95 + " y", {"license": "other", "license_name": "x" * 95}),
    ],
)  # fmt: skip
def test_a_licence_of_its_own_name_is_told_by_a_slug(stated: str, written: dict[str, str]) -> None:
    head = head_of(with_facts(licence=stated))
    assert {key: value for key, value in head.items() if key.startswith("license")} == written


def test_what_is_not_known_is_left_out() -> None:
    bare = with_facts(author="", base_model=("no repository",), languages=("?",), tags=())
    bare = replace(bare, texts=(), rows=bare.rows[:1])
    assert head_of(bare) == {
        "library_name": "gguf", "license": "apache-2.0", "pipeline_tag": "text-generation",
        "tags": ["gguf", "quantized"], "model_name": bare.model.name,
    }  # fmt: skip


def test_what_is_known_stands_under_the_hubs_keys() -> None:
    head = head_of(with_facts(base_model=("o/a", "x", "o/b"), author="me", languages=("de", "en", "de")))
    assert (head["base_model"], head["base_model_relation"], head["quantized_by"]) == (
        ["o/a", "o/b"],
        "quantized",
        "me",
    )
    assert (head["language"], head["pipeline_tag"], head["library_name"]) == (["de", "en"], "text-generation", "gguf")
    assert head["model-index"][0]["name"] == sample_record().model.name


def test_texts_of_the_hub_are_named_as_datasets_once_each() -> None:
    record = sample_record()
    sources = (
        "hf://datasets/o/n/a.txt@main",
        "hf://datasets/o/n/b.txt",
        "x.txt",
        "hf://datasets/p/m",
        "hf://o/n/c.txt",
    )
    texts = tuple(replace(record.texts[0], source=source) for source in sources)
    assert head_of(replace(record, texts=texts))["datasets"] == ["o/n", "p/m"]


def test_tags_are_what_is_true_of_our_files_then_the_recipes() -> None:
    record = sample_record()
    plain = tuple(r for r in record.rows if not r.pruned_layers and r.origin == "ours")
    own = replace(record, card=replace(record.card, tags=("x", "gguf", "a")))
    assert tags(own) == ["gguf", "quantized", "imatrix", "pruned", "x", "a"]
    assert tags(replace(own, rows=plain)) == ["gguf", "quantized", "imatrix", "x", "a"]
    without = tuple(replace(r, uses_imatrix=False) for r in plain)
    others = tuple(replace(r, origin="third-party") for r in record.rows)
    for rows in (without, others):
        assert tags(replace(own, rows=rows)) == ["gguf", "quantized", "x", "a"]


def test_results_are_figures_of_the_evaluation_text_with_what_was_measured() -> None:
    record = sample_record()
    text = next(t for t in record.texts if t.role == "evaluation")
    row = next(r for r in record.rows if r.name == "Q8_0")
    (damage,) = (r for r in results_of(record) if r["dataset"]["name"] == text.source)
    assert damage["task"] == {"type": "text-generation"}
    assert damage["dataset"] == {"name": text.source, "type": "owner/texts"}
    found = {m["type"]: (m["name"], m["value"]) for m in damage["metrics"] if m["name"].startswith("Q8_0:")}
    measured = row.evaluation
    assert found == {
        "perplexity": ("Q8_0: perplexity", round(measured.ppl.value, 6)),
        "kl_divergence": ("Q8_0: mean KL divergence against the base, nats", round(measured.kld.value, 6)),
    }
    local = replace(record, texts=tuple(replace(t, source="own.txt") if t is text else t for t in record.texts))
    assert {r["dataset"]["type"] for r in results_of(local) if r["dataset"]["name"] == "own.txt"} == {"custom"}


def test_results_of_tasks_are_those_of_somebodys_benchmarks() -> None:
    record = sample_record()
    names = [s.name for s in record.task_sets]
    found = {r["dataset"]["name"]: r for r in results_of(record) if "n_items" in r["dataset"].get("args", {})}
    made_up = {s.name for s in record.task_sets if s.cloze}
    assert found.keys() == {n for n in names if n not in made_up} & found.keys()
    arc = found["ARC"]
    score = next(r for r in record.rows if r.name == "Q4_K_M").tasks[0].score.value
    assert arc["dataset"] == {"name": "ARC", "type": "arc", "args": {"n_items": 750}}
    assert arc["metrics"] == [{"type": "accuracy", "value": round(score, 4), "name": "Q4_K_M: accuracy"}]
    cloze = replace(record, task_sets=tuple(replace(s, cloze=True) for s in record.task_sets))
    assert not [r for r in results_of(cloze) if "n_items" in r["dataset"].get("args", {})]

    def renamed(name: str) -> str:
        rows = tuple(replace(r, tasks=tuple(replace(t, name=name) for t in r.tasks[:1])) for r in record.rows)
        return next(
            r["dataset"]["type"] for r in results_of(replace(record, rows=rows)) if r["dataset"]["name"] == name
        )

    assert [renamed(n) for n in ("ARC Easy (5-shot)", "模型")] == ["arc-easy-5-shot", "custom"]


def test_rows_measured_otherwise_and_a_record_without_rows_have_no_results() -> None:
    record = sample_record()
    assert "model-index" not in head_of(replace(record, rows=()))
    moved = tuple(
        replace(r, evaluation=replace(r.evaluation, ppl_base=replace(r.evaluation.ppl_base, value=1.0)))
        if r.name == "Q8_0" else r for r in record.rows
    )  # fmt: skip
    assert "Q8_0" not in names_of_results(replace(record, rows=moved))
    unread = replace(record, texts=tuple(t for t in record.texts if t.role != "evaluation"))
    assert {r["dataset"]["name"] for r in results_of(unread)} == {"ARC"}
