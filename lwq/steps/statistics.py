"""The statistics of the importance matrix, per tensor and per layer."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.statistics import LayerStatistics, TensorStatistics, layer_statistics, tensor_statistics
from lwq.steps.step import Context, Made

NAME = "statistics"
VERSION = 1
USES_TOOLS = False
IN_PROCESS = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    imatrix: Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    tensors: tuple[TensorStatistics, ...]
    layers: tuple[LayerStatistics, ...]


def run(inputs: Inputs, ctx: Context) -> Result:
    """All columns of ``llama-imatrix --show-statistics``."""
    rows = tensor_statistics(read_imatrix(ctx.find(inputs.imatrix)).entries)
    return Result(tensors=rows, layers=layer_statistics(rows))
