"""Steps: each module does one thing, with typed inputs and a typed result.

A step module has ``NAME``, ``VERSION``, ``USES_TOOLS``, ``IN_PROCESS``, ``Inputs``, ``Result`` and
``run(inputs, ctx) -> Result``. Everything in ``Inputs`` is in the step's key; ``Context`` holds what cannot change a
result. What computes with llama.cpp's libraries is ``IN_PROCESS``: it is carried out in a child, which may die.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from lwq.bits.stock import OfFtype, stock_mix
from lwq.engine.ggml import Ggml
from lwq.gguf.header import GgufHeader, read_header, shard_paths
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.types import bits_per_weight
from lwq.llama.requests import with_threads
from lwq.llama.toolchain import Toolchain
from lwq.record.record import FileFacts, shares
from lwq.store.cache import Entry
from lwq.store.pieces import Pieces
from lwq.values.compensated import Compensated
from lwq.values.grams import Grams, Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A file that the user gave, by its content."""

    sha256: str
    name: str
    """Bare name under which tools see it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A file that an earlier step made."""

    step: str
    key: str
    name: str


Origin = Given | Made
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - the inputs of a step, as R is its result
R = TypeVar("R")


class ToolRun(Protocol):
    """What every function of ``lwq.llama.tools`` returns besides its own result."""

    @property
    def argv(self) -> tuple[str, ...]: ...

    @property
    def seconds(self) -> float: ...

    @property
    def peak_bytes(self) -> int: ...


@dataclass(slots=True, kw_only=True)
class Context:
    """Where a step works and with what; nothing here may change a result."""

    folder: Path
    """Empty folder for the outputs, and for links to the inputs under their public names."""
    toolchain: Toolchain
    n_threads: int
    progress: Callable[[int, int], None]
    """Told (done, total) in the step's own units."""
    entries: Mapping[str, Entry]
    """Finished steps by key."""
    given: Mapping[str, tuple[Path, ...]]
    """Given files by content hash (all shards of a split model, all files of a folder)."""
    told_threads: int = 0
    """Threads that command lines are noted with: those of the machine that the run is of, on which none may depend."""
    key: str = ""
    """The key of the step that runs."""
    pieces_folder: Path | None = None
    commands: list[tuple[str, ...]] = field(default_factory=list)
    tool_seconds: float = 0.0
    peak_bytes: int = 0
    """The most memory (resident bytes, mapped files included) that one of its processes was seen with."""

    def place(self, origin: Origin) -> str:
        """Link an input (all shards of a split model) into the work folder under its public name, which is returned."""
        for name, path in self.links(origin):
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(path)
        return origin.name

    def links(self, origin: Origin) -> tuple[tuple[str, Path], ...]:
        """Under which names an input's files are seen, and where they really are."""
        if isinstance(origin, Given):
            return tuple(zip(names_of(origin.name, self.given[origin.sha256]), self.given[origin.sha256], strict=True))
        return ((origin.name, self.find(origin)),)

    def find(self, origin: Origin) -> Path:
        """Where an input really is."""
        if isinstance(origin, Given):
            return self.given[origin.sha256][0]
        return self.entries[origin.key].path(origin.name)

    def result(self, made: Made, name: str, kind: type[T]) -> T:
        """A part of an earlier step's result, of that type."""
        return from_json(kind, self.entries[made.key].result[name])

    def read(self, made: Made, kind: type[T]) -> T:
        """An earlier step's result, as far as this dataclass has its fields."""
        return from_json(kind, self.entries[made.key].result)

    def sha256(self, made: Made) -> str:
        """Content hash of a file that an earlier step made."""
        return str(self.entries[made.key].outputs[made.name]["sha256"])

    def pieces(self, key: str = "") -> Pieces:
        """Finished pieces of this step's measurements, or of another step's; they outlive a killed run."""
        return Pieces((self.pieces_folder or self.folder) / f"{(key or self.key)[:24]}.jsonl")

    def stock_mixes(self, base: Origin, imatrix: Origin) -> OfFtype:
        """The stock mix of any ftype for a base, with its importance matrix."""
        header, model, matrix = read_header(self.find(base)), self.place(base), self.place(imatrix)
        return lambda ftype: stock_mix(self.toolchain, header, ftype, cwd=self.folder, model=model, imatrix=matrix)

    def values_folder(self, key: str) -> Path:
        """Where Gram matrices of that step, and tensors compensated with them, are kept between runs."""
        folder = (self.pieces_folder or self.folder) / f"{key[:24]}.values"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def compensated(self, ggml: Ggml, header: GgufHeader, key: str, imatrix: Path, grams: Grams) -> Compensated:
        """The tensors of a model with compensated values.

        Args:
            key: of the step that collected the Gram matrices.
            imatrix: its importance matrix; no other, since what is kept belongs to both.
        """
        importance = importance_rows(read_imatrix(imatrix).entries, header.tensors)
        return Compensated(ggml, header, grams, importance, self.values_folder(key), self.n_threads)

    def compensated_by(self, made: Made, ggml: Ggml, header: GgufHeader) -> Compensated:
        """The same by what a finished step collected."""
        entry = self.entries[made.key]
        files = (entry.path(f) for f in self.result(made, "files", tuple[str, ...]))
        grams = Grams(files, self.result(made, "readers", tuple[Reader, ...]))
        return self.compensated(ggml, header, made.key, entry.path(self.result(made, "imatrix_file", str)), grams)

    def counted(self, most: int) -> Callable[[], None]:
        """Tells of one more thing done each time it is called, up to ``most``."""
        done = iter(range(1, most + 1))
        return lambda: self.progress(next(done, most), most)

    def ran(self, run: ToolRun) -> None:
        """Keep the command and the time of a tool's run."""
        self.commands.append(with_threads(run.argv, self.told_threads) if self.told_threads else run.argv)
        self.tool_seconds += run.seconds
        self.peak_bytes = max(self.peak_bytes, run.peak_bytes)


