"""No reader crashes, hangs or reaches out on what is nearly right; `make fuzz SECONDS=600` looks for longer."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lwq.errors import FileError
from tests import fuzzing
from tests.fuzz_readers import CORPUS, Reader, kept, readers
from tests.fuzzing import fault, one, soon

READERS = readers()
N_INPUTS = 40
DEEP = 20_000


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where an input lies."""
    with warnings.catch_warnings(), soon(tmp_path / "input"):
        warnings.simplefilter("error")
        yield tmp_path / "input"


def _for_ever(_: Path) -> None:
    while True:
        pass


@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * DEEP, "a = " + "[" * DEEP, "[" * DEEP + "]" * DEEP, "9" * 9000])
@pytest.mark.parametrize("name", READERS)
def test_what_is_nested_deep_or_long_is_answered_or_refused(name: str, text: str, place: Path) -> None:
    assert fault(READERS[name], text.encode(), place) is None


@pytest.mark.parametrize("name", READERS)
def test_what_it_starts_from_is_read_and_the_like_is_answered_or_refused(name: str, place: Path) -> None:
    reader = READERS[name]
    for data in reader.seeds:
        assert fault(reader, data, place) is None
    for number in range(N_INPUTS):
        if error := fault(reader, one(reader, 0, number), place):
            raise AssertionError(f"{name}, seed 0, number {number}") from error


@pytest.mark.parametrize(("name", "file"), [(name, file) for name in READERS for file in kept(name)])
def test_what_a_reader_once_failed_on_is_answered_or_refused(name: str, file: str, place: Path) -> None:
    assert fault(READERS[name], kept(name)[file], place) is None


def test_each_kept_input_is_of_a_reader() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= READERS.keys()


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (lambda path: {}["x"], "KeyError"),
        (lambda path: path.with_name("input2").write_bytes(b""), None),
        (lambda path: path.parent.with_name("outside").write_bytes(b""), "PermissionError"),
        (lambda path: path.rename(path.parent.with_name("moved")), "PermissionError"),
        (lambda path: subprocess.run(["true"], check=True), "PermissionError"),
        (lambda path: os.system("true"), "PermissionError"),
        (_for_ever, "TimeoutError"),
    ],
)
def test_what_a_reader_must_not_do_is_noticed(
    read: Callable[[Path], object], found: str | None, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzzing, "MOST_SECONDS", 0.2)
    error = fault(Reader(seeds=(b"",), read=read, changes=()), b"x", place)
    assert (type(error).__name__ if error else None) == found


def test_a_refusal_without_a_word_is_a_fault(place: Path) -> None:
    def refuse(path: Path) -> None:
        raise FileError("")

    assert isinstance(fault(Reader(seeds=(b"",), read=refuse, changes=()), b"x", place), AssertionError)
