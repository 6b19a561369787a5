"""What is written is read back as the same values."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lwq.recipe.toml import to_toml

NAMES = st.text(st.characters(codec="utf-8"), max_size=8)
PLAIN = st.one_of(
    NAMES,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.datetimes(),
    st.dates(),
    st.times(),
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_any_values_are_read_back(values: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(values)) == values


def test_it_is_written_as_a_person_would() -> None:
    values = {"card": {"title": 'a "b"\n'}, "name": "x", "targets": [{"ftype": "Q4_K_M"}, {"bpw": 4.5, "heal": True}]}
    card, first = '[card]\ntitle = "a \\"b\\"\\n"\n', '[[targets]]\nftype = "Q4_K_M"\n'
    second = "[[targets]]\nbpw = 4.5\nheal = true\n"
    assert to_toml(values) == "\n".join(('name = "x"\n', card, first, second))