class StepModule(Protocol[I, R]):
    """The shape of a module in ``lwq.steps``."""

    __name__: str
    NAME: str
    VERSION: int
    USES_TOOLS: bool
    IN_PROCESS: bool
    Inputs: type[I]
    Result: type[R]

    def run(self, inputs: I, ctx: Context) -> R: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[I, R]):
    """One unit of work in a plan: a module and its inputs."""

    title: tuple[str, ...]
    """What a user sees of it: what is done, then of which row, on which text, …"""
    module: StepModule[I, R]
    inputs: I
    key_value: Mapping[str, Any]
    key: str

    @property
    def label(self) -> str:
        """``evaluate:Q4_K_M:selection``."""
        return ":".join(self.title)

    def output(self, name: str = "") -> Made:
        """An output of this step as another step's input; its result where no file is named."""
        return Made(step=self.module.NAME, key=self.key, name=name)

    def result_of(self, entry: Entry) -> R:
        """The typed result that an entry of this step holds."""
        return from_json(self.module.Result, entry.result)


def names_of(name: str, paths: Sequence[Path]) -> tuple[str, ...]:
    """The public names of a given file, or of all shards of which ``name`` is the first's."""
    return tuple(path.name for path in shard_paths(Path(name))) if len(paths) > 1 else (name,)


def file_facts(header: GgufHeader) -> FileFacts:
    """Sizes, types and classes of a GGUF."""
    return FileFacts(
        file_bytes=header.file_bytes,
        architecture=header.architecture,
        n_layer=header.n_layer,
        n_params=header.n_params,
        bpw=bits_per_weight(header.tensors),
        types=shares(header.tensors, lambda t: t.ggml_type),
        classes=shares(header.tensors, lambda t: t.tensor_class),
    )


def to_json(value: Any) -> Any:
    """A frozen dataclass as JSON values."""
    return _plain(dataclasses.asdict(value))


def from_json(kind: type[T], value: Any) -> T:
    """JSON values as the type that ``to_json`` made them of; unknown shapes raise."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    return value
