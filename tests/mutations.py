"""One change at a time to the functions of a module, as a mutation tester makes them: small, legal, mostly wrong."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Final

_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.Div, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd, ast.MatMult: ast.Mult,
}  # fmt: skip
_OF_WORDS: Final = frozenset({"hint", "encoding", "strict", "help", "what", "poll_interval", "timeout"})
"""Keywords that say how something is told or how long is waited, or that make no difference where this runs."""
_SIMPLE: Final = (
    ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr, ast.Raise, ast.Assert, ast.Delete, ast.Break,
    ast.Continue, ast.Pass, ast.Global, ast.Nonlocal, ast.Import, ast.ImportFrom,
)  # fmt: skip
Undo = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A change to one function of a module, by its number in it."""

    path: Path
    function: str
    """Its qualified name; of a function within a function, the outer one."""
    first_line: int
    """Where its code begins, decorators included."""
    line: int
    number: int
    before: str
    after: str

    def diff(self, root: Path) -> str:
        return f"{self.path.relative_to(root)}:{self.line} {self.function}\n  - {self.before}\n  + {self.after}"

    def code(self) -> CodeType:
        """The changed function's, compiled in its place of the module."""
        tree = _parsed(self.path)
        changes = _changes(_function(tree, self.function, self.first_line))
        for _ in range(self.number):
            next(changes)
        next(changes)  # stands in the tree until the next is asked for
        found = _code(compile(tree, str(self.path), "exec", dont_inherit=True), self.function, self.first_line)
        assert found is not None
        return found


def mutants(path: Path) -> list[Mutant]:
    """All changes to all functions of a module; what stands outside of functions, and texts for people, stay."""
    tree, found = _parsed(path), []
    for name, function in _functions(tree):
        first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
        for number, (line, before, after) in enumerate(_changes(function)):
            found.append(
                Mutant(path=path, function=name, first_line=first, line=line, number=number, before=before, after=after)
            )
    return [one for one in found if one.before != one.after]


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _functions(tree: ast.AST, owner: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield owner + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{owner}{node.name}.")
        elif isinstance(node, ast.If):
            yield from _functions(node, owner)


def _function(tree: ast.Module, name: str, first_line: int) -> ast.FunctionDef:
    return next(
        node
        for found, node in _functions(tree)
        if found == name and min([node.lineno, *(d.lineno for d in node.decorator_list)]) == first_line
    )


def _code(code: CodeType, name: str, first_line: int) -> CodeType | None:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_qualname == name and inner.co_firstlineno == first_line:
                return inner
            if deeper := _code(inner, name, first_line):
                return deeper
    return None


def _changes(function: ast.FunctionDef) -> Iterator[tuple[int, str, str]]:
    """(line, statement before, statement after) of each change, which stands in the tree while it is looked at."""
    for statement in list(_statements(function.body)):
        for change, line in _of_statement(statement):
            before = _told(statement)
            undo = change()
            try:
                yield line, before, _told(statement)
            finally:
                undo()


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for one in body:
        if not _is_text(one):
            yield one
        for field in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(one, field, []))
        for handler in getattr(one, "handlers", []):
            yield from _statements(handler.body)
        for case in getattr(one, "cases", []):
            yield from _statements(case.body)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _told(statement: ast.stmt) -> str:
    """The statement in one line; of one that holds others, its head."""
    if isinstance(statement, _SIMPLE):
        return ast.unparse(statement)
    bare = deepcopy(statement)
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        if getattr(bare, field, None) is not None and hasattr(bare, field):
            setattr(bare, field, [ast.Pass()] if field == "body" else [])
    return ast.unparse(bare).split("\n    pass")[0]


def _replaced(owner: ast.AST, field: str, new: ast.AST, at: int | None = None) -> Callable[[], Undo]:
    """Puts a node in the place of another, and gives what puts it back."""

    def put(value: ast.AST) -> None:
        if at is None:
            setattr(owner, field, value)
        else:
            getattr(owner, field)[at] = value

    old = getattr(owner, field) if at is None else getattr(owner, field)[at]
    if isinstance(old, (ast.expr, ast.stmt)):
        ast.copy_location(new, old)
        ast.fix_missing_locations(new)

    def do() -> Undo:
        put(new)
        return lambda: put(old)

    return do


def _dropped(items: list[ast.expr] | list[ast.keyword], at: int) -> Callable[[], Undo]:
    def do() -> Undo:
        old = items.pop(at)
        return lambda: items.insert(at, old)  # type: ignore[arg-type]

    return do


