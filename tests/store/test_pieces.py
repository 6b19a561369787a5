"""Finished measurements survive a kill, and are measured once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwq.store.pieces import Pieces

MODEST = settings(max_examples=60, deadline=None)
VALUES = {"a": [0.1, 2], "b": {"kld": 1e-9}, "ü\n": None, "c": 7}


def fill(path: Path, keys: list[str]) -> list[str]:
    """Asks for these pieces in one process's stead; returns the keys that had to be measured."""
    pieces, measured = Pieces(path), []
    for key in keys:

        def measure(key: str = key) -> object:
            measured.append(key)
            return VALUES[key]

        assert pieces.get(key, measure) == VALUES[key]
    return measured


def test_a_piece_is_measured_once_in_a_run_and_after_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "pieces.jsonl"
    assert fill(path, ["a", "b", "a"]) == ["a", "b"]
    assert fill(path, ["b", "c", "a"]) == ["c"]


def test_a_resumed_file_equals_all_at_once(tmp_path: Path) -> None:
    for key in VALUES:
        fill(tmp_path / "resumed", [key])
    fill(tmp_path / "at_once", list(VALUES))
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "at_once").read_bytes()
    assert Pieces(tmp_path / "resumed").by_key == VALUES


@MODEST
@given(data=st.data())
def test_a_file_cut_anywhere_keeps_whole_pieces_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "pieces"
    fill(path, list(VALUES))
    whole = path.read_bytes()
    length = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:length])
    left = Pieces(path).by_key
    assert left == {key: VALUES[key] for key in list(VALUES)[: len(left)]}
    # a line is whole without its line feed; each is written as line feed, line, line feed
    assert len(left) == sum(whole[:length].count(line) for line in whole.split(b"\n") if line)
    assert fill(path, list(VALUES)) == list(VALUES)[len(left) :]
    assert Pieces(path).by_key == VALUES


@pytest.mark.parametrize("rest", [b'["x", 1', b'["x"', b"\xff\xfe", b"17", b'"xy', b"null", b"[]"])
def test_a_broken_last_line_is_ignored_and_written_after(rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pieces"
    fill(path, ["a"])
    path.write_bytes(path.read_bytes() + rest)
    assert Pieces(path).by_key == {"a": VALUES["a"]}
    assert fill(path, ["a", "c"]) == ["c"]
    assert Pieces(path).by_key == {"a": VALUES["a"], "c": VALUES["c"]}
    assert rest in path.read_bytes()  # the file only grows


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, np.float64("nan")]])
def test_what_is_no_number_is_refused_and_not_kept(value: object, tmp_path: Path) -> None:
    pieces = Pieces(tmp_path / "pieces")
    with pytest.raises(ValueError, match="not JSON compliant"):
        pieces.get("a", lambda: value)
    assert not (tmp_path / "pieces").exists()
    assert pieces.get("a", lambda: 1) == 1


def test_a_fresh_piece_has_the_form_of_one_read_back(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path / "pieces")
    assert pieces.get("a", lambda: (1, (2.5,))) == [1, [2.5]] == Pieces(tmp_path / "pieces").get("a", dict)


def test_two_writers_keep_all_pieces(tmp_path: Path) -> None:
    first, second = Pieces(tmp_path / "pieces"), Pieces(tmp_path / "pieces")
    first.get("a", lambda: 1)
    second.get("b", lambda: 2)
    first.get("c", lambda: 3)
    assert Pieces(tmp_path / "pieces").by_key == {"a": 1, "b": 2, "c": 3}
