"""Sets of types and what a tensor's rows and data allow of them."""

from __future__ import annotations

import pytest

from lwq.gguf.types import GGML_TYPES, TensorInfo, type_bpw
from lwq.recipe.constraints import NEED_IMPORTANCE, TYPE_SETS, legal_types

K = TYPE_SETS["k"]


def tensor(name: str, ne: tuple[int, ...] = (256, 8)) -> TensorInfo:
    return TensorInfo(name=name, ne=ne, ggml_type="f16")


def test_legal_types_fit_the_rows_and_the_importance() -> None:
    whole, odd = tensor("a", (512, 2)), tensor("b", (96, 2))
    every = legal_types(whole, TYPE_SETS["all"], has_importance=True)
    assert sorted(every) == sorted(TYPE_SETS["all"])
    assert [type_bpw(q) for q in every] == sorted(type_bpw(q) for q in every)
    assert set(every) - set(legal_types(whole, TYPE_SETS["all"], has_importance=False)) == NEED_IMPORTANCE & set(every)
    assert legal_types(odd, TYPE_SETS["all"], has_importance=True) == ("iq4_nl", "q4_1", "q5_0", "q5_1", "q8_0")


def test_rows_that_no_type_fits_get_the_fallbacks() -> None:
    assert legal_types(tensor("b", (96, 2)), ("q2_K", "q6_K"), has_importance=True) == ("q4_0", "q8_0")
    assert legal_types(tensor("c", (80, 2)), K[:-1], has_importance=True) == ("f16",)
    assert legal_types(tensor("b", (96, 2)), ("iq2_xxs",), has_importance=False) == ("iq4_nl",)


def test_what_fits_goes_by_size_then_name() -> None:
    assert legal_types(tensor("a"), iter(("q5_K", "q5_0", "q2_K")), has_importance=True) == ("q2_K", "q5_0", "q5_K")
    # where one fits, none falls back; without importance data its types are left out before that
    assert legal_types(tensor("b", (96, 2)), ("q2_K", "q8_0"), has_importance=True) == ("q8_0",)
    assert legal_types(tensor("b", (96, 2)), ("iq2_xs", "q6_K"), has_importance=False) == ("q8_0",)


@pytest.mark.parametrize("name", sorted(TYPE_SETS))
def test_sets_hold_known_types_once(name: str) -> None:
    assert set(TYPE_SETS[name]) <= set(GGML_TYPES)
    assert len(set(TYPE_SETS[name])) == len(TYPE_SETS[name])
    assert name == "all" or not [q for q in TYPE_SETS[name] if q.startswith("iq")]
