"""What a dask worker is asked to do: to greet, to carry a step out, to answer beside it."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable
from typing import Any, Final

from lwq.llama.toolchain import Toolchain
from lwq.plan import errand
from lwq.plan.errand import Answer
from lwq.plan.greeting import Greeting, greeting, settle_in

TOPIC: Final = "lwq-progress"
"""Of dask's events, under which (key, done, total) are told."""
_TELL_SECONDS: Final = 0.5


def carry(pickled: bytes) -> Answer:
    """A task of dask: a step carried out, which tells its progress now and then."""
    from distributed import get_worker

    worker, wanted, told = get_worker(), pickle.loads(pickled), [0.0]

    def progress(done: int, total: int) -> None:
        if time.monotonic() - told[0] > _TELL_SECONDS:
            told[0] = time.monotonic()
            worker.log_event(TOPIC, {"what": (wanted.key, done, total)})

    return errand.carry(wanted, progress)


async def aside(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function says that is called beside the worker's tasks, and keeps it from nothing."""
    return await asyncio.to_thread(function, *arguments)


async def greet(device: str, toolchain: Toolchain | None, cpus: tuple[int, ...] | None) -> Greeting:
    """Who this worker is.

    Args:
        cpus: its processors, where it is the client's own.
    """
    if cpus is not None:
        settle_in(cpus)
    return await asyncio.to_thread(greeting, device, toolchain)
