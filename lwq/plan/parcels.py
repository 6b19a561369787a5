"""The client's side of files that travel: what a worker lacks is sent to it, what it made is fetched and checked."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from lwq.errors import ClusterError
from lwq.plan.errand import Answer, facts_of
from lwq.plan.travel import PIECE_BYTES, WantedFile, WantedFiles, piece_of, receive, settle
from lwq.plan.workers import Assignment
from lwq.store.cache import Entry
from lwq.store.files import need_space, os_errors, sha256_file

Ask = Callable[..., Any]
"""Calls a function at the worker, and returns what it says."""
_N_TRIES: Final = 3
_ODD: Final = "lwq makes no such names: see who else may reach that worker (docs/cluster.md)"
_DAMAGED: Final = "the network or a disk is at fault; the same command tries again"


def sent(lacking: Iterable[WantedFiles], home: str, ask: Ask) -> None:
    """Sends files to a worker, whose cache is in ``home``.

    Raises:
        ClusterError: they arrive with another content each time.
    """
    for wanted in lacking:
        for _ in range(_N_TRIES):
            ticket = uuid.uuid4().hex
            for file in wanted.files:
                _send(file, home, ticket, ask)
            if not (wrong := ask(settle, home, ticket, wanted)):
                break
        else:
            raise ClusterError(f"{', '.join(wrong)}: did not arrive as sent, {_N_TRIES} times", hint=_DAMAGED)


def _send(file: WantedFile, home: str, ticket: str, ask: Ask) -> None:
    path = Path(file.path)
    with os_errors("read what is to be sent", path), path.open("rb") as source:
        offset, piece = 0, source.read(PIECE_BYTES)
        while True:
            ask(receive, home, ticket, file.sha256, offset, piece)
            offset += len(piece)
            if not (piece := source.read(PIECE_BYTES)):
                return


def fetched(given: Assignment, answer: Answer, home: str, ask: Ask) -> Entry:
    """What a worker made, in the client's cache.

    Raises:
        ClusterError: it arrives with another content each time; a file of it would lie elsewhere.
    """
    step, cache = given.step, given.around.cache

    def work(folder: Path) -> Mapping[str, Any]:
        facts = facts_of(answer.stored)
        outputs = json.loads(answer.stored)["outputs"]
        need_space(folder, sum(int(output["n_bytes"]) for output in outputs.values()), step.label)
        for name, output in outputs.items():
            own, path = given.around.given.get(output["sha256"], ()), _place(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if name in facts["keep_links"] and len(own) == 1:
                path.symlink_to(own[0])
            else:
                _fetch(path, output["sha256"], partial(ask, piece_of, home, step.module.NAME, step.key, name))
        return facts | {"work": 0.0}  # its time says nothing of this machine

    return cache.build(step.module.NAME, step.key_value, work, whole=given.whole)[0]


def _place(folder: Path, name: str) -> Path:
    """Where a file comes to lie that a worker names: in the folder, links followed."""
    try:
        place, root = (folder / name).resolve(), folder.resolve()
    except ValueError:  # a null character
        place = root = folder
    if place == root or not place.is_relative_to(root):
        raise ClusterError(f"a worker names a file that lies outside of its step's folder: {name!r}", hint=_ODD)
    return folder / name


def _fetch(path: Path, sha256: str, piece_at: Callable[[int], bytes]) -> None:
    for _ in range(_N_TRIES):
        with os_errors("keep what was fetched", path), path.open("wb") as file:
            while piece := piece_at(file.tell()):
                file.write(piece)
        if sha256_file(path) == sha256:
            return
    raise ClusterError(f"{path.name}: did not arrive as it was made, {_N_TRIES} times", hint=_DAMAGED)
