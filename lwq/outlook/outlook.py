"""A plan and what is known of its model, its files and its texts before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lwq.gguf.header import read_header
from lwq.llama.devices import Device
from lwq.llama.requests import logits_bytes
from lwq.outlook.memory import Footprint
from lwq.outlook.shape import ModelShape
from lwq.plan.plan import AnyStep, Plan
from lwq.plan.preview import PlannedFile, repacked_bytes
from lwq.plan.sources import Sources
from lwq.steps import convert, quantize
from lwq.steps.step import Made, Origin

_TOKEN_BYTES: Final = 4
"""Of a text; only the model's tokenizer knows better."""
_LONGEST_TOKEN_BYTES: Final = 8
"""Longer ones are not the mean of any text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file that tools load."""

    n_bytes: int
    repacked: int = 0
    """Bytes of it that the CPU's kernels may want in another order."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A plan, and what is known of its model and its files before it runs."""

    plan: Plan
    sources: Sources
    shape: ModelShape
    files: tuple[PlannedFile, ...]
    room_bytes: int
    """What is kept to save time may take."""
    device: Device
    least: bool = False
    """Only what is sure to be needed, whatever is found on the way."""

    @cached_property
    def model(self) -> Footprint:
        room = 0 if self.least else self.room_bytes
        return Footprint(shape=self.shape, room_bytes=room, device=self.device, is_short=self.least)

    @cached_property
    def by_key(self) -> Mapping[str, AnyStep]:
        return {step.key: step for step in self.plan.steps}

    @cached_property
    def text_bytes(self) -> Mapping[str, int]:
        """Content hash → bytes of a text."""
        return {t.given.sha256: t.paths[0].stat().st_size for t in self.sources.texts.values()}

    def file(self, origin: Origin) -> ModelFile:
        """A model file as it will be."""
        if not isinstance(origin, Made):
            header = read_header(self.sources.given()[origin.sha256][0])
            return self._file(header.file_bytes, repacked_bytes(header.tensors))
        step = self.by_key[origin.key]
        if step.module.NAME == quantize.NAME:
            planned = self.target(step)
            return self._file(planned.file_bytes, planned.repacked_bytes)
        return ModelFile(n_bytes=self.shape.base_bytes)

    def _file(self, n_bytes: int, repacked: int) -> ModelFile:
        """Which kernels a CPU has is not asked, so nothing is sure to be repacked."""
        return ModelFile(n_bytes=n_bytes, repacked=0 if self.least else repacked)

    def target(self, step: AnyStep) -> PlannedFile:
        """The file of the target that a step works for."""
        return next(f for f in self.files if f.name == step.title[1])

    def n_windows(self, text: str, n_ctx: int, n_chunks: int | None) -> int:
        """Windows of a text (by its hash), at most."""
        token_bytes = _LONGEST_TOKEN_BYTES if self.least else _TOKEN_BYTES
        found = max(1, self.text_bytes[text] // token_bytes // n_ctx)
        return min(found, n_chunks) if n_chunks else found

    def collected_windows(self, text: str, n_ctx: int, n_chunks: int | None, min_expert_tokens: int) -> int:
        """Windows that an importance matrix may take: where experts are waited for, all of the text."""
        is_waiting = min_expert_tokens > 0 and self.shape.n_expert > 0
        return self.n_windows(text, n_ctx, n_chunks if self.least or not is_waiting else None)

    def scored_windows(self, made: Made) -> int:
        """Windows of a baseline."""
        inputs = self.by_key[made.key].inputs
        n, n_vocab = self.n_windows(inputs.text.sha256, inputs.n_ctx, inputs.n_chunks), self.shape.n_vocab
        if not inputs.max_bytes:
            return n
        each = logits_bytes(n_vocab, inputs.n_ctx, 1)
        return max(1, min(n, int(inputs.max_bytes) // each))

    def stored(self, made: Made) -> int:
        """Bytes of a baseline's log-probabilities."""
        n_ctx = int(self.by_key[made.key].inputs.n_ctx)
        return logits_bytes(self.shape.n_vocab, n_ctx, self.scored_windows(made))

    def n_gone(self, counts: tuple[int, ...], layers: tuple[int, ...]) -> int:
        """Layers that are left out at once, at most."""
        found = self.plan.prune.inputs.n_layers if self.plan.prune else 0
        return len(layers) or max(counts, default=found)

    def drops(self, inputs: convert.Inputs) -> bool:
        """Whether blocks are left out of the base; of a folder only the converter knows whether it has some."""
        if inputs.mtp == "keep":
            return False
        return inputs.kind == "hf-folder" or read_header(self.sources.model.fetched.paths[0]).n_layer_nextn > 0

    def is_base(self, base_type: str) -> bool:
        """Whether the original is its own base, which is then linked."""
        header = self.shape.header
        types = {t.ggml_type for t in header.tensors}
        return types <= {base_type, "f32"} and base_type in types and len(header.shards) == 1
