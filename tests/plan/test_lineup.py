"""What starts next: the longest chain first, within memory, and speeds with nothing beside them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.plan.graph import Pending, longest_chain
from lwq.plan.lineup import Lineup, WorkPlace, wall_seconds

GIB = 1 << 30


def task(key: str, *after: str, **fields: Any) -> Pending:
    return Pending(key=key, after=frozenset(after), **fields)


def lineup(n: int, *, room: int | None = None, hosts: int = 1, **options: Any) -> Lineup:
    made = Lineup({f"h{i}": {"memory": room} if room else {} for i in range(hosts)}, **options)
    for i in range(n):
        made.join(WorkPlace(name=f"w{i}", host=f"h{i % hosts}", is_here=i % hosts == 0))
    return made


def begun(line: Lineup) -> list[tuple[str, str | None]]:
    found = []
    while one := line.next():
        found.append((one[0].key, one[1].name if one[1] else None))
    return found


def test_nothing_starts_before_what_it_waits_for() -> None:
    line = lineup(4)
    line.add([task("a"), task("b", "a"), task("c", "a", "b")])
    assert begun(line) == [("a", "w0")]
    line.finished("a")
    assert begun(line) == [("b", "w0")]


def test_what_most_waits_for_starts_first() -> None:
    line = lineup(1)
    line.add([task("short", seconds=3.0), task("long", seconds=2.0), task("end", "long", seconds=2.0)])
    assert begun(line) == [("long", "w0")]


def test_only_what_fits_beside_the_others_starts_and_a_large_one_is_not_starved() -> None:
    line = lineup(3, room=10 * GIB)
    small = [task(f"s{i}", seconds=1.0, needs={"memory": 4 * GIB}) for i in range(6)]
    line.add([*small, task("large", seconds=9.0, needs={"memory": 9 * GIB})])
    assert begun(line) == [("large", "w0")]
    line.finished("large")
    assert [key for key, _ in begun(line)] == ["s0", "s1"]
    line.add([task("later", seconds=9.0, needs={"memory": 9 * GIB})])
    line.finished("s0")
    assert begun(line) == []  # what is free is kept for it
    line.finished("s1")
    assert [key for key, _ in begun(line)] == ["later"]


def test_what_no_machine_has_room_for_runs_with_one_for_itself() -> None:
    line = lineup(2, room=GIB)
    line.add([task("huge", seconds=2.0, needs={"memory": 5 * GIB}), task("other", needs={"memory": 1})])
    assert begun(line) == [("huge", "w0")]


def test_a_speed_is_measured_with_nothing_beside_it_on_its_machine_and_others_go_on() -> None:
    line = lineup(4, hosts=2)
    line.add([task("a", seconds=9.0), task("b", seconds=8.0), task("bench", seconds=7.0, where="alone"), task("c")])
    assert begun(line) == [("a", "w0"), ("b", "w1"), ("c", "w3")]  # w2 would keep the bench waiting
    line.finished("a")
    assert begun(line) == [("bench", None)]
    line.add([task("d"), task("quick", where="here")])
    line.finished("b")
    assert begun(line) == [("d", "w1")]
    line.finished("bench")
    assert begun(line) == [("quick", None)]


def test_what_ran_at_a_lost_place_starts_elsewhere() -> None:
    line = lineup(2)
    line.add([task("a"), task("b", "a")])
    assert begun(line) == [("a", "w0")]
    assert line.leave("w0") == ("a",)
    assert begun(line) == [("a", "w1")]
    assert line.leave("w1") == ("a",)
    assert begun(line) == []


def test_a_place_that_has_the_files_is_preferred() -> None:
    line = lineup(3)
    line.join(WorkPlace(name="w2", host="h0"), holds=["a"])
    line.add([task("a"), task("b", "a")])
    assert begun(line) == [("a", "w2")]
    line.finished("a")
    assert begun(line) == [("b", "w2")]


def test_a_step_of_which_a_process_was_killed_runs_alone() -> None:
    line = lineup(2)
    line.add([task("a", seconds=2.0), task("b")])
    assert len(begun(line)) == 2
    line.again_alone("a")
    assert begun(line) == []
    line.finished("b")
    line.add([task("c")])
    assert begun(line) == [("a", "w0")]


def test_a_task_that_is_dropped_leaves_its_place() -> None:
    line = lineup(1)
    line.add([task("a"), task("b")])
    begun(line)
    line.drop("a")
    assert begun(line) == [("b", "w0")]


def test_what_was_dropped_and_is_wanted_again_starts_once() -> None:
    line = lineup(2)
    line.add([task("a"), task("b", "a")])
    line.drop("a")
    line.drop("b")
    line.add([task("a"), task("b", "a")])
    assert begun(line) == [("a", "w0")]
    line.finished("a")
    assert begun(line) == [("b", "w0")]


@given(seed=st.integers(0, 10_000), n_workers=st.integers(1, 6))
def test_no_schedule_is_longer_than_list_scheduling_may_be(seed: int, n_workers: int) -> None:
    """Graham: at most (work ÷ workers) + (1 − 1 ÷ workers) × the longest chain."""
    draw = random.Random(seed)
    tasks = []
    for i in range(40):
        after = {f"t{draw.randrange(i)}" for _ in range(draw.randrange(3))} if i else set[str]()
        tasks.append(task(f"t{i}", *after, seconds=draw.uniform(0.1, 5.0)))
    wall = wall_seconds(tasks, lineup(n_workers), lambda task, _: task.seconds)
    work, chain = sum(t.seconds for t in tasks), longest_chain(tasks)
    assert max(chain, work / n_workers) <= wall + 1e-9
    assert wall <= work / n_workers + (1 - 1 / n_workers) * chain + 1e-9


def test_alone_on_one_machine_everything_is_one_after_another() -> None:
    tasks = [task("a", seconds=2.0), task("b", seconds=3.0), task("bench", "a", seconds=4.0, where="alone")]
    assert wall_seconds(tasks, lineup(2), lambda task, _: task.seconds) == pytest.approx(7.0)


def test_brief_tasks_are_given_some_at_a_time_and_nothing_behind_another_that_waits() -> None:
    line = lineup(2, n_brief=8)
    line.add([*(task(f"b{i:02}", seconds=0.01) for i in range(30)), task("long", seconds=3.0)])
    first = begun(line)
    assert first == [("long", "w0"), *((f"b{i:02}", "w1") for i in range(8))]
    line.finished("long")
    assert begun(line) == [(f"b{i:02}", "w0") for i in range(8, 16)]
    line.add([task("later", seconds=5.0)])
    line.finished("b00")
    line.finished("b08")
    assert begun(line) == []  # or it would never be its turn
    assert set(line.leave("w1")) == {f"b{i:02}" for i in range(1, 8)}
    for i in range(9, 16):
        line.finished(f"b{i:02}")
    assert begun(line) == [("later", "w0")]


def test_one_brief_task_at_a_time_unless_more_are_asked_for() -> None:
    line = lineup(2)
    line.add(task(f"b{i}", seconds=0.01) for i in range(5))
    assert [place for _, place in begun(line)] == ["w0", "w1"]


def test_brief_tasks_beside_each_other_need_their_room() -> None:
    line = lineup(1, room=10 * GIB, n_brief=8)
    line.add(task(f"b{i}", seconds=0.01, needs={"memory": 4 * GIB}) for i in range(6))
    assert len(begun(line)) == 2


def test_where_places_share_the_machine_a_task_that_nothing_is_beside_has_all_of_it() -> None:
    line = lineup(2, shares_here=True)
    line.add([task("base"), task("a", "base"), task("b", "base"), task("end", "a", "b")])
    assert begun(line) == [("base", None)]
    line.add([task("of another")])
    assert begun(line) == []  # it would fight for the cores
    line.finished("base")
    assert [place for _, place in begun(line)] == ["w0", "w1"]
    line.finished("a")
    assert begun(line) == [("of another", "w0")]
    line.finished("b")
    assert begun(line) == [("end", "w1")]
    line.again("end")
    line.finished("of another")
    assert begun(line) == [("end", None)]


def test_with_no_place_yet_the_only_task_starts_and_several_wait() -> None:
    line = lineup(0, shares_here=True)
    line.add([task("a"), task("b", "a"), task("c", "a")])
    assert begun(line) == [("a", None)]
    line.finished("a")
    assert begun(line) == []


def test_quick_tasks_beside_it_take_no_task_its_machine() -> None:
    line = lineup(2, shares_here=True)
    line.add([task("q", where="here"), task("a"), task("brief", seconds=0.01)])
    assert dict(begun(line)) == {"a": "w0", "brief": "w1", "q": None}
    line.finished("brief")
    line.finished("a")
    line.add([task("b")])
    assert begun(line) == [("b", None)]
