"""docs/architectures.md is what `make architectures` finds: a sample is tried again."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.llama.converter_env import current
from tests.architectures import COLUMNS, OK, PAGE, of_page, page, tried, write_inputs, write_model
from tests.conftest import REAL_HOME

ROWS = dict(of_page(PAGE.read_text(encoding="utf-8")))


def test_the_page_holds_the_families_that_people_quantize() -> None:
    assert len(ROWS) >= 45
    assert all(
        ROWS[name][column] == OK for name in ("deepseek-v3-mtp", "glm4.5-mtp", "qwen3-moe") for column in COLUMNS
    )
    assert len({row["architecture"] for row in ROWS.values()} - {"–"}) >= 45


def test_a_page_says_what_was_found() -> None:
    rows = {"one": {"architecture": "llama", **dict.fromkeys(COLUMNS, OK), "healed": "no | such thing — do that"}}
    assert dict(of_page(page(rows, "4"))) == rows


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "ernie4.5-moe", "deepseek2.gguf", "lfm2.gguf"])
def test_a_sample_is_tried_again(name: str, tmp_path: Path, tools_home: Path) -> None:
    (tools_home / "converter").symlink_to(REAL_HOME / "converter")
    write_inputs(tmp_path)
    python = REAL_HOME / "converter" / current().name / "bin" / "python"
    assert tried(write_model(name, tmp_path, python, tmp_path / "none.gguf"), tmp_path) == ROWS[name]
