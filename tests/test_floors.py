"""The floors of docs/architecture.md hold: who may import whom, no cycles, readable sizes."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

import lwq

PACKAGE = Path(lwq.__file__).parent
FLOORS = (
    # 0 pure
    ("errors", "tensors", "metrics", "recipe", "recipe_target", "recipe_parse", "recipe_page", "statistics",
     "allocation", "pruning", "record", "search_record", "transcripts", "task_transcripts", "complaints", "requests",
     "damage", "divergence", "knapsack", "options", "importance", "budget", "prune_record", "layer_scores", "healing",
     "layer_kinds", "paired", "ties", "task_items", "task_formats", "task_records", "task_texts", "cloze", "speeds",
     "fronts"),
    # 1 one owner for each thing outside
    ("process", "process_group", "files", "machine", "source_tree", "toolchain", "build", "doctor", "gguf_parse",
     "gguf_header", "gguf_io", "gguf_scan", "gguf_size", "imatrix_io", "wheels", "hub", "cache", "converter", "tools",
     "bindings", "ggml", "graph", "session", "engine", "generation", "product", "curves", "mixes", "race", "pieces",
     "stock", "output_importance", "frontier", "replay", "cuts", "mending", "lean", "gguf_rewrite", "pruned_base",
     "vocabulary", "pacing", "same_model", "task_sets", "taskdata"),
    # 2 one thing each
    ("steps",),
    # 3 order
    ("sources", "lines", "measures", "pipeline", "execution", "preview", "explain", "finished", "assemble", "publish"),
    # 4 people
    ("cli", "report", "__main__"),
)  # fmt: skip
OWNERS = {
    "gguf": {"gguf_io", "gguf_scan"},
    "llama_cpp": {"bindings"},
    "subprocess": {"process", "process_group"},
}


def modules() -> dict[str, Path]:
    """Dotted name below ``lwq`` → file."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(p for p in parts if p != "__init__")] = path
    found.pop("", None)
    return found


def imports_of(path: Path, name: str) -> set[str]:
    """Dotted names of everything that a module imports, wherever in it."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module.removeprefix("lwq").lstrip(".")
            for alias in node.names:
                below = f"{inside}.{alias.name}".lstrip(".")
                is_module = node.module.split(".")[0] == "lwq" and below in known
                found.add(f"lwq.{below}" if is_module else node.module)
    return found


def floor(name: str) -> int:
    room = name.split(".")[0]
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("name", sorted(modules()))
def test_module_imports_only_from_its_floor_or_below(name: str) -> None:
    above = [
        target
        for target in imports_of(modules()[name], name)
        if target.startswith("lwq.") and floor(target.removeprefix("lwq.")) > floor(name)
    ]
    assert not above


def test_steps_never_import_each_other() -> None:
    for name, path in modules().items():
        if name.startswith("steps."):
            assert not [t for t in imports_of(path, name) if t.startswith("lwq.steps.")], name


def test_outside_things_have_one_owner() -> None:
    for name, path in modules().items():
        roots = {target.split(".")[0] for target in imports_of(path, name)}
        for package, owners in OWNERS.items():
            assert package not in roots or name in owners, f"{name} imports {package}"


def test_no_import_cycle() -> None:
    graph = {
        f"lwq.{name}": {t for t in imports_of(path, name) if t.startswith("lwq.")} for name, path in modules().items()
    }
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
    bags = {"utils", "helpers", "common", "core", "manager"}
    assert not [name for name in modules() if name.split(".")[-1] in bags]


def test_sizes_stay_readable() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert median(lines.values()) <= 200
    assert not {name: n for name, n in lines.items() if n > 300}
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 50, f"{name}.{node.name}"


def test_floors_are_disjoint() -> None:
    for lower, upper in pairwise(FLOORS):
        assert not set(lower) & set(upper)
