"""The card's YAML front matter, as the Hugging Face Hub reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from lwq.metrics.values import Estimate
from lwq.record.hub_terms import REPOSITORY, licence_of, stated_languages
from lwq.record.record import Record, Row, TextFacts
from lwq.report.choices import offered
from lwq.report.rows import alike, text_of

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_DATASET: Final = re.compile(r"hf://datasets/([^/@\s]+/[^/@\s]+)")


def front_matter(record: Record) -> str:
    """YAML without its fences: base model, licence, languages, tags and the scores as a model-index."""
    from huggingface_hub import ModelCardData

    card = record.card
    base_model = [name for name in card.base_model if REPOSITORY.fullmatch(name)]
    results = list(_results(record))
    data = ModelCardData(
        base_model=base_model or None,
        base_model_relation="quantized" if base_model else None,
        datasets=_datasets(record) or None,
        language=list(stated_languages(card.languages)[0]) or None,
        pipeline_tag="text-generation",
        library_name="gguf",
        quantized_by=card.author or None,
        tags=tags(record),
        model_name=record.model.name,
        eval_results=results or None,
    )
    for key, value in _licence(card.licence).items():
        data[key] = value
    return data.to_yaml(line_break="\n")


def tags(record: Record) -> list[str]:
    """What is true of our files, then the recipe's own tags; each once."""
    ours = [row for row in record.rows if row.origin == "ours"]
    true = {
        "gguf": True,
        "quantized": True,
        "imatrix": any(row.uses_imatrix for row in ours),
        "pruned": any(row.pruned_layers for row in ours),
    }
    return list(dict.fromkeys([tag for tag, holds in true.items() if holds] + list(record.card.tags)))


def _licence(stated: str) -> dict[str, str]:
    """The Hub knows a fixed list of identifiers; any other licence is ``other`` with its name."""
    if known := licence_of(stated):
        return {"license": known}
    slug = re.sub(r"[^a-z0-9.]+", "-", stated.lower())[:96].strip("-.")
    return {"license": "other", "license_name": slug} if slug else {"license": "unknown"}


def _datasets(record: Record) -> list[str]:
    matches = (_DATASET.match(text.source) for text in record.texts)
    return list(dict.fromkeys(match[1] for match in matches if match))


def _results(record: Record) -> Iterator[EvalResult]:
    """Scores of the files that are kept and comparable with the first row.

    Never a third party's, nor those of files without some layers, which are other models.
    """
    groups = alike(record.rows)
    text, kept = text_of(record, "evaluation"), offered(record)
    for row in groups[0] if groups else ():
        if row in kept and not row.pruned_layers:
            if text is not None:
                yield from _damage_results(row, text)
            yield from _task_results(row, {s.name for s in record.task_sets if s.cloze})


def _damage_results(row: Row, text: TextFacts) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    damage = row.evaluation
    dataset = _DATASET.match(text.source)
    for kind, name, value in (
        ("perplexity", "perplexity", damage.ppl),
        ("kl_divergence", "mean KL divergence against the base, nats", damage.kld),
    ):
        yield EvalResult(
            task_type="text-generation",
            dataset_type=dataset[1] if dataset else "custom",
            dataset_name=text.source,
            metric_type=kind,
            metric_name=f"{row.name}: {name}",
            metric_value=_rounded(value, 6),
        )


def _task_results(row: Row, made_up: set[str]) -> Iterator[EvalResult]:
    """Scores on task sets, those that lwq made up left out: they are no benchmark of anybody."""
    from huggingface_hub import EvalResult

    for task in (task for task in row.tasks if task.name not in made_up):
        yield EvalResult(
            task_type="text-generation",
            dataset_type=re.sub(r"[^a-z0-9]+", "-", task.name.lower()).strip("-") or "custom",
            dataset_name=task.name,
            dataset_args={"n_items": task.n_items},
            metric_type="accuracy",
            metric_name=f"{row.name}: accuracy",
            metric_value=_rounded(task.score, 4),
        )


def _rounded(measured: Estimate, decimals: int) -> float:
    return round(measured.value, decimals) + 0.0
