"""Known vulnerabilities of what the locks name: each is mended, or stands in ``known.toml`` with its reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from release.distributions import Unfit

_ASK: Final = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--aliases", "on")


def audit(lock: Path, options: tuple[str, ...]) -> dict[str, Any]:
    """pip-audit's report on a lock.

    Args:
        options: of pip-audit besides, such as ``-s osv``.
    """
    command = (sys.executable, "-m", "pip_audit", "-r", str(lock), *_ASK, *options)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines()[-1:] or ["no word"]
        raise Unfit(f"{lock.name}: pip-audit could not ask: {said[0]}") from None
    return report


def judge(reports: dict[str, dict[str, Any]], known: list[dict[str, str]]) -> list[str]:
    """What of pip-audit's reports (by lock) hinders a release, in sentences; none when all is well.

    A package that the service does not know was not audited, which is no good news.
    """
    faults, seen = [], set()
    for lock, report in reports.items():
        packages = report["dependencies"]
        if unknown := [p["name"] for p in packages if "vulns" not in p]:
            told = ", ".join(unknown[:4]) + (", …" if len(unknown) > 4 else "")
            faults.append(f"{lock}: {len(unknown)} of {len(packages)} packages could not be audited: {told}")
        for package in packages:
            for found in package.get("vulns", ()):
                names = {found["id"], *found.get("aliases", ())}
                reasons = [k for k in known if k["id"] in names and k["package"] == package["name"]]
                seen |= {k["id"] for k in reasons}
                if not reasons:
                    fixed = ", ".join(found.get("fix_versions", ())) or "nowhere yet"
                    faults.append(
                        f"{lock}: {package['name']} {package['version']}: {found['id']}, mended in {fixed}:"
                        " raise it (`make lock`), or say in release/known.toml why it cannot be"
                    )
    whole = all("vulns" in p for report in reports.values() for p in report["dependencies"])
    if whole:
        stale = [k["id"] for k in known if k["id"] not in seen]
        faults += [f"release/known.toml: {name} is found no more: take it out" for name in stale]
    return faults
