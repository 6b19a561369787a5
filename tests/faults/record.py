"""A run of a real tool, kept for ``replay.c``: ``record.py FOLDER PROGRAM ARGUMENTS…``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

folder, command = Path(sys.argv[1]), sys.argv[2:]
before = set(os.listdir())
last = b"Same top p:" if "--kl-divergence" in command else b"Final estimate"
for _ in range(20):  # on a busy machine the last words can be lost, and would be for good
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode or Path(command[0]).name != "llama-perplexity" or last in done.stdout + done.stderr:
        break
making = folder.with_name(f"{folder.name}.{os.getpid()}")
(making / "files").mkdir(parents=True)
for name in sorted(set(os.listdir()) - before):
    if Path(name).is_file():
        shutil.copy(name, making / "files" / name)
for stream in ("stdout", "stderr"):
    (making / stream).write_bytes(getattr(done, stream))
    os.write(1 if stream == "stdout" else 2, getattr(done, stream))
(making / "status").write_text(f"{done.returncode}\n", encoding="ascii")
shutil.rmtree(folder, ignore_errors=True)
making.rename(folder)
sys.exit(done.returncode)
