"""How long steps take side by side, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lwq.outlook.wall import Crewing, wall_time
from lwq.plan.plan import AnyStep
from tests.idle_steps import idle

GIB = 1 << 30


def crew(n: int, **fields: Any) -> Crewing:
    given = {"n_threads": 4, "n_threads_each": 4, "room": {}, "is_one_machine": False} | fields
    return Crewing(n_workers=n, **given)


def steps() -> tuple[AnyStep, ...]:
    """A base of 2 s, four branches of 3 s, an end of 1 s."""
    base = idle("base")
    branches = [idle(f"b{i}", base) for i in range(4)]
    return (base, *branches, idle("end", *branches))


def seconds(of: tuple[AnyStep, ...]) -> dict[str, float]:
    return dict(zip((step.key for step in of), (2.0, 3.0, 3.0, 3.0, 3.0, 1.0), strict=True))


@pytest.mark.parametrize(("n", "wall"), [(1, 15.0), (2, 9.0), (3, 9.0), (4, 6.0), (9, 6.0)])
def test_branches_share_the_workers_and_no_number_beats_the_longest_chain(n: int, wall: float) -> None:
    found = wall_time(steps(), {}, seconds(steps()), {}, crew(n))
    assert (found.seconds, found.one_by_one, found.longest_chain) == (wall, 15.0, 6.0)


def test_on_one_machine_fewer_threads_are_slower_and_what_nothing_is_beside_has_them_all() -> None:
    """Two workers of half the threads: 2 s with all threads, then 6 s side by side twice, then 1 s with all."""
    found = wall_time(steps(), {}, seconds(steps()), {}, crew(2, n_threads_each=2, is_one_machine=True))
    assert found.seconds == 15.0
    assert found.one_by_one == 15.0


def test_memory_of_one_machine_keeps_steps_apart_and_that_of_several_does_not() -> None:
    needs = {step.key: {"memory": 6 * GIB} for step in steps()}
    one = crew(4, room={"memory": 10 * GIB}, is_one_machine=True)
    assert wall_time(steps(), {}, seconds(steps()), needs, one).seconds == 15.0
    assert wall_time(steps(), {}, seconds(steps()), needs, crew(4, room={"memory": 10 * GIB})).seconds == 6.0
