"""What a recipe needs from outside, fetched and hashed: the model, the texts, other people's files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, combinations, count
from pathlib import Path
from typing import Final, Literal, TypeVar

from lwq.errors import DownloadError, FileError, LwqError, ModelError, RefusedError
from lwq.gguf.header import read_header, whole_name
from lwq.gguf.types import FTYPES
from lwq.gguf.usable import check_usable
from lwq.plan.chat import Render, chat_template
from lwq.plan.disjoint import overlap
from lwq.plan.given import NOT_READ, Fetched, HashOf, fetched_model
from lwq.plan.hub import Source, TextOf, fetch_model, fetch_text
from lwq.plan.mixture import mixed
from lwq.recipe.schema import Recipe, Task, ThirdParty, split_cloze
from lwq.recipe.text import Text
from lwq.steps.step import Given
from lwq.store.files import known_sha256, os_errors, sha256_file
from lwq.store.names import folded
from lwq.tasks.files import kind_of, usable_items
from lwq.tasks.items import Kind

T = TypeVar("T")
OnNote = Callable[[str], None]
_LARGE_BYTES: Final = 1 << 30
_OF_VALUES: Final = (".gguf", ".GGUF", ".safetensors", ".bin", ".pt", ".pth")
_DISJOINT: Final = "calibration, selection and evaluation must be disjoint: what was fitted on must not be scored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The original model."""

    kind: Literal["gguf", "hf-folder"]
    fetched: Fetched
    name: str
    """Stem for file names."""
    licence: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Everything given, checked as far as possible without a tool."""

    model: Model
    texts: dict[str, Fetched]
    third_party: dict[str, Fetched]
    tasks: dict[str, tuple[Fetched, ...]]

    def given(self) -> dict[str, tuple[Path, ...]]:
        """Paths by content hash."""
        sets = (file for files in self.tasks.values() for file in files)
        everything = (self.model.fetched, *self.texts.values(), *self.third_party.values(), *sets)
        return {fetched.given.sha256: fetched.paths for fetched in everything}

    def unread(self) -> frozenset[str]:
        """What stands for the hashes of models that were only looked at: keys that hold them are of this plan alone."""
        return frozenset(sha256 for sha256 in self.given() if sha256.startswith(NOT_READ))

    def to_fetch_bytes(self) -> int:
        """Of models that were only looked at, and that a run fetches first."""
        models = {f.label: f for f in (self.model.fetched, *self.third_party.values())}
        return sum(model.to_fetch_bytes for model in models.values())


def fetch(recipe: Recipe, folder: Path, home: Path, on_note: OnNote, *, look: bool = False) -> Sources:
    """All sources of a recipe whose paths start at ``folder``.

    Args:
        look: models that were never hashed are not read for it. That is enough for a plan, which needs hashes only to
            say what is done: of such a model nothing can be in the cache. Of models on the Hub headers are fetched.

    Raises:
        LwqError: the one thing that is wrong, or a list of all that are.
    """
    folder, memo = folder.absolute(), home / "hashes.sqlite"
    hash_of = partial(_known, memo) if look else partial(_hash, memo, on_note)
    faults: list[LwqError] = []

    def attempt(what: Callable[[], T]) -> T | None:
        try:
            return what()
        except LwqError as error:
            faults.append(error)
            return None

    model_of = partial(fetch_model, recipe_dir=folder, home=home, on_progress=on_note, look=look)
    text_of = partial(fetch_text, recipe_dir=folder, home=home, look=look)
    source = attempt(partial(_source, recipe, model_of))
    texts = {r: attempt(partial(_text, r, t, text_of, home, source)) for r, t in recipe.texts().items()}
    others = {t.name: attempt(partial(_other, t, model_of, hash_of)) for t in recipe.third_party}
    tasks = {t.name: attempt(partial(_task, t, text_of)) for t in recipe.tasks}
    attempt(lambda: _check_disjoint({role: text for role, text in texts.items() if text}))
    if faults:
        raise _joined(faults)
    assert source is not None
    model = _model(source, recipe, hash_of)
    return Sources(
        model=model,
        texts={r: f for r, f in texts.items() if f},
        third_party=_named({n: f for n, f in others.items() if f}, model, recipe),
        tasks={n: f for n, f in tasks.items() if f},
    )


def look_at(path: Path) -> Source:
    """The source of a local model; raises ModelError where it is none that can be measured."""
    source = fetch_model(str(path.absolute()), recipe_dir=path.parent, home=Path(), on_progress=lambda _: None)
    if source.kind == "gguf":
        check_usable(read_header(source.files[0]))
    return source


def _joined(faults: list[LwqError]) -> LwqError:
    if len(faults) == 1:
        return faults[0]
    lines = "\n".join(f"  {fault.message}" + (f" ({fault.hint})" if fault.hint else "") for fault in faults)
    kind: type[LwqError] = FileError
    if all(isinstance(fault, DownloadError) for fault in faults):
        kind = RefusedError if any(isinstance(fault, RefusedError) for fault in faults) else DownloadError
    return kind(f"{len(faults)} things are missing or wrong:\n{lines}")


def _source(recipe: Recipe, model_of: Callable[[str], Source]) -> Source:
    """The model's files; a GGUF's header is whole, and of a model that can be measured."""
    source = model_of(recipe.model)
    if source.kind == "gguf":
        check_usable(read_header(source.files[0]))
    return source


def _hash(memo: Path, on_note: OnNote, path: Path) -> str:
    if path.stat().st_size > _LARGE_BYTES and not known_sha256(path, memo):
        on_note(f"hashing {path.name}")
    return sha256_file(path, memo=memo)


def _known(memo: Path, path: Path) -> str:
    """The hash that is known of a file, or what stands for it; no values of a model are read."""
    if path.suffix not in _OF_VALUES:
        return sha256_file(path, memo=memo)
    return known_sha256(path, memo) or f"{NOT_READ}{path.resolve()}"


def _model(source: Source, recipe: Recipe, hash_of: HashOf) -> Model:
    name = recipe.model_name or _stem(source)
    fetched = fetched_model(source, hash_of)
    return Model(kind=source.kind, fetched=fetched, name=name, licence=source.licence)


def _stem(source: Source) -> str:
    """``SmolLM2-135M-Instruct.Q4_1.gguf`` → ``SmolLM2-135M-Instruct``: no shard number, no type label."""
    name = source.name
    if source.kind == "hf-folder":
        return name
    name = whole_name(name)
    head, _, label = name.replace("-", ".").rpartition(".")
    return name[: len(head)] if label.upper() in FTYPES and head else name


def _other(other: ThirdParty, model_of: Callable[[str], Source], hash_of: HashOf) -> Fetched:
    source = model_of(other.model)
    if source.kind != "gguf":
        raise FileError(f"third_party {other.name}: {other.model} is no GGUF", hint="name a .gguf file")
    files = tuple(shard.path for shard in read_header(source.files[0]).shards)
    return fetched_model(replace(source, files=files), hash_of)


def _named(others: dict[str, Fetched], model: Model, recipe: Recipe) -> dict[str, Fetched]:
    """Other people's files under names that are neither each other's nor those of files that the recipe makes."""
    made = (recipe.base_type.upper(), *(t.name for t in recipe.targets))
    taken = {*(f"{model.name}-{name}.gguf" for name in made)}
    if model.fetched.given.sha256 not in {other.given.sha256 for other in others.values()}:
        taken.add(model.fetched.given.name)
    named = {}
    for row, other in others.items():
        n = len(other.paths)
        own = f"{row}-00001-of-{n:05}.gguf" if n > 1 else f"{row}.gguf"
        name = _unlike(other.given.name, (own, f"{row}-{other.given.name}"), taken)
        named[row] = replace(other, given=replace(other.given, name=name))
        taken.add(name)
    return named


def _text(role: str, text: Text, text_of: TextOf, home: Path, source: Source | None) -> Fetched:
    parts, seed = text.drawn()
    if parts:
        path, label = mixed(parts, seed, text_of=text_of, home=home, template=partial(_template, source))
    else:
        path, label = text_of(text.text)
    with os_errors("read the text", path):
        raw = path.read_bytes()
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{role} text {path}: is not UTF-8: {error}", hint="convert it, `iconv -t UTF-8`") from None
    if not decoded.strip():
        raise FileError(f"{role} text {path}: is empty", hint="give a text of at least two windows")
    need = 2 * text.n_ctx if text.n_chunks is None else max(2, text.n_chunks) * text.n_ctx
    if len(raw) < need:
        raise FileError(
            f"{role} text {path}: has {len(raw):,} bytes, so at most as many tokens; {need:,} tokens are needed",
            hint="give a longer text, or lower n_ctx or n_chunks",
        )
    given = Given(sha256=hashlib.sha256(raw).hexdigest(), name=f"{role.replace(':', '-')}.txt")
    return Fetched(given=given, paths=(path,), label=label)


def _template(source: Source | None) -> Render:
    if source is None:
        raise ModelError("chats need the model's chat template, and the model is not here", hint="see above")
    return chat_template(source)


def _task(task: Task, text_of: TextOf) -> tuple[Fetched, ...]:
    """The files of a task set, read once to find their faults; their names differ."""
    files, items = list[Fetched](), 0
    for reference in task.file:
        cloze, text = split_cloze(reference)
        path, label = text_of(text, folders=not cloze)
        with os_errors("read the task data", path):
            digest = _digest(path)
        if alike := next((f for f in files if f.given.sha256 == digest), None):
            raise FileError(f"task set {task.name}: {label} and {alike.label} are the same", hint="name each file once")
        name = _unlike(path.name, (f"{path.parent.name}-{path.name}",), {f.given.name for f in files})
        files.append(Fetched(given=Given(sha256=digest, name=name), paths=(path,), label=label))
        kind = task.kind or kind_of(task.name)
        items += task.n_items if cloze else _n_items(path, task, kind)
    if items < task.n_items:
        hint = f"set n_items = {items}, or give more data"
        raise FileError(f"task set {task.name}: has {items} items, {task.n_items} are wanted", hint=hint)
    return tuple(files)


def _unlike(name: str, others: tuple[str, ...], taken: Collection[str]) -> str:
    """The name, or the first of the others that is not taken yet, or one with a number."""
    numbered = (f"{n}-{name}" for n in count(2))
    files = set(map(folded, taken))
    return next(free for free in chain((name, *others), numbered) if folded(free) not in files)


def _n_items(path: Path, task: Task, kind: Kind) -> int:
    return len(usable_items(path, task.name, kind, task.columns or None, skip=task.faulty == "skip")[0])


def _digest(path: Path) -> str:
    """Content hash of a file, or of the list of a folder's files."""
    if path.is_file():
        return sha256_file(path)
    each = sorted((p.relative_to(path).as_posix(), sha256_file(p)) for p in path.rglob("*") if p.is_file())
    return hashlib.sha256(repr(each).encode()).hexdigest()


def _check_disjoint(texts: dict[str, Fetched]) -> None:
    for first, second in combinations(sorted(texts), 2):
        one, other = texts[first], texts[second]
        if one.given.sha256 == other.given.sha256:
            told = f"have the same content ({one.label}, {other.label})"
        else:
            told = overlap((one.paths[0], other.paths[0]), (one.label, other.label))
        if told:
            raise FileError(f"{first} and {second} text {told}", hint=_DISJOINT)
