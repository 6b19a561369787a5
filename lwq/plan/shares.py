"""How workers of one machine share its processors."""

from __future__ import annotations

import os
from itertools import pairwise


def shares_of(n_workers: int) -> tuple[tuple[int, ...], ...]:
    """The processors of each worker: all are used, none twice as long as there are enough; empty where unknown."""
    if not hasattr(os, "sched_getaffinity"):
        return ((),) * n_workers
    cpus = sorted(os.sched_getaffinity(0))
    if n_workers >= len(cpus):
        return tuple((cpus[i % len(cpus)],) for i in range(n_workers))
    each, more = divmod(len(cpus), n_workers)
    ends = [i * each + min(i, more) for i in range(n_workers + 1)]
    return tuple(tuple(cpus[a:b]) for a, b in pairwise(ends))


def n_threads_of(n_workers: int, n_threads: int) -> int:
    """Threads of the tools of each of so many workers of this machine."""
    return max(1, min(n_threads, min((len(share) for share in shares_of(n_workers) if share), default=n_threads)))
