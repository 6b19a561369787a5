"""Whether a model can give what a recipe asks of it, told before anything runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches

from lwq.bits.options import check_ties
from lwq.errors import ModelError, UsageError
from lwq.gguf.header import GgufHeader
from lwq.gguf.usable import check_context
from lwq.layers.kinds import Hparams, refusal
from lwq.layers.pruning import NAME_THEM, STATE, barred_layers, carries_state, check_count, check_layers
from lwq.llama import tools
from lwq.llama.requests import DryRunRequest
from lwq.llama.toolchain import Toolchain
from lwq.recipe.constraints import Constraints
from lwq.recipe.schema import Recipe
from lwq.store.files import os_errors
from lwq.store.temporary import temporary_folder


def check_asked(recipe: Recipe, header: GgufHeader, toolchain: Toolchain) -> None:
    """Raises ModelError or UsageError for what a recipe asks and the model cannot give, as far as its header tells.

    Layers, named or counted, that it cannot lose; windows longer than its learned positions; patterns and tensor
    classes of which it has none.
    """
    allow_edge = recipe.pruning.allow_edge
    for role, text in recipe.texts().items():
        check_context(header, text.n_ctx, f"[{role}]")
    for target in recipe.targets:
        check_layers(target.prune_layers, header.n_layer, allow_edge=allow_edge)
        if isinstance(target.prune, int):
            check_count(target.prune, header.n_layer, allow_edge=allow_edge)
        if target.prune:
            _check_any_goes(header, target.name)
        if isinstance(target.prune, int):
            _check_enough_go(target.prune, header, target.name, allow_edge=allow_edge)
        check_ties(header.tensors, target.constraints())
    check_patterns({t.name: t.constraints() for t in recipe.targets}, header, toolchain)


def _check_any_goes(header: GgufHeader, name: str) -> None:
    """Raises ModelError where no layer of the architecture can go, or where it cannot be measured which."""
    of_model = Hparams(architecture=header.architecture, n_layer=header.n_layer, metadata=header.metadata)
    if why := refusal(of_model):
        hint = "leave `prune` out for this model"
        raise ModelError(f"{name}: no layer of {header.architecture!r} can go: {why}", hint=hint)
    if carries_state(of_model):
        raise ModelError(
            f"{name}: which layers of {header.architecture!r} may go cannot be measured: {STATE}", hint=NAME_THEM
        )


def _check_enough_go(n: int, header: GgufHeader, name: str, *, allow_edge: bool) -> None:
    """Raises ModelError where fewer layers of the model can go, each by itself, than are to be chosen."""
    barred = barred_layers(header, allow_edge=allow_edge)
    if n > (most := header.n_layer - len(barred)):
        why = list(barred.values())[len(barred) // 2]  # of one between the first and the last
        raise ModelError(
            f"{name}: prune = {n}, but only {most} of this model's {header.n_layer} layers may go one by one: {why}",
            hint=f"prune at most {most}" if most else "name layers that can go together yourself, in prune_layers",
        )


def check_patterns(asked: Mapping[str, Constraints], header: GgufHeader, toolchain: Toolchain) -> None:
    """Raises UsageError for a pattern that is found in no tensor that llama-quantize may convert.

    Args:
        asked: constraints by whose they are.
    """
    if not any(c.fixed or c.min_types for c in asked.values()):
        return
    convertible = _convertible(header, toolchain)
    for whose, constraints in asked.items():
        for pattern, _ in (*constraints.fixed, *constraints.min_types):
            if not any(re.search(pattern, name) for name in convertible):
                raise UsageError(f"{whose}: {_void(pattern, header)}", hint=_near(pattern, convertible))


def _convertible(header: GgufHeader, toolchain: Toolchain) -> tuple[str, ...]:
    """The tensors that llama-quantize may convert: of two types one is not their own."""
    names: set[str] = set()
    with temporary_folder() as folder, os_errors("try a dry run", folder):
        for shard in header.shards:
            (folder / shard.path.name).symlink_to(shard.path.resolve())
        for ftype in ("Q8_0", "Q4_0"):
            plan = tools.dry_run(toolchain, DryRunRequest(model=header.path.name, ftype=ftype), cwd=folder).plan
            names |= {t.name for t in plan.tensors if t.target_type != t.source_type}
    return tuple(t.name for t in header.tensors if t.name in names)


def _void(pattern: str, header: GgufHeader) -> str:
    kept = next((t.name for t in header.tensors if re.search(pattern, t.name)), "")
    if kept:
        return f"the pattern {pattern!r} names only tensors that llama-quantize leaves as they are, such as {kept}"
    return f"the pattern {pattern!r} is found in no tensor of the model"


def _near(pattern: str, names: Collection[str]) -> str:
    plain = re.sub(r"\\d|[^A-Za-z0-9_.]", "", pattern).strip(".")
    classes = {name.split(".")[-2] if name.startswith("blk.") else name for name in names}
    near = get_close_matches(plain.split(".")[-1] if plain.startswith("blk") else plain, sorted(classes), 3, 0.5)
    return f"{'did you mean ' + ' or '.join(near) + '? ' if near else ''}`lwq inspect FILE --by tensor` lists the names"
