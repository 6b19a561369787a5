"""The house of docs/architecture.md holds: packages in order, owners of outside things, sizes, tests by path."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

import lwq

PACKAGE = Path(lwq.__file__).parent
ROOT = PACKAGE.parent
ORDER = (
    "errors", "store", "metrics", "gguf", "record", "report", "recipe", "tasks", "llama", "engine", "values", "bits",
    "layers", "steps", "plan", "outlook", "cli", "__main__",
)  # fmt: skip
"""Packages from the ground up: a module imports from its own package and from those before it."""
OWNERS = {
    "gguf": {"gguf.data", "gguf.scan", "gguf.write", "values.lattices"},
    "llama_cpp": {"engine.bindings"},
    "subprocess": {"llama.process", "llama.process_group"},
    "click": {"cli"},
    "matplotlib": {"report"},
    "jinja2": {"report", "plan.chat"},
    "huggingface_hub": {"plan.client", "report.metadata"},
    "scipy": {"bits.knapsack", "metrics.paired", "values"},
    "numba": {"values.compiled"},
    "threadpoolctl": {"values.blas"},
    "sqlite3": {"store.memo", "store.ledger", "store.orders_table"},
    "dask": {"plan.cluster"},
    "distributed": {"plan.cluster", "plan.crews", "plan.worker"},
    "pydantic": {"recipe", "steps", "report.record_json", "cli"},
}
"""Outside package → the modules or packages of ours that alone may import it."""
WHOLE = {
    "test_architecture.py", "test_architectures.py", "test_browser.py", "test_crafted_ggufs.py", "test_device.py",
    "test_domains.py", "test_fuzz.py", "test_mutations.py", "faults/test_faults.py",
    "test_guard.py", "test_hostile.py", "test_hub_labels.py", "test_kill.py", "test_markdown_lint.py",
    "test_homes.py", "test_page_in_browser.py", "test_real_folder.py", "test_release.py", "test_threat_model.py",
    "test_tiny_models.py",
}  # fmt: skip
"""Tests of no one module."""


def modules() -> dict[str, Path]:
    """Dotted name below ``lwq`` → file."""
    by_name = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        by_name[".".join(p for p in parts if p != "__init__")] = path
    by_name.pop("", None)
    return by_name


MODULES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports_of(name: str) -> set[str]:
    """Dotted names of everything that a module imports, wherever in it."""
    imported = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module.removeprefix("lwq").lstrip(".")
            for alias in node.names:
                below = f"{inside}.{alias.name}".lstrip(".")
                is_module = node.module.split(".")[0] == "lwq" and below in MODULES
                imported.add(f"lwq.{below}" if is_module else node.module)
    return imported


def own_imports(name: str) -> Iterator[str]:
    """The modules of lwq that a module imports, below ``lwq``."""
    for target in imports_of(name):
        if target.startswith("lwq."):
            yield target.removeprefix("lwq.")


def room(name: str) -> str:
    return name.split(".")[0]


def test_the_order_names_every_package_once() -> None:
    entries = {p.stem for p in PACKAGE.iterdir() if p.name not in ("__init__.py", "__pycache__")}
    assert sorted(entries) == sorted(ORDER)
    assert len(list(PACKAGE.glob("[!_]*"))) + 2 <= 19


@pytest.mark.parametrize("name", sorted(MODULES))
def test_module_imports_only_from_its_package_or_those_before_it(name: str) -> None:
    above = [target for target in own_imports(name) if ORDER.index(room(target)) > ORDER.index(room(name))]
    assert not above


def test_steps_never_import_each_other() -> None:
    for name in MODULES:
        if name.startswith("steps."):
            assert not [t for t in own_imports(name) if t.startswith("steps.") and t != "steps.step"], name


def test_outside_things_have_one_owner() -> None:
    for name in MODULES:
        roots = {target.split(".")[0] for target in imports_of(name)}
        for package, owners in OWNERS.items():
            assert package not in roots or {name, room(name)} & owners, f"{name} imports {package}"


def test_no_import_cycle() -> None:
    graph = {name: set(own_imports(name)) for name in MODULES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail, name))
        if name not in done:
            for target in graph.get(name, ()):
                if target != name:
                    visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_grab_bag_modules() -> None:
    bags = {"utils", "helpers", "common", "core", "manager", "misc"}
    assert not [name for name in MODULES if name.split(".")[-1] in bags]


def test_no_class_name_stands_for_two_things() -> None:
    """``Inputs`` and ``Result`` are the shape of a step and stand in every one."""
    seen: dict[str, str] = {}
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name not in ("Inputs", "Result"):
                bare = node.name.lstrip("_")
                assert bare not in seen, f"{bare}: in {seen[bare]} and in {name}"
                seen[bare] = name


def n_lines(node: ast.AST) -> int:
    return (getattr(node, "end_lineno", 0) or 0) - getattr(node, "lineno", 0) + 1


def n_parameters(node: ast.FunctionDef) -> int:
    """Parameters beside ``self``; of a click command, which has one for each option, none."""
    if any("click" in ast.unparse(d) or "OPTION" in ast.unparse(d).upper() for d in node.decorator_list):
        return 0
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([n for n in names if n not in ("self", "cls")])


def test_sizes_stay_readable() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert median(lines.values()) <= 130
    assert not {name: n for name, n in lines.items() if n > 300}
    functions = []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                assert n_lines(node) <= 160, f"{name}.{node.name}"
            if isinstance(node, ast.FunctionDef):
                functions.append(n_lines(node))
                assert n_lines(node) <= 50, f"{name}.{node.name}"
                assert n_parameters(node) <= 6, f"{name}.{node.name}"
    assert median(functions) <= 8


def test_every_package_says_what_lives_in_it_and_passes_nothing_on() -> None:
    for name in ORDER:
        if (path := PACKAGE / name / "__init__.py").exists():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            paragraph = ast.get_docstring(tree) or ""
            assert len(paragraph) >= 100, f"{name}: what lives here, what it imports, where to start"
            assert len(tree.body) == 1, f"{name}/__init__.py holds code"


def test_tests_stand_where_their_module_stands() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        where = path.relative_to(ROOT / "tests")
        if where.as_posix() in WHOLE:
            continue
        module = ".".join((*where.parts[:-1], where.stem.removeprefix("test_")))
        assert module in MODULES, f"{where} tests no module"


def test_the_page_names_every_module() -> None:
    """Each package has its table in docs/architecture.md, with exactly the modules that are there."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    told: dict[str, set[str]] = {}
    for heading, table in re.findall(r"^### `(\w+)`.*?\n((?:(?!^#).*\n)+)", page, re.M):
        rows = re.findall(r"^\| (`[^|]*`) \|", table, re.M)
        told[heading] = {module for row in rows for module in re.findall(r"`(\w+)`", row)}
    have: dict[str, set[str]] = {}
    for name in MODULES:
        if "." in name:
            have.setdefault(room(name), set()).add(name.split(".")[1])
    assert told == have


def test_no_benchmark_has_the_name_of_what_a_package_imports() -> None:
    """A script's own folder comes first, so ``benchmarks/coverage.py`` was what Numba took for the package coverage."""
    imported = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "import gguf, jinja2, matplotlib.pyplot, numba, pydantic, scipy.linalg, scipy.optimize\n"
        "print(json.dumps([m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)]))"
    )
    folder = str(ROOT / "benchmarks")
    run = subprocess.run((sys.executable, "-c", imported, folder), capture_output=True, text=True, check=True)
    assert not [path for path in json.loads(run.stdout) if path.startswith(folder)]
