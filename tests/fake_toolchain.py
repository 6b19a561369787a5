"""A llama.cpp whose programs misbehave on demand: scripts that stand before the real ones.

Each program of the fake runs the real one unless a behaviour is set for it; a behaviour is shell code
that sees ``$real`` (the real program) and the arguments. No output is invented: what is not broken is real.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from lwq.toolchain import PROGRAMS, Toolchain

BEHAVIOURS = {
    "crash": "echo 'about to fall over' >&2; kill -SEGV $$",
    "killed": "kill -KILL $$",
    "silent": "exit 0",
    "fails": "for i in $(seq 100); do echo line $i >&2; done; exit 3",
    "flood": 'head -c 3000000 /dev/zero | tr "\\0" x >&2; exec "$real" "$@"',
    "unknown table": '"$real" "$@" | sed "s/Mean    KLD/Average KLD/"',
    "nan": '"$real" "$@" | sed -E "s/(Mean    KLD: ) *[-0-9.]+/\\1 nan/"',
    "no file": 'for last in "$@"; do :; done; "$real" "$@"; status=$?; rm -f *.gguf.tmp tiny-Q4_K_M.gguf; exit $status',
    "short file": '"$real" "$@"; status=$?; truncate -s -100 tiny-Q4_K_M.gguf; exit $status',
    "holds the pipe": 'sleep 300 & exec "$real" "$@"',
}


def make_fake(folder: Path, toolchain: Toolchain, behaviours: dict[str, str]) -> Toolchain:
    """The toolchain with these programs broken."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        script = folder / name
        body = behaviours.get(name, 'exec "$real" "$@"')
        script.write_text(f'#!/bin/bash\nreal="{toolchain.bin_dir / name}"\n{body}\n', encoding="utf-8")
        os.chmod(script, 0o755)
    return replace(toolchain, bin_dir=folder)