def _became(statement: ast.stmt, new: ast.stmt) -> Callable[[], Undo]:
    """Turns a statement into another in place, since its list is not known here."""

    def do() -> Undo:
        kind, held = statement.__class__, dict(statement.__dict__)
        placed = ast.fix_missing_locations(ast.copy_location(new, statement))
        statement.__class__ = new.__class__  # type: ignore[assignment]
        statement.__dict__ = dict(placed.__dict__)

        def undo() -> None:
            statement.__class__ = kind  # type: ignore[assignment]
            statement.__dict__ = held

        return undo

    return do


def _of_statement(one: ast.stmt) -> Iterator[tuple[Callable[[], Undo], int]]:
    line, none = one.lineno, ast.Constant(None)
    if isinstance(one, ast.Raise):
        yield _became(one, ast.Pass()), line
        return  # what it says is for people
    if isinstance(one, ast.Expr) and not isinstance(one.value, (ast.Yield, ast.YieldFrom)):
        yield _became(one, ast.Pass()), line
    elif isinstance(one, (ast.Break, ast.Continue)):
        yield _became(one, ast.Continue() if isinstance(one, ast.Break) else ast.Break()), line
    elif isinstance(one, ast.AugAssign):
        yield _became(one, ast.Assign(targets=[one.target], value=one.value)), line
        if other := _COMPUTED.get(type(one.op)):
            yield _replaced(one, "op", other()), line
    elif isinstance(one, (ast.Return, ast.Assign, ast.AnnAssign)) and one.value is not None:
        if not (isinstance(one.value, ast.Constant) and one.value.value is None):
            yield _replaced(one, "value", none), line
    elif isinstance(one, (ast.If, ast.While)):
        yield _replaced(one, "test", ast.UnaryOp(ast.Not(), one.test)), line
    for field, value in ast.iter_fields(one):
        if field in ("body", "orelse", "finalbody", "handlers", "cases", "targets", "target", "annotation"):
            continue
        if isinstance(one, (ast.FunctionDef, ast.ClassDef)):
            continue
        for at, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.AST):
                yield from _of_expression(one, field, at, node)


def _of_expression(
    owner: ast.AST, field: str, at: int | None, node: ast.AST
) -> Iterator[tuple[Callable[[], Undo], int]]:
    """Changes of one expression and all within it."""
    if isinstance(node, ast.JoinedStr):
        inner = [v for v in node.values if isinstance(v, ast.FormattedValue)]
        for value in inner:
            if isinstance(value.value, ast.Subscript) and isinstance(value.value.slice, ast.Slice):
                continue  # how much of something is told
            yield from _of_expression(value, "value", None, value.value)
        return
    line = getattr(node, "lineno", getattr(owner, "lineno", 0))
    for new in _others(node):
        yield _replaced(owner, field, new, at), line
    if isinstance(node, ast.Call):
        if _is_of_words(node):
            return
        yield from ((_dropped(node.args, i), line) for i in range(len(node.args)) if len(node.args) > 1)
        yield from ((_dropped(node.keywords, i), line) for i, k in enumerate(node.keywords) if k.arg not in _OF_WORDS)
    if isinstance(node, ast.comprehension):
        for i, test in enumerate(node.ifs):
            yield _replaced(node, "ifs", ast.UnaryOp(ast.Not(), test), i), test.lineno
    for name, value in ast.iter_fields(node):
        if (isinstance(node, ast.keyword) and node.arg in _OF_WORDS) or name in ("ctx", "op", "ops", "target"):
            continue
        if isinstance(node, ast.Lambda) and name == "args":
            continue
        for i, inner in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(inner, ast.AST):
                yield from _of_expression(node, name, i, inner)


def _is_of_words(call: ast.Call) -> bool:
    """An error is made, or a type is asserted to the type checker."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name.endswith(("Error", "Exception")) or name == "cast"


def _others(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in a node's place."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            yield ast.Compare(node.left, [*node.ops[:i], _COMPARED[type(op)](), *node.ops[i + 1 :]], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        yield ast.BinOp(node.left, _COMPUTED[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value)


def _constants(value: object) -> Iterator[ast.AST]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, (int, float)):
        yield ast.Constant(value + 1)
    elif isinstance(value, str) and not any(c.isspace() for c in value):  # words are for people
        yield ast.Constant("XX" + value)
    elif isinstance(value, bytes):
        yield ast.Constant(b"XX" + value)
