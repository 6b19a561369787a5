"""The commands of a record as pasteable blocks, each with what it is for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from lwq.record.command import Command
from lwq.record.record import Record, Row
from lwq.report.markdown import code

_OF_TWIN: Final = {
    "quantize": "llama-quantize alone writes the same types with its own values: this gives another file, which is not"
    " published.",
    "evaluate": "Measure that file.",
}
_PURPOSE: Final = {
    "convert": "The given model becomes the 16-bit base that everything is measured against.",
    "baseline": "Score the base and store its log-probs, for each text that damage is measured on.",
    "selection": "Score on the selection text.",
    "imatrix": "Collect the importance matrix on the calibration text.",
    "statistics": "Show the statistics of the importance matrix.",
    "sensitivity": "Probe every tensor, and add to the importance matrix what llama-imatrix never collects.",
    "search": "Choose the allocation within the budget.",
    "pace": "Time sizes within the budget.",
    "prune": "Measure what removing each layer costs.",
    "heal": "Repair what removed layers leave behind.",
    "cut": "Remove layers and put the repaired tensors in.",
    "quantize": "Write the file.",
    "compensate": "Write the file with its compensated values, from the recipe beside this card.",
    "evaluate": "Measure it against the base's stored log-probs.",
    "tasks": "Ask the task sets.",
    "bench": "Time it.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Consecutive commands of one step."""

    step: str
    purpose: str
    lines: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCommands:
    """A row and the commands that made and measured it."""

    row: Row
    blocks: tuple[Block, ...]


def shared_blocks(record: Record) -> tuple[Block, ...]:
    """The commands shared by all files, in the order in which they ran."""
    return _blocks(record.commands)


def file_blocks(record: Record) -> tuple[FileCommands, ...]:
    """Each file's own commands; files without any are left out."""
    return tuple(FileCommands(row=row, blocks=_of_file(row)) for row in record.rows if row.commands)


def _of_file(row: Row) -> tuple[Block, ...]:
    """What made and measured a file, then what did so for its stock-valued twin."""
    return (*_blocks(row.commands), *(_blocks(row.twin.commands, _OF_TWIN) if row.twin else ()))


def _blocks(commands: tuple[Command, ...], purposes: Mapping[str, str] = _PURPOSE) -> tuple[Block, ...]:
    return tuple(
        Block(
            step=step,
            purpose=_purpose(purposes.get(step, ""), group),
            lines="\n".join(shlex.join(command.argv) for command in group),
        )
        for step, group in ((name, tuple(same_step)) for name, same_step in groupby(commands, key=lambda c: c.step))
    )


def _purpose(purpose: str, commands: tuple[Command, ...]) -> str:
    """What a step is for, and where its script is: scripts are not on the path of the programs."""
    scripts = dict.fromkeys(word for c in commands if c.argv[:1] == ("python",) for word in c.argv[1:2])
    where = "".join(f" {code(script)} is in llama.cpp's source of the commit above." for script in scripts)
    return purpose + where
