"""No reader crashes or hangs on what is nearly right; `make fuzz SECONDS=600` looks for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzzing import fault, one, readers

READERS = readers()
N_INPUTS = 80


DEEP = 20_000


@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * DEEP, "a = " + "[" * DEEP, "[" * DEEP + "]" * DEEP, "9" * 9000])
@pytest.mark.parametrize("name", READERS)
def test_what_is_nested_deep_or_long_is_answered_or_refused(name: str, text: str, tmp_path: Path) -> None:
    assert fault(READERS[name], text.encode(), tmp_path / "input") is None


@pytest.mark.parametrize("name", READERS)
def test_what_it_starts_from_is_read_and_the_like_is_answered_or_refused(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    for data in reader.seeds:
        assert fault(reader, data, tmp_path / "input") is None
    for number in range(N_INPUTS):
        if error := fault(reader, one(reader, 0, number), tmp_path / "input"):
            raise AssertionError(f"{name}, seed 0, number {number}") from error
