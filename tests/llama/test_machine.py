"""What else this machine does is seen."""

from __future__ import annotations

import subprocess
import sys
import time

from lwq.llama.machine import busy_share, n_cpus


def test_busy_share_sees_other_programs() -> None:
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_cpus())]
    try:
        time.sleep(0.3)
        assert 0.5 < busy_share() <= 1
    finally:
        for process in spin:
            process.kill()
            process.wait()
