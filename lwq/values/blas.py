"""Products by one thread: the sums of several are rounded as they happen to share the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy's and SciPy's linear algebra takes one thread a call, from whatever threads it is called."""
    import scipy.linalg  # noqa: F401 - what is not loaded yet is not limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield
