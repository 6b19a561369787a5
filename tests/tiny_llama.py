"""A small CMake project that stands in for llama.cpp: same targets and folders, compiled in a second.

Its programs share a versioned library. While ``GATE`` names a folder, the last program is held back until
``open`` is in that folder, so that a test can come in the middle of a build.
"""

from __future__ import annotations

from pathlib import Path

from lwq.llama.machine import need_programs
from lwq.llama.process import run_tool
from lwq.llama.toolchain import PROGRAMS
from lwq.store.files import write_atomic

CMAKE = f"""cmake_minimum_required(VERSION 3.14)
project(tiny C)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${{CMAKE_BINARY_DIR}}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${{CMAKE_BINARY_DIR}}/bin)
add_library(llama llama.c)
set_target_properties(llama PROPERTIES VERSION 0.5.0 SOVERSION 0)
foreach(name {" ".join(PROGRAMS)})
  add_executable(${{name}} program.c)
  target_link_libraries(${{name}} PRIVATE llama)
endforeach()
add_custom_command(OUTPUT late.c COMMAND sh ${{CMAKE_SOURCE_DIR}}/gate.sh DEPENDS llama llama-imatrix VERBATIM)
target_sources({PROGRAMS[-1]} PRIVATE late.c)
"""
GATE = """set -e
if [ -n "$GATE" ]; then
  echo $$ > "$GATE/pid"
  touch "$GATE/reached"
  while [ ! -e "$GATE/open" ]; do sleep 0.05; done
fi
echo 'int late(void) { return 1; }' > late.c
"""
SOURCES = {
    "CMakeLists.txt": CMAKE,
    "gate.sh": GATE,
    "llama.c": 'const char *answer(void) { return "usage: tiny"; }\n',
    "program.c": "#include <stdio.h>\nconst char *answer(void);\nint main(void) { puts(answer()); return 0; }\n",
}


def git(folder: Path, *arguments: str) -> str:
    """What git prints."""
    (program,) = need_programs("git")
    who = (
        "-c",
        "commit.gpgsign=false",
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@example.org",
        "-c",
        "protocol.file.allow=always",
    )
    return run_tool((str(program), *who, *arguments), cwd=folder).stdout.strip()


def commit(folder: Path, sources: dict[str, str]) -> str:
    """The commit that holds these files, in a new or an old repository."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
        git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    for name, text in sources.items():
        write_atomic(folder / name, text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "state")
    return git(folder, "rev-parse", "HEAD")
