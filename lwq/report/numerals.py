"""Figures as text, with the digits that the tools print and no more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lwq.metrics.values import Estimate

GIB: Final = 1 << 30
MIB: Final = 1 << 20
NOT_MEASURED: Final = "not measured"


def fixed(value: float, decimals: int) -> str:
    """The value with that many decimals; a zero has no sign."""
    return f"{value:z.{decimals}f}"


def estimate(measured: Estimate, decimals: int) -> str:
    """``25.129477 ±1.704591``, or the value alone where no error is known."""
    return _with_error(measured.value, measured.stderr, decimals)


def percent(measured: Estimate, decimals: int) -> str:
    """A fraction in %, without the sign: ``4.434 ±0.220``."""
    stderr = None if measured.stderr is None else 100 * measured.stderr
    return _with_error(100 * measured.value, stderr, decimals)


def count(n: int) -> str:
    """``134,515,008``."""
    return f"{n:,}"


def share(part: float, whole: float, decimals: int = 1) -> str:
    """``39.8%``."""
    return f"{fixed(100 * part / whole, decimals)}%" if whole else "–"


def gib(n_bytes: Iterable[int]) -> tuple[str, ...]:
    """Sizes in GiB for one column: two decimals, four where one of them is below 1 GiB."""
    sizes = tuple(n_bytes)
    decimals = 2 if min(sizes, default=0) >= GIB else 4
    return tuple(fixed(size / GIB, decimals) for size in sizes)


def mib(n_bytes: int) -> str:
    """Bytes in MiB: ``98.73``, ``13,660.20``."""
    return f"{n_bytes / MIB:,.2f}"


def size_unit(n_bytes: Iterable[int]) -> tuple[str, int]:
    """The unit for an axis of sizes and its bytes: GiB where the largest has one."""
    return ("GiB", GIB) if max(n_bytes, default=0) >= GIB else ("MiB", MIB)


def brief(value: float) -> str:
    """Four digits that count: ``0.03181``, ``1.250e-05``."""
    return f"{value:#.4g}".removesuffix(".")


def parameters(n: int) -> str:
    """``134.5 M``, ``23.57 B``."""
    return f"{n / 1e9:.2f} B" if n >= 1e9 else f"{n / 1e6:.1f} M"


def duration(seconds: float) -> str:
    """``4.2 s``, ``12 min 5 s``, ``3 h 20 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _with_error(value: float, stderr: float | None, decimals: int) -> str:
    text = fixed(value, decimals)
    return text if stderr is None else f"{text} ±{fixed(stderr, decimals)}"
