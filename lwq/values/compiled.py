"""Compilation of inner loops, kept between runs by the content of their sources.

Numba keeps what it compiled beside the module as a rule; what an older version of a module left there can make it
fail, and an installation need not be writable.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numba
from numba import config

from lwq.llama.toolchain import home

_SOURCES: Final = ("compiled", "descent", "lattice_descent")


def _digest() -> str:
    texts = b"\0".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in _SOURCES)
    return hashlib.sha256(texts + numba.__version__.encode()).hexdigest()[:16]


def current() -> Path:
    """The folder of what these sources are compiled to."""
    return home() / "compiled" / _digest()


def earlier() -> list[Path]:
    """Folders of what other versions compiled."""
    return [path for path in current().parent.glob("*") if path.is_dir() and path != current()]


vars(config)["CACHE_DIR"] = str(current())
compiled: Final = numba.njit(cache=True, nogil=True, error_model="numpy")
"""Nothing is reordered or fused, so that results depend on nothing but the arguments."""
