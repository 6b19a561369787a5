"""Each kind of row has its own look."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_rgb

from lwq.report.style import ALLOCATION, COLOURS, KINDS, OTHER, WIDE, fitted, ink_on, kind_of, styled
from tests.report.test_search_section import the_row
from tests.sample_record import sample_record


def test_allocated_row_is_a_kind_of_its_own_with_its_own_look() -> None:
    assert kind_of(the_row(sample_record())) == ALLOCATION
    looks = list(KINDS.values())
    assert len({marker for marker, _ in looks}) == len({colour for _, colour in looks}) == len(looks)


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", [*COLOURS, OTHER])
def test_text_on_every_colour_can_be_read(colour: str) -> None:
    low, high = sorted((luminance(colour), luminance(ink_on(colour))))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_name_is_cut_where_it_is_too_wide_and_never_longer_than_its_share() -> None:
    with styled():
        figure = WIDE.figure(3)
        assert fitted(figure, "Q4_K_M\nlwq", 0.4) == "Q4_K_M lwq"
        narrow, wide = fitted(figure, "i" * 90, 0.4), fitted(figure, "W" * 90, 0.4)
        assert narrow.endswith("…")
        assert len(wide) < len(narrow) < 90
        assert fitted(figure, "W", 0.001) == "…"
