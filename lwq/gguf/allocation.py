"""An allocation: the ggml type of every tensor of a file, and the layers left out of it."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.gguf.types import anchored


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Types by tensor, under the names that the tensors have in the written file."""

    ftype: str
    """The mixture it starts from; it becomes ``general.file_type``."""
    types: tuple[tuple[str, str], ...]
    """(tensor, ggml type) of all tensors, in file order."""
    quantizable: tuple[str, ...]
    """The tensors that llama-quantize may convert; the others keep their type."""
    pruned_layers: tuple[int, ...]
    """In the numbers of the original model."""
    n_fallback: int
    """Tensors whose rows did not allow the type of the mix."""

    def lines(self) -> str:
        """The ``--tensor-type-file``: one anchored entry for each quantizable tensor."""
        chosen = dict(self.types)
        return "".join(f"{anchored(name)}={chosen[name]}\n" for name in self.quantizable)
