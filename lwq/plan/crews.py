"""Who carries out steps side by side, as a user asks for it: workers of this machine, or those of a scheduler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from lwq.errors import ClusterError
from lwq.plan.cluster import Cluster
from lwq.plan.dispatch import Dispatcher
from lwq.plan.greeting import host, room_of
from lwq.plan.plan import Machine
from lwq.plan.shares import shares_of

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
    workers = _of_scheduler(scheduler, machine, device) if scheduler else _of_this_machine(n_workers, machine, device)
    workers.on_note = on_note
    crew = Dispatcher(workers, {host(): room_of(machine.toolchain)}, leaves=leave)
    try:
        yield crew
    finally:
        crew.close()


def _of_this_machine(n_workers: int, machine: Machine, device: str) -> Cluster:
    """Each with its share of the processors."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # None would take port 8787 of all interfaces, and say so where it is taken
        memory_limit=0,
        silence_logs=logging.CRITICAL,
    )
    return Cluster(Client(cluster, set_as_default=False), machine, device, own=cluster, cpus=shares_of(n_workers))


def _of_scheduler(address: str, machine: Machine, device: str) -> Cluster:
    from distributed import Client

    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        hint = "`dask scheduler` starts one (docs/cluster.md); without --scheduler steps run on this machine"
        raise ClusterError(f"no dask scheduler answers at {address}: {error}", hint=hint) from error
    return Cluster(client, machine, device)
