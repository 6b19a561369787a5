"""Workers of one machine share its processors."""

from __future__ import annotations

import os

import pytest

from lwq.plan.shares import n_threads_of, shares_of


@pytest.mark.parametrize(
    ("n_workers", "shares"),
    [
        (1, ((0, 1, 2, 3, 4),)),
        (2, ((0, 1, 2), (3, 4))),
        (5, ((0,), (1,), (2,), (3,), (4,))),
        (6, ((0,), (1,), (2,), (3,), (4,), (0,))),
    ],
)
def test_all_processors_are_used_and_none_twice_while_there_are_enough(
    n_workers: int, shares: tuple[tuple[int, ...], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4}, raising=False)
    assert shares_of(n_workers) == shares


def test_tools_have_no_more_threads_than_the_smallest_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert [n_threads_of(n, 8) for n in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    assert n_threads_of(2, 1) == 1
