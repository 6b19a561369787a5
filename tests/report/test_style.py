"""Each kind of row has its own look."""

from __future__ import annotations

from lwq.report.style import ALLOCATION, KINDS, kind_of
from tests.report.test_search_section import the_row
from tests.sample_record import sample_record


def test_allocated_row_is_a_kind_of_its_own_with_its_own_look() -> None:
    assert kind_of(the_row(sample_record())) == ALLOCATION
    looks = list(KINDS.values())
    assert len({marker for marker, _ in looks}) == len({colour for _, colour in looks}) == len(looks)
