"""How a reader starts a file: commands of the programs that people use, and the form of a prompt."""

from __future__ import annotations

import shlex
from typing import Final

from lwq.record.hub_terms import REPOSITORY, hub_label
from lwq.record.record import Record, Row
from lwq.report.choices import offered
from lwq.report.markdown import code, plain
from lwq.report.numerals import count, fixed

_N_CTX: Final = 8192


def example(record: Record) -> Row | None:
    """The file that commands are shown of: the largest whose types were chosen, else the closest to the original."""
    rows = offered(record)
    chosen = [row for row in rows if row.search]
    return chosen[-1] if chosen else min(rows, key=lambda r: r.evaluation.kld.value, default=None)


def introduction(record: Record, row: Row) -> str:
    """What the commands below do."""
    alike = fixed(100 * row.evaluation.same_top_p.value, 0)
    context = f" In {alike} of 100 places it ranks the original's next word first."
    trained = record.model.n_ctx_train
    context += f" The model was trained with {count(trained)} tokens of context." if trained else ""
    if not _repository(record):
        return (
            f"With [llama.cpp](https://github.com/ggml-org/llama.cpp) and {plain(row.file)} in this folder: a chat in"
            f" the terminal, and a server with a web page and an OpenAI-compatible API on port 8080.{context}"
        )
    others = "; the word behind the colon names the file" if _label(record, row) else ""
    return (
        f"Download {plain(row.file)}, or let [llama.cpp](https://github.com/ggml-org/llama.cpp) (a chat, or a server"
        f" with a web page and an OpenAI-compatible API on port 8080), Ollama or LM Studio fetch it{others}.{context}"
    )


def lines(record: Record, row: Row) -> str:
    """Commands that start a file, one a line."""
    repository, file, n_ctx = _repository(record), shlex.quote(row.file), _context(record)
    tower = record.projector
    if not repository:
        more = f" --mmproj {shlex.quote(tower.file)}" if tower else ""
        return f"llama-cli -m {file} -c {n_ctx}\nllama-server -m {file} -c {n_ctx}{more}"
    label = _label(record, row)
    which = f"-hf {repository}:{label}" if label else f"-hfr {repository} -hff {file}"
    of_ollama = f"hf.co/{repository}:{label or file}"
    of_studio = f"https://huggingface.co/{repository}" + (f"@{label}" if label else "")
    return "\n".join(
        (
            f"hf download {repository} {file} --local-dir .",
            f"llama-cli {which} -c {n_ctx}",
            f"llama-server {which} -c {n_ctx}",
            f"ollama run {of_ollama}",
            f"lms get {of_studio}",
        )
    )


def prompt(record: Record) -> str:
    """What stands before the form of a prompt."""
    return "The form of a prompt (these programs apply it themselves, from the chat template in the file):"


def same_labels(record: Record) -> tuple[str, ...]:
    """Files that people cannot ask for by the word that the Hub gives them."""
    rows = offered(record)
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        by_label.setdefault(hub_label(row.file), []).append(row)
    return tuple(_told(label, group) for label, group in by_label.items() if not label or len(group) > 1)


def _told(label: str, group: list[Row]) -> str:
    names = ", ".join(plain(row.file) for row in group)
    if not label:
        return f"The Hub reads no type off the name of {names}; a `name` like Q4_K_M_MINE gives it one."
    return f"The Hub gives {names} one label, {code(label)}: a `name` such as {label}_MINE tells them apart."


def _label(record: Record, row: Row) -> str:
    """The Hub's label of a file, where no other file that is offered has it."""
    label = hub_label(row.file)
    return label if [hub_label(other.file) for other in offered(record)].count(label) == 1 else ""


def _repository(record: Record) -> str:
    """Where the files are; empty where that is not said, or is no repository."""
    return record.card.repository if REPOSITORY.fullmatch(record.card.repository) else ""


def _context(record: Record) -> int:
    return min(_N_CTX, record.model.n_ctx_train or _N_CTX)
