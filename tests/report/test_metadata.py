"""The front matter is what huggingface_hub reads and writes, and says only what is true of the files that are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from lwq.record.record import Record
from lwq.report.card import card
from lwq.report.metadata import front_matter
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
