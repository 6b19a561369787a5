"""What room on the disk each step of a plan needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lwq.outlook.outlook import Outlook
from lwq.plan.plan import AnyStep
from lwq.steps import baseline, convert, cut, grams, heal, imatrix, lean, pace, parts, quantize, search, sensitivity
from lwq.steps.step import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes that a step writes: what stays, and what it removes at its end."""

    kept: int = 0
    scratch: int = 0


def disk_of(step: AnyStep, outlook: Outlook) -> Disk:
    """What a step writes, small files left out."""
    found = _DISKS.get(step.module.NAME)
    return found(step, outlook) if found else Disk()


def _convert_disk(step: AnyStep, o: Outlook) -> Disk:
    as_it_is, drops = o.is_base(step.inputs.base_type), o.drops(step.inputs)
    once = o.shape.header.file_bytes
    if step.inputs.kind == "hf-folder":
        return Disk(kept=o.shape.base_bytes, scratch=0 if as_it_is and not drops else once)
    if as_it_is:
        return Disk(kept=o.shape.base_bytes if drops else 0)
    return Disk(kept=o.shape.base_bytes, scratch=once if drops else 0)


def _imatrix_disk(step: AnyStep, o: Outlook) -> Disk:
    return Disk(kept=o.model.imatrix_bytes())


def _baseline_disk(step: AnyStep, o: Outlook) -> Disk:
    return Disk(kept=o.stored(Made(step=baseline.NAME, key=step.key, name="")))


def _heal_disk(step: AnyStep, o: Outlook) -> Disk:
    """Repaired tensors of each set, in F32: about one before and one behind each cut, or none."""
    if o.least:
        return Disk()
    _, tensor = o.shape.layer_values
    i = step.inputs
    counts = (len(i.layers),) if i.layers else i.counts or range(1, o.n_gone((), ()) + 1)
    return Disk(kept=sum(4 * tensor * (n + 1) for n in counts))


def _lean_disk(step: AnyStep, o: Outlook) -> Disk:
    """Where layers go, the base without them."""
    return Disk() if o.least else Disk(kept=o.shape.base_bytes + 2 * o.model.imatrix_bytes())


def _tensors_disk(step: AnyStep, o: Outlook) -> Disk:
    """Compensated tensors are kept in each type that was tried; a third of them in two."""
    return Disk(kept=o.target(step).file_bytes * 4 // 3 if step.inputs.grams else 0)


def _quantize_disk(step: AnyStep, o: Outlook) -> Disk:
    """What a search found is there; of other mixes the tensors are kept beside the file."""
    n_bytes = o.target(step).file_bytes
    return Disk(kept=2 * n_bytes if step.inputs.grams and step.inputs.completed is None else n_bytes)


_DISKS: Final[dict[str, Callable[[AnyStep, Outlook], Disk]]] = {
    convert.NAME: _convert_disk,
    imatrix.NAME: _imatrix_disk,
    sensitivity.NAME: _imatrix_disk,
    grams.NAME: lambda step, o: Disk(kept=sum(k * n * (n - 1) for n, k in o.shape.gathered)),
    search.NAME: _tensors_disk,
    baseline.NAME: _baseline_disk,
    parts.NAME: lambda step, o: Disk(scratch=o.stored(step.inputs.baseline)),
    quantize.NAME: _quantize_disk,
    cut.NAME: lambda step, o: Disk(kept=o.shape.base_bytes),
    heal.NAME: _heal_disk,
    lean.NAME: _lean_disk,
    pace.NAME: lambda step, o: Disk(
        scratch=o.target(step).file_bytes + (o.shape.base_bytes if step.inputs.heal else 0)
    ),
}
