"""Changed functions are changed in one place, run, and leave texts alone; `make mutants` tries the tests with them."""

from __future__ import annotations

from pathlib import Path
from types import FunctionType

from tests.mutants import PACKAGES, ROOT
from tests.mutations import mutants

MODULE = '''
from functools import wraps

LIMIT = 7

def add(a, b):
    """Words."""
    if a > b:
        raise ValueError(f"{a + 1} is above {b}")
    return a + b

class Box:
    @property
    def size(self) -> int:
        return len([x for x in self.items if x])

def told(n):
    return f"{n} of many" if n else "none at all"
'''


def test_each_mutant_is_one_change_of_one_function(tmp_path: Path) -> None:
    (path := tmp_path / "m.py").write_text(MODULE)
    found = {(one.function, one.after) for one in mutants(path)}
    assert found == {
        ("add", "if not a > b:"), ("add", "if a >= b:"), ("add", "pass"), ("add", "return None"),
        ("add", "return a - b"),
        ("Box.size", "return None"), ("Box.size", "return len([x for x in self.items if not x])"),
        ("told", "return None"), ("told", "return f'{n} of many' if not n else 'none at all'"),
    }  # fmt: skip


def test_a_mutant_runs_in_place_of_its_function(tmp_path: Path) -> None:
    (path := tmp_path / "m.py").write_text(MODULE)
    names: dict[str, FunctionType] = {}
    exec(compile(MODULE, str(path), "exec"), names)
    answers = set()
    for one in mutants(path):
        if one.function == "add":
            names["add"].__code__ = one.code()
            try:
                answers.add((one.after, names["add"](2, 3)))
            except ValueError:
                answers.add((one.after, "refused"))
    assert answers == {
        ("if not a > b:", "refused"), ("if a >= b:", 5), ("pass", 5), ("return None", None), ("return a - b", -1),
    }  # fmt: skip


def test_every_module_and_test_that_is_named_is_there() -> None:
    for package in PACKAGES.values():
        assert package.modules
        assert all((ROOT / path).exists() for path in (*package.modules, *package.tests))
