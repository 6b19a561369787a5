"""What the recipe and the model's own metadata say for the card, and what a reader must know of the model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix, unreached_experts
from lwq.gguf.usable import cautions
from lwq.plan.finished import Run
from lwq.plan.logo import public_name
from lwq.recipe.schema import Recipe, domain_role
from lwq.record.calibrated import ExpertCoverage
from lwq.record.card_facts import CardFacts
from lwq.record.hub_terms import repository_of, stated_languages, stated_licence
from lwq.record.record import Domain
from lwq.steps import convert
from lwq.store.files import human_bytes


def cautions_of(run: Run, base: convert.Result) -> Iterator[str]:
    """What a reader must know of the model, and what of its own metadata is not on the card."""
    file, general = run.plan.convert.inputs.file, dict(base.general)
    yield from cautions(
        read_header(run.entry(run.plan.convert).path(file)), (t.n_ctx for t in run.recipe.texts().values())
    )
    yield from _further(run)
    card = run.recipe.card
    if not card.languages and (strange := stated_languages(general.get("languages", ()))[1]):
        yield f"The model's metadata names languages that are no ISO 639 codes, left out here: {', '.join(strange)}."
    if several := _licence(run, base)[1]:
        yield f"The model's metadata names several licences ({', '.join(several)}); none is stated here."
    yield from _unreached(run)
    strange = tuple(r for r in general.get("base_model.0.repo_url", ()) if not repository_of(r))
    if not card.base_model and strange:
        yield f"The model's metadata names a base model that is not on the Hub: {strange[0]}."


def _further(run: Run) -> Iterator[str]:
    """What blocks of further tokens take of each file that was made."""
    made = [own.quantize for row in run.plan.rows if (own := row.own)]
    headers = [read_header(run.entry(step).path(step.inputs.file)) for step in made]
    if not any(header.tensors_nextn for header in headers):
        return
    sizes = (f"{human_bytes(sum(t.n_bytes for t in h.tensors_nextn))} of {h.path.name}" for h in headers)
    n = len(headers[0].tensors_nextn)
    yield f'{n} tensors of each file predict further tokens: {", ".join(sizes)}. mtp = "drop" leaves them out.'


def domains_of(recipe: Recipe) -> tuple[Domain, ...]:
    """What its texts of evaluation are examples of; none where there is one text alone."""
    texts = (("evaluation", recipe.evaluation), *((domain_role(t.domain), t) for t in recipe.domains))
    found = tuple(Domain(name=text.domain, role=role, weight=text.weight) for role, text in texts)
    return found if len(found) > 1 else ()


def card_facts(run: Run, base: convert.Result) -> CardFacts:
    """The recipe's facts; what it leaves out, from the model's metadata."""
    card, general = run.recipe.card, dict(base.general)
    found = map(repository_of, (*_repository(run), *general.get("base_model.0.repo_url", ())))
    return CardFacts(
        title=card.title or f"{run.sources.model.name} GGUF",
        author=card.author,
        licence=_licence(run, base)[0],
        base_model=card.base_model or tuple(filter(None, found))[:1],
        languages=card.languages or stated_languages(general.get("languages", ()))[0],
        tags=card.tags,
        description=card.description,
        notes=card.notes,
        credits=card.credits,
        footer=card.footer,
        logo=public_name(run.logo) if run.logo else "",
        repository=card.repository,
    )


def _licence(run: Run, base: convert.Result) -> tuple[str, tuple[str, ...]]:
    """(the licence, several named in its place): the recipe's, else that of where the model is from, else its own."""
    of_source = run.sources.model.licence
    if named := run.recipe.card.licence:
        return named, ()
    return stated_licence((of_source,) if of_source else dict(base.general).get("license", ()))


def _repository(run: Run) -> tuple[str, ...]:
    """The original's own repository on the Hub, where it was fetched as that."""
    model = run.sources.model
    named = _ON_HUB.fullmatch(model.fetched.label) if model.kind == "hf-folder" else None
    return (named[1],) if named else ()


_ON_HUB: Final = re.compile(r"hf://([^/@]+/[^/@]+)(?:@.+)?")


def _coverage(found: ExpertCoverage) -> str:
    """How far calibration went for the experts, and what it reached."""
    went = f"{found.n_chunks} windows"
    if found.n_chunks > found.n_first_chunks:
        went = f"{found.n_first_chunks} windows and then {found.n_chunks - found.n_first_chunks} more"
    if not found.n_below:
        return (
            f"Calibration used {went}: each of {found.n_experts:,} experts saw at least {found.wanted_tokens:,} tokens"
            f" (the least {found.least_tokens:,})."
        )
    return (
        f"Calibration used {went}, all that the text gives: {found.n_below:,} of {found.n_experts:,} experts saw fewer"
        f" than the {found.wanted_tokens:,} tokens asked for (the least {found.least_tokens:,})."
    )


def _unreached(run: Run) -> Iterator[str]:
    """Experts that the calibration text never reached, so that nothing guides their rounding."""
    if run.plan.imatrix is None:
        return
    if (experts := run.result(run.plan.imatrix).experts) and experts.wanted_tokens:
        yield _coverage(experts)
    entries = read_imatrix(run.entry(run.plan.imatrix).path(run.result(run.plan.imatrix).file)).entries
    if told := unreached_experts(entries):
        yield f"{told} They are quantized without importance data; a longer or more varied text reaches more."
