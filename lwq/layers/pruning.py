"""Which layers of a model may go, and what its metadata must say without them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final, TypeAlias

from lwq.errors import ModelError
from lwq.gguf.header import GgufHeader
from lwq.layers.kinds import KINDS, RECURRENT, WINDOW_PATTERN, Hparams, Trait, Value, derived_changes, refusal

Changes: TypeAlias = dict[str, Value | tuple[Value, ...]]

# Keys (after the architecture's name) that hold one value for all layers, or one for each; an array is cut.
PER_LAYER: Final = (
    "attention.head_count",
    "attention.head_count_kv",
    "attention.recurrent_layers",
    "attention.rope_pattern",
    "attention.sliding_window_pattern",
    "expert_feed_forward_length",
    "expert_used_count",
    "feed_forward_length",
    "swiglu_clamp_exp",
    "swiglu_clamp_shexp",
)
# Arrays that may be as long as the model has layers, by chance.
NOT_PER_LAYER: Final = ("rope.dimension_sections", "classifier.output_labels")
# Sizes that windowed layers may have of their own; llama.cpp takes some of a model's from its first layer.
_WINDOW_SIZES: Final = ("attention.key_length_swa", "attention.value_length_swa", "rope.dimension_count_swa")


STATE: Final = "its recurrent layers hand a state from token to token, so the graph cannot be cut between layers"
NAME_THEM: Final = "name them yourself: --layers, or prune_layers with heal = true in a recipe"
_RECURRENT: Final = ("mamba", "mamba2", "falcon-h1", "plamo2", "kimi-linear")
"""Of which every layer, or most, are recurrent, without a trait that says so."""


def check_layers(
    layers: Sequence[int],
    n_layer: int,
    *,
    allow_edge: bool = False,
    hint: str = "name layers that the model has, each once; they are counted from 0",
) -> tuple[int, ...]:
    """The layers in order, which the model has and which leave it its first and its last.

    Args:
        allow_edge: whether the first and the last layer may go too.

    Raises:
        ModelError: a layer that is not there, is named twice or is barred, or none left between the first and the last.
    """
    if not layers:
        return ()
    ordered = tuple(sorted(layers))
    if beyond := [layer for layer in ordered if not 0 <= layer < n_layer]:
        raise ModelError(f"there is no layer {beyond[0]}: the model has layers 0 to {n_layer - 1}", hint=hint)
    if twice := [layer for layer, following in pairwise(ordered) if layer == following]:
        raise ModelError(f"layer {twice[0]} is named twice", hint=hint)
    if len(ordered) == n_layer:
        raise ModelError(f"all {n_layer} layers are named", hint="keep at least one")
    if n_layer <= 2:
        raise ModelError(
            f"a model of {n_layer} layers has none between its first and its last", hint="take a model of more layers"
        )
    if not allow_edge and (edge := {0, n_layer - 1} & set(ordered)):
        raise ModelError(
            f"layer {min(edge)} cannot go: the first and the last layer are barred",
            hint="leave it out; --allow-edge (allow_edge = true in a recipe) lifts that",
        )
    return ordered


def check_count(n: int, n_layer: int, *, allow_edge: bool = False) -> None:
    """Raises ModelError if a model of so many layers cannot lose ``n`` of them and keep its first and its last."""
    most = n_layer - 1 if allow_edge and n_layer > 2 else max(0, n_layer - 2)
    if n > most:
        raise ModelError(
            f"{n} layers cannot go: only {most} of this model's {n_layer} may",
            hint=f"prune at most {most}" if most else "take a model of more layers",
        )


def without_layers(
    architecture: str, n_layer: int, metadata: Mapping[str, object], layers: Sequence[int]
) -> dict[str, Value | tuple[Value, ...]]:
    """The keys that must change when these layers go, with their new values.

    What each kept layer is (attention to a window, with rope, recurrent, of experts, …) stays what it was, under its
    new number; where only an array can say so, the array is among the keys.

    Args:
        n_layer: ``block_count``, so with next-token-prediction layers.

    Raises:
        ModelError: layers that cannot go, or an architecture that is not known well enough.
    """
    gone = check_layers(layers, n_layer, allow_edge=True)
    n_more = Hparams(architecture=architecture, n_layer=n_layer, metadata=metadata).number("nextn_predict_layers")
    old = Hparams(architecture=architecture, n_layer=n_layer - n_more, metadata=metadata)
    if why := refusal(old):
        raise ModelError(f"no layer of {architecture!r} can go: {why}", hint="leave its layers as they are")
    if gone and gone[-1] >= old.n_layer:
        raise ModelError(
            f"layer {gone[-1]} cannot go: it predicts the token after the next",
            hint=f"name layers from 0 to {old.n_layer - 1}",
        )
    changes: Changes = {f"{architecture}.block_count": n_layer - len(gone)}
    changes |= _cut_arrays(old, n_layer, gone)
    lead = old.number("leading_dense_block_count")
    if less := sum(layer < lead for layer in gone):
        changes[f"{architecture}.leading_dense_block_count"] = lead - less
    _check_first(old, gone, changes)
    changes |= derived_changes(old, _changed(old, gone, changes))
    for trait in KINDS[architecture]:
        changes |= _kept_kinds(trait, old, gone, changes)
    return changes


def barred_layers(header: GgufHeader, *, allow_edge: bool) -> dict[int, str]:
    """Layer → why it may not go alone: the first and the last, and those that the architecture cannot lose."""
    barred = {}
    for layer in range(header.n_layer):
        try:
            check_layers((layer,), header.n_layer, allow_edge=allow_edge)
            without_layers(header.architecture, header.n_layer_all, header.metadata, (layer,))
        except ModelError as error:
            barred[layer] = error.message
    return barred


def prune_obstacle(
    architecture: str, n_layer: int, metadata: Mapping[str, object], layers: Sequence[int] = ()
) -> str | None:
    """Why ``llama-quantize --prune-layers`` alone would write a wrong file, or None where it is right.

    It renumbers tensors and counts the layers that have some, for ``block_count``; all other keys stay.

    Args:
        layers: those that go; when empty, the answer is for each inner layer alone.

    Source: src/llama-quant.cpp, ``remap_layer``.
    """
    if metadata.get(f"{architecture}.nextn_predict_layers"):
        return "layers that predict the token after the next may have no tensors, and llama-quantize counts by tensors"
    for some in [layers] if layers else [(layer,) for layer in range(1, max(2, n_layer - 1))]:
        try:
            changes = without_layers(architecture, n_layer, metadata, some)
        except ModelError as error:
            return error.message
        if more := [key for key in changes if key != f"{architecture}.block_count"]:
            return f"{more[0]} must change with the layers, and llama-quantize leaves it as it is"
    return None


def _changed(old: Hparams, gone: Sequence[int], changes: Changes) -> Hparams:
    return replace(old, n_layer=old.n_layer - len(gone), metadata={**old.metadata, **changes})


def _cut_arrays(old: Hparams, n_layer: int, gone: Sequence[int]) -> Changes:
    """Per-layer arrays without the entries of layers that go."""
    prefix, changes = f"{old.architecture}.", Changes()
    for key, value in old.metadata.items():
        name = key.removeprefix(prefix)
        if not isinstance(value, tuple | list) or name in NOT_PER_LAYER:
            continue
        of_layers = key.startswith((prefix, "xielu.")) and len(value) in (old.n_layer, n_layer)
        if gone and (of_layers or (key.startswith(prefix) and name in PER_LAYER)):
            changes[key] = tuple(v for i, v in enumerate(value) if i not in gone)
    return changes


def _check_first(old: Hparams, gone: Sequence[int], changes: Changes) -> None:
    """Raises where the new first layer is of another size: llama.cpp takes sizes of the whole model from it.

    Source: src/llama-model.cpp ``load_hparams``, src/llama-graph.cpp: ``n_head()``, ``n_rot()`` are of layer 0.
    """
    kinds = (f"{old.architecture}.{WINDOW_PATTERN}", f"{old.architecture}.{RECURRENT}")
    for key, value in changes.items():
        if key in kinds or not isinstance(value, tuple):
            continue
        before = old.metadata.get(key)
        if 0 in gone and isinstance(before, tuple | list) and value[:1] != tuple(before[:1]):
            raise _first_differs(old, f"{key} would begin with {value[0]}")


def _first_differs(old: Hparams, how: str) -> ModelError:
    return ModelError(
        f"layer 0 cannot go: llama.cpp takes sizes of a whole {old.architecture!r} from its first layer, and {how}",
        hint="keep the first layer",
    )


def _kept_kinds(trait: Trait, old: Hparams, gone: Sequence[int], changes: Changes) -> Changes:
    """The array that keeps each layer what it is, if one is needed.

    Raises:
        ModelError: no array can say it, or a kind of layer would be gone altogether.
    """
    before = trait.labels(old)
    kept = tuple(label for i, label in enumerate(before) if i not in gone)
    if any(label in before and label not in kept for label in trait.needs):
        raise ModelError(
            f"layers {_named(gone)} of {old.architecture!r} cannot go: no other layer is of their kind ({trait.what})",
            hint="keep one of them",
        )
    if trait.array == WINDOW_PATTERN and kept[:1] != before[:1] and any(old.get(size) for size in _WINDOW_SIZES):
        raise _first_differs(old, f"the next one is of another kind ({trait.what})")
    if trait.labels(_changed(old, gone, changes)) == kept:
        return {}
    if trait.array:
        key = f"{old.architecture}.{trait.array}"
        n_more = old.number("nextn_predict_layers")
        array: Changes = {key: tuple(label == trait.flag for label in kept) + (False,) * n_more}
        if trait.labels(_changed(old, gone, {**changes, **array})) == kept:
            return array
    raise _moved(trait, old, gone, trait.labels(_changed(old, gone, changes)))


def _moved(trait: Trait, old: Hparams, gone: Sequence[int], after: Sequence[object]) -> ModelError:
    """The error for a kept layer that would become another kind of layer."""
    left = [layer for layer in range(old.n_layer) if layer not in gone]
    before = trait.labels(old)
    new, layer = next((i, layer) for i, layer in enumerate(left) if after[i] != before[layer])
    start = f"layers {_named(gone)} of {old.architecture!r} cannot go: "
    periods = [t.period(old) for t in KINDS[old.architecture] if not t.array]
    if trait.period(old) < 2 or not set(after) <= set(before):
        return ModelError(
            f"{start}with {len(left)} layers instead of {old.n_layer}, {trait.what} would be another"
            f" ({after[new]} instead of {before[layer]})",
            hint="llama.cpp decides it by the number of layers: another number may be possible",
        )
    period = math.lcm(*(p for p in periods if p > 1)) if any(periods) else trait.period(old)
    return ModelError(
        f"{start}a layer's number decides ({trait.what}, every {trait.period(old)} layers), and layer {layer} would"
        f" become layer {new} and {after[new]} instead of {before[layer]}",
        hint=f"name {period} layers in a row (such as {period} to {2 * period - 1}), or a multiple of that",
    )


def _named(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))


def carries_state(h: Hparams) -> bool:
    """Whether layers hand a state from token to token, so that a graph cannot be cut between layers."""
    if h.architecture in _RECURRENT or h.architecture.startswith(("rwkv", "arwkv")):
        return True
    return any("recurrent" in trait.labels(h) for trait in KINDS.get(h.architecture, ()))
