"""The steps that files are made from: base, importance matrix, sensitivity, of the whole model or a pruned base."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lwq.gguf.types import type_bpw
from lwq.plan.plan import ConvertStep, CutStep, ImatrixStep, Line, Steps
from lwq.plan.sources import Sources
from lwq.recipe.constraints import TYPE_SETS
from lwq.recipe.schema import Recipe
from lwq.steps import convert, grams, imatrix, sensitivity
from lwq.steps.step import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Adds the steps of lines of one recipe."""

    recipe: Recipe
    sources: Sources
    steps: Steps

    def convert(self) -> ConvertStep:
        """The original as one 16-bit GGUF."""
        model = self.sources.model
        file = f"{model.name}-{self.recipe.base_type.upper()}.gguf"
        inputs = convert.Inputs(
            source=model.fetched.given,
            kind=model.kind,
            base_type=self.recipe.base_type,
            file=file,
            mtp=self.recipe.mtp,
        )
        return self.steps.add(convert, inputs)

    def whole(self, base: Made) -> Line:
        """The line of the whole model, without its sensitivity."""
        return Line(about=(), base=base, cut=None, imatrix=self._imatrix(base))

    def pruned(self, step: CutStep, *, budget: bool) -> Line:
        """The line of a pruned base; with its sensitivity where a budget asks for it."""
        base, about = step.output(step.inputs.file), step.title[1:]
        line = Line(about=about, base=base, cut=step, imatrix=self._imatrix(base, *about))
        return self.with_sensitivity(line) if budget else line

    def with_grams(self, line: Line) -> Line:
        """The line with Gram matrices of what enters its multiplications."""
        texts, text = self.sources.texts, self.recipe.calibration
        inputs = grams.Inputs(
            base=line.base,
            imatrix=line.probed if line.sensitivity else line.matrix,
            text=texts["calibration"].given,
            n_ctx=text.n_ctx,
            n_windows=self.recipe.sensitivity.n_gram_windows,
            held=texts["selection" if self.recipe.selection else "evaluation"].given,
            types=self._types() if line.sensitivity else (),
        )
        return replace(line, grams=self.steps.add(grams, inputs, *line.about))

    def _types(self) -> tuple[str, ...]:
        """What budgets may use."""
        asked = {q for t in self.recipe.targets if t.wanted() for q in t.types} or set(TYPE_SETS["all"])
        return tuple(sorted(asked, key=lambda q: (type_bpw(q), q)))

    def with_sensitivity(self, line: Line) -> Line:
        """The line with its sensitivity measured."""
        text = self.recipe.calibration
        inputs = sensitivity.Inputs(
            base=line.base,
            imatrix=line.matrix,
            text=self.sources.texts["calibration"].given,
            n_ctx=text.n_ctx,
            n_windows=self.recipe.sensitivity.n_windows,
            types=self._types(),
            probes=self.recipe.sensitivity.probes,
            minutes=self.recipe.sensitivity.minutes,
        )
        return replace(line, sensitivity=self.steps.add(sensitivity, inputs, *line.about))

    def _imatrix(self, base: Made, *about: str) -> ImatrixStep:
        text = self.recipe.calibration
        inputs = imatrix.Inputs(
            base=base,
            text=self.sources.texts["calibration"].given,
            n_ctx=text.n_ctx,
            n_chunks=text.n_chunks,
            process_output=self.recipe.process_output,
            min_expert_tokens=text.min_expert_tokens,
        )
        return self.steps.add(imatrix, inputs, *about)
