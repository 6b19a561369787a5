"""Licences of all that lwq is installed with, as an SBOM says them, and whether lwq may stand beside each."""

from __future__ import annotations

import re
from typing import Any, Final

COMPATIBLE: Final = frozenset(
    {
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC",
        "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
        "MPL-2.0", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-or-later",
        "GPL-3.0-or-later WITH GCC-exception-3.1", "GPL-3.0-with-GCC-exception",
        "Apache-2.0 WITH LLVM-exception", "Bzip2-1.0.6", "bzip2-1.0.6", "LicenseRef-OpenBLAS",
    }
)  # fmt: skip
"""May be used, unchanged and installed from their own packages, by a program under MIT; the second half binds
whoever changes or ships them, and lwq does neither."""
_NAMES: Final = {
    "Apache": "Apache-2.0",
    "Apache License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "The MIT License (MIT)": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.1-only",
}
"""Words of older packages → SPDX."""
_PARTS: Final = re.compile(r"\(|\)|\bAND\b|\bOR\b|[^()\s]+(?:\s+WITH\s+[^()\s]+)?")


def licences(sbom: dict[str, Any], stated: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Package → (version, licence as an SPDX expression, or in the package's own words).

    Args:
        stated: package → expression, read off its files where its metadata do not say.
    """
    found = {}
    for part in sbom.get("components", ()):
        name = part["name"].lower().replace("_", "-")
        found[name] = (part.get("version", "").partition("+")[0], stated.get(name) or _said(part.get("licenses", ())))
    return dict(sorted(found.items()))


def is_compatible(expression: str) -> bool:
    """Whether an SPDX expression allows it: all of what AND joins, one of what OR joins."""
    parts = _PARTS.findall(expression)
    good = _either(parts) if parts else False
    return good and not parts


def table(by_package: dict[str, tuple[str, str]]) -> str:
    """As Markdown."""
    rows = (f"| {name} | {version} | {licence} |" for name, (version, licence) in by_package.items())
    return "\n".join(("| package | version | licence |", "|:--|:--|:--|", *rows))


def _said(given: Any) -> str:
    for each in given:
        if "expression" in each:
            return str(each["expression"])
    ids = [each["license"].get("id") or each["license"].get("name", "") for each in given]
    bare = [i.rpartition(" :: ")[2] for i in ids]
    known = [_NAMES.get(i, i) for i in bare if len(i) < 60 and "\n" not in i]
    spdx = dict.fromkeys(k for k in known if k in COMPATIBLE)
    return " AND ".join(spdx or dict.fromkeys(known)) or "unknown"


def _either(parts: list[str]) -> bool:
    good = _both(parts)
    while parts and parts[0] == "OR":
        parts.pop(0)
        good = _both(parts) or good
    return good


def _both(parts: list[str]) -> bool:
    good = _one(parts)
    while parts and parts[0] == "AND":
        parts.pop(0)
        good = _one(parts) and good
    return good


def _one(parts: list[str]) -> bool:
    if not parts:
        return False
    part = parts.pop(0)
    if part != "(":
        return " ".join(part.split()) in COMPATIBLE
    good = _either(parts)
    return bool(parts) and parts.pop(0) == ")" and good
