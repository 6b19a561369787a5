"""Figures as text, with the digits that the tools print and no more."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from lwq.metrics.values import Damage, Estimate

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


def rounded(measured: Estimate) -> str:
    """``0.0328 ±0.0009``: to the first digit of the error that counts (two where that is 1); four without an error."""
    if not measured.stderr:
        return f"{measured.value:z.4g}"
    first = math.floor(math.log10(measured.stderr))
    decimals = max(0, -first + (measured.stderr < 2 * 10**first))
    return _with_error(measured.value, measured.stderr, decimals)


def rounded_ppl(damage: Damage) -> str:
    """``25.13 ±1.70``: to the first digit that differs from the base's on the same tokens by more than its error."""
    error = damage.ppl_difference.stderr
    decimals = min(6, max(0, 1 - math.floor(math.log10(error)))) if error else 4
    return estimate(damage.ppl, decimals)


def rounded_range(low: float, high: float, *, most: int = 6) -> tuple[str, str]:
    """The ends of an interval, to the second digit of its width that counts: ``0.0269``, ``0.0349``."""
    width = high - low
    decimals = max(0, 1 - math.floor(math.log10(width))) if width > 0 else most
    return fixed(low, min(decimals, most)), fixed(high, min(decimals, most))


def rounded_percent(measured: Estimate) -> str:
    """A fraction in %, without the sign: ``95.2 ±0.5``."""
    stderr = None if measured.stderr is None else 100 * measured.stderr
    return rounded(Estimate(value=100 * measured.value, stderr=stderr, unit="%"))


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


def hub_size(n_bytes: int) -> str:
    """A size as Hugging Face shows it, in decimal units: ``105 MB``, ``4.92 GB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        value = n_bytes / size
        if value >= 0.9995:
            return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{n_bytes} B"


def in_gb(n_bytes: int) -> str:
    """Decimal gigabytes, rounded up: ``0.34``, ``5.9``, ``131``."""
    value = n_bytes / 10**9
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{math.ceil(value * 10**decimals) / 10**decimals:,.{decimals}f}"


def tokens(n: int) -> str:
    """A size of context as people say it: ``4k``, ``128k``, ``1M``; all digits where it is no whole number of these."""
    for unit, size in (("M", 1 << 20), ("k", 1 << 10)):
        if n % size == 0:
            return f"{n // size}{unit}"
    return count(n)


def size_unit(n_bytes: Iterable[int]) -> tuple[str, int]:
    """The unit for an axis of sizes and its bytes: GiB where the largest has one."""
    return ("GiB", GIB) if max(n_bytes, default=0) >= GIB else ("MiB", MIB)


def brief(value: float, digits: int = 4) -> str:
    """So many digits that count: ``0.03181``, ``1.250e-05``."""
    return f"{value:#.{digits}g}".removesuffix(".")


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
