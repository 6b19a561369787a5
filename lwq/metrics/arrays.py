"""Arrays that packages hand each other, by what one value in them is."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
"""Weights, activations, logits."""
Doubles: TypeAlias = NDArray[np.float64]
"""What is summed or solved for."""
Bytes: TypeAlias = NDArray[np.uint8]
"""Tensors as stored."""
Tokens: TypeAlias = NDArray[np.int32]
"""Windows of a text: (windows, n_ctx), or one of them."""
