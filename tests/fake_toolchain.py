"""A llama.cpp whose programs misbehave on demand.

``make_fake``: scripts that stand before the real programs. Each runs the real one unless a behaviour is
set for it; a behaviour is shell code that sees ``$real`` (the real program) and the arguments. No output is
invented: what is not broken is real.
``make_fake_toolchain``: scripts that replay recorded output, where llama.cpp itself is not needed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lwq.llama.toolchain import PROGRAMS, Toolchain

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What one start of a fake program does: waits, prints, leaves files, ends."""

    stdout: str = ""
    stderr: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    exit_code: int = 0
    signal: int = 0
    delay_seconds: float = 0.0
    piece_chars: int = 0
    """Both streams in pieces of so many characters, newline or not; 0: all at once."""
    flood_chars: int = 0
    """Written to stderr first."""
    hang: bool = False
    """Never ends."""


_SCRIPT = """#!{python} -SE
import json, os, sys, time
from pathlib import Path
here = Path({folder!r})
log = here / "starts.jsonl"
with log.open("a") as file:
    file.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
n = sum(json.loads(line)[0] == {name!r} for line in log.read_text().splitlines())
acts = json.loads((here / "{name}.json").read_text())
act = acts[min(n, len(acts)) - 1]
time.sleep(act["delay_seconds"])
sys.stderr.write("x" * act["flood_chars"] + "\\n" * bool(act["flood_chars"]))
for stream, text in ((sys.stderr, act["stderr"]), (sys.stdout, act["stdout"])):
    size = act["piece_chars"] or max(1, len(text))
    for at in range(0, len(text), size):
        stream.write(text[at : at + size])
        stream.flush()
        time.sleep(0.001 if act["piece_chars"] else 0)
for path, content in act["files"].items():
    Path(path).write_bytes(bytes.fromhex(content))
while act["hang"]:
    time.sleep(1)
if act["signal"]:
    os.kill(os.getpid(), act["signal"])
sys.exit(act["exit_code"])
"""


def make_fake_toolchain(folder: Path, behaviours: Mapping[str, Replay | Sequence[Replay]]) -> Toolchain:
    """A toolchain without llama.cpp: its programs replay; the nth start takes the nth replay, or the last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, given in behaviours.items():
        acts = [asdict(act) for act in ([given] if isinstance(given, Replay) else given)]
        for act in acts:
            act["files"] = {path: content.hex() for path, content in act["files"].items()}
        (folder / f"{name}.json").write_text(json.dumps(acts), encoding="utf-8")
        (folder / name).write_text(
            _SCRIPT.format(python=sys.executable, folder=str(folder), name=name), encoding="utf-8"
        )
        (folder / name).chmod(0o755)
    return Toolchain(
        bin_dir=folder,
        lib_dir=folder,
        commit="0" * 40,
        backend="cpu",
        flags=(),
        compiler="none",
        stock=False,
        manifest_sha256="0" * 64,
    )


def starts(toolchain: Toolchain) -> list[list[str]]:
    """The command of every start of a replaying program, by its bare name."""
    log = toolchain.bin_dir / "starts.jsonl"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
