"""Tables fit a terminal by leaving out columns, as few as needed, or are whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.cli.tables import WIDTH, print_table, shortened

ROWS = [("blk.0.attn_q.weight", "x" * 30, "1", "y" * 30), ("b", "c", "22", "d")]
HEADS = ("tensor", "kind", "n", "what")


def test_columns_go_in_the_order_given_and_only_as_far_as_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_table(HEADS, ROWS, left=2, spare=("what", "kind")) == ("what",)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["tensor", "kind", "n"]
    assert max(map(len, lines)) <= WIDTH
    assert print_table(HEADS, ROWS, left=2) == ()
    assert max(map(len, capsys.readouterr().out.splitlines())) > WIDTH


def test_what_fits_stays_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_table(HEADS[:3], [row[:3] for row in ROWS], spare=("n",)) == ()
    assert capsys.readouterr().out.splitlines()[0].split() == list(HEADS[:3])


@given(st.text(), st.integers(3, 90))
def test_shortened_texts_keep_both_ends(text: str, most: int) -> None:
    short = shortened(text, most)
    assert len(short) == min(len(text), most)
    assert short == text or (short[0], short[-1]) == (text[0], text[-1])
