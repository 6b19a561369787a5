"""Tokens per second of mixes, measured on real files: written by llama-quantize, timed by llama-bench, removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lwq.bits.settled import completed
from lwq.gguf.header import read_header
from lwq.gguf.size import planned_tensors
from lwq.llama import tools
from lwq.llama.machine import busy_share
from lwq.llama.requests import Benched, DryRunRequest, QuantizeRequest
from lwq.llama.toolchain import Toolchain
from lwq.metrics.speeds import reaches
from lwq.metrics.values import Estimate
from lwq.store.files import need_space, write_atomic
from lwq.store.pieces import Pieces

TEST: Final = "tg128"
_N_RUNS: Final = 3
_FILE: Final = "timed.gguf"
_TYPES: Final = "timed.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Tokens per second of one file, and the share of the CPUs that others used just before."""

    speed: Estimate
    busy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """Times mixes of bases that lie in a folder."""

    toolchain: Toolchain
    folder: Path
    n_threads: int
    ftype: str
    """What tensors that a mix leaves out get."""

    def timed(self, base: str, imatrix: str, types: Mapping[str, str]) -> Timed:
        """The speed of generation of a base in these types; nothing stays in the folder.

        Args:
            base, imatrix: files in the folder, by name.
        """
        tensors = planned_tensors(read_header(self.folder / base), types=types)
        need_space(self.folder, sum(t.n_bytes for t in tensors), _FILE)
        request = DryRunRequest(model=base, ftype=self.ftype, imatrix=imatrix)
        write_atomic(self.folder / _TYPES, completed(self.toolchain, types, request, cwd=self.folder).lines())
        try:
            self._quantize(base, imatrix)
            busy = busy_share()
            done = self._bench()
        finally:
            for name in (_FILE, _TYPES):
                (self.folder / name).unlink(missing_ok=True)
        return Timed(speed=done.speed[0].tokens_per_second, busy=busy)

    def _bench(self) -> Benched:
        return tools.bench(
            self.toolchain,
            cwd=self.folder,
            model=_FILE,
            tests=(TEST,),
            repetitions=_N_RUNS,
            threads=self.n_threads,
        )

    def _quantize(self, base: str, imatrix: str) -> None:
        request = QuantizeRequest(model=base, output=_FILE, ftype=self.ftype, imatrix=imatrix, tensor_types_file=_TYPES)
        tools.quantize(self.toolchain, request, cwd=self.folder, threads=self.n_threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Lets mixes of one base pass that generate as fast as was asked for."""

    timer: Timer
    base: str
    imatrix: str
    wanted: float
    passed: Mapping[str, str]
    """The mix that was found to be fast enough."""
    pieces: Pieces

    def too_slow(self, types: Mapping[str, str]) -> str:
        """Why a mix may not ship; empty where it may."""
        if types == self.passed:
            return ""
        key = f"{TEST}/{sorted(types.items())}"
        piece = self.pieces.get(key, lambda: asdict(self.timer.timed(self.base, self.imatrix, types)))
        speed = Estimate(**piece["speed"])
        return "" if reaches(speed, self.wanted) else f"too slow: {speed.value:.2f} tokens per second"
