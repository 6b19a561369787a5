"""A file that nobody's converter wrote is refused by its name and fault, at once, before llama.cpp sees it."""

from __future__ import annotations

import re
import time
import tracemalloc
from pathlib import Path

import pytest

from lwq.errors import FileError
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.usable import check_usable
from tests.crafted_ggufs import SOUND, SOUND_IMATRIX, Crafted, crafted

FILES = crafted(seed=20)
MOST_SECONDS, MOST_BYTES = 1.0, 160 << 20


def read(one: Crafted, path: Path) -> None:
    """As every command reads a model, or an importance matrix, first."""
    if one.is_imatrix:
        read_imatrix(path)
    else:
        check_usable(read_header(path))


def test_there_are_many_and_what_they_were_made_from_passes(tmp_path: Path) -> None:
    assert len({one.name for one in FILES}) == len(FILES) >= 400
    check_usable(read_header(SOUND.write(tmp_path / "sound.gguf")))
    assert read_imatrix(SOUND_IMATRIX.write(tmp_path / "imatrix.gguf")).entries[0].counts.tolist() == [4]


@pytest.mark.parametrize("one", FILES, ids=lambda one: one.name)
def test_a_crafted_file_is_refused_by_name(one: Crafted, tmp_path: Path) -> None:
    path, began = one.make(tmp_path), time.process_time()
    with pytest.raises(FileError) as caught:
        read(one, path)
    assert time.process_time() - began < MOST_SECONDS
    message = caught.value.message
    assert re.search(one.said, message)
    assert str(tmp_path) in message
    assert caught.value.hint
    assert len(message) - len(str(path)) < 700
    assert message.replace("…", "").isprintable()


@pytest.mark.parametrize("one", [one for one in FILES if "sparse" in one.name], ids=lambda one: one.name)
def test_what_a_file_announces_takes_no_memory(one: Crafted, tmp_path: Path) -> None:
    path = one.make(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(FileError):
            read(one, path)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
