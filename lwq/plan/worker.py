"""What a dask worker is asked to do: to greet, to carry a step out, to answer beside it."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from lwq.errors import ClusterError, LwqError
from lwq.llama.toolchain import Toolchain
from lwq.plan import errand
from lwq.plan.errand import Answer, Untold
from lwq.plan.greeting import greeting, settle_in

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

    answer = errand.carry(wanted, progress)
    if wanted.is_shared and (answer.error or answer.lacking):
        raise Untold(answer)
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a function came to that was called at a worker; errors travel as values, whatever is in them."""

    value: Any = None
    error: LwqError | None = None


async def aside(function: Callable[..., Any], *arguments: Any) -> Said:
    """What a function says that is called beside the worker's tasks, and keeps it from nothing."""
    try:
        return Said(value=await asyncio.to_thread(function, *arguments))
    except LwqError as error:
        return Said(error=error.with_traceback(None))
    except Exception as error:
        return Said(error=ClusterError(f"{function.__name__}: {type(error).__name__}: {error}"))


async def greet(device: str, toolchain: Toolchain | None, cpus: tuple[int, ...] | None) -> Said:
    """Who this worker is.

    Args:
        cpus: its processors, where it is the client's own.
    """
    if cpus is not None:
        settle_in(cpus)
    return await aside(greeting, device, toolchain)
