"""Who carries out steps side by side, as a user asks for it: workers of this machine, or those of a scheduler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from lwq.errors import ClusterError
from lwq.plan.cluster import Cluster
from lwq.plan.dispatch import Dispatcher
from lwq.plan.graph import Needs
from lwq.plan.greeting import host, room_of
from lwq.plan.plan import Machine
from lwq.plan.shares import shares_of
from lwq.plan.workers import Assignment, Joined, Outcome, Workers

INSTALL: Final = "pip install 'lwq[cluster]'"
_CONNECT_SECONDS: Final = 30


@contextmanager
def crew_of(
    machine: Machine,
    device: str,
    *,
    n_workers: int = 1,
    scheduler: str = "",
    leave: bool = False,
    on_note: Callable[[str], None] = lambda text: None,
) -> Iterator[Dispatcher]:
    """Workers, and what hands steps to them; at the end all that still runs is stopped.

    Args:
        n_workers: of this machine, where no scheduler is named.
        leave: what workers of a scheduler have begun when the user interrupts goes on there.

    Raises:
        ClusterError: dask is not installed; no scheduler answers.
    """
    if find_spec("distributed") is None:
        raise ClusterError("steps side by side need dask's distributed, which is not installed", hint=INSTALL)
    for name in ("distributed", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    workers: Workers
    if scheduler:
        workers = _of_scheduler(scheduler, machine, device, on_note)
    else:
        workers = Starting(lambda: _of_this_machine(n_workers, machine, device, on_note))
    rooms: dict[str, Needs] = {host(): room_of(machine.toolchain)}
    crew = Dispatcher(workers, rooms, shares_here=not scheduler, leaves=leave)
    try:
        yield crew
    finally:
        crew.close()


class Starting:
    """Workers that are being started: none joins until they are, and what goes on without them does."""

    def __init__(self, start: Callable[[], Cluster]) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lwq-start")
        self._made = self._pool.submit(start)

    @property
    def n_failures(self) -> int:
        return self._made.result().n_failures

    def begin(self) -> None:
        if self._made.done():
            self._made.result().begin()

    def look(self, wanted: frozenset[str]) -> tuple[list[Joined], list[str]]:
        return self._made.result().look(wanted) if self._made.done() else ([], [])

    def start(self, given: Assignment, tell: Callable[[Outcome], None]) -> None:
        self._made.result().start(given, tell)

    def stop(self, place: str, key: str) -> None:
        self._made.result().stop(place, key)

    def lack(self) -> ClusterError | None:
        return self._made.result().lack() if self._made.done() else None

    def close(self, *, leave: bool) -> None:
        self._pool.shutdown()
        if not self._made.exception():
            self._made.result().close(leave=leave)


def _of_this_machine(n_workers: int, machine: Machine, device: str, on_note: Callable[[str], None]) -> Cluster:
    """Each with its share of the processors; raises ClusterError where they cannot be started."""
    from distributed import Client, LocalCluster

    try:
        cluster = LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None would take port 8787 of all interfaces, and tell where it is taken
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        )
        client = Client(cluster, set_as_default=False)
    except (OSError, RuntimeError, TimeoutError, ValueError) as error:
        why = f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}"
        hint = "without --workers steps run one after another; finished ones are kept"
        raise ClusterError(f"no workers can be started on this machine: {why}", hint=hint) from error
    return Cluster(client, machine, device, on_note, own=cluster, cpus=shares_of(n_workers))


def _of_scheduler(address: str, machine: Machine, device: str, on_note: Callable[[str], None]) -> Cluster:
    from distributed import Client

    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        hint = "`dask scheduler` starts one (docs/cluster.md); without --scheduler steps run on this machine"
        raise ClusterError(f"no dask scheduler answers at {address}: {error}", hint=hint) from error
    return Cluster(client, machine, device, on_note)
