"""Tokenizer files as transformers 5 saves them, told to the converter's transformers 4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lwq.gguf.hf_tokenizer import as_before_5

ADDED = {"id": 7, "content": "<|a|>", "special": True, "lstrip": False}


def write(folder: Path, config: Any, tokenizer: Any) -> Path:
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


def test_what_version_4_saved_stays_as_it_is(tmp_path: Path) -> None:
    config = {"tokenizer_class": "GPT2Tokenizer", "extra_special_tokens": {"image_token": "<image>"}}
    assert as_before_5(write(tmp_path, config, {"added_tokens": [ADDED]})) == {}
    assert as_before_5(tmp_path / "none") == {}


def test_a_plain_tokenizer_has_its_older_name_and_its_added_tokens(tmp_path: Path) -> None:
    config = {"tokenizer_class": "TokenizersBackend", "bos_token": "<s>"}
    added = {"7": {"content": "<|a|>", "special": True, "lstrip": False}}
    wanted = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "added_tokens_decoder": added}
    assert as_before_5(write(tmp_path, config, {"added_tokens": [ADDED]})) == {"tokenizer_config.json": wanted}
    assert json.loads((tmp_path / "tokenizer_config.json").read_text()) == config


def test_listed_special_tokens_are_additional_ones(tmp_path: Path) -> None:
    stated = {"5": {"content": "<|b|>"}}
    config = {"tokenizer_class": "GPT2Tokenizer", "extra_special_tokens": ["<|a|>"], "added_tokens_decoder": stated}
    mended = as_before_5(write(tmp_path, config, {"added_tokens": [ADDED]}))["tokenizer_config.json"]
    assert mended == {
        "tokenizer_class": "GPT2Tokenizer", "additional_special_tokens": ["<|a|>"], "added_tokens_decoder": stated
    }  # fmt: skip
    config["additional_special_tokens"] = ["<|c|>"]
    mended = as_before_5(write(tmp_path, config, {}))["tokenizer_config.json"]
    assert mended["additional_special_tokens"] == ["<|c|>"]


@pytest.mark.parametrize("tokenizer", [{}, [], {"added_tokens": 3}, {"added_tokens": [3, {"content": "no number"}]}])
def test_a_tokenizer_without_added_tokens_tells_none(tmp_path: Path, tokenizer: Any) -> None:
    mended = as_before_5(write(tmp_path, {"tokenizer_class": "TokenizersBackend"}, tokenizer))
    assert mended == {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}}


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '"\\ud800"'])
def test_what_is_no_object_is_left_to_the_converter(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(text, encoding="utf-8")
    assert as_before_5(tmp_path) == {}
    (tmp_path / "tokenizer_config.json").write_bytes(b"\xff\xfe")
    assert as_before_5(tmp_path) == {}
