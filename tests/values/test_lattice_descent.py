"""Moves of lattice types lower the loss and keep account of it."""

from __future__ import annotations

import numpy as np
import pytest

from lwq.engine.ggml import Ggml
from lwq.values.forms import Points
from lwq.values.lattices import LATTICES, point_values, pointed

pytestmark = pytest.mark.tools


@pytest.mark.parametrize("ggml_type", LATTICES)
def test_a_sweep_lowers_the_loss_of_every_row_and_keeps_account_of_it(ggml: Ggml, ggml_type: str) -> None:
    rng = np.random.default_rng(4)
    tokens = rng.standard_normal((700, 256)) @ rng.standard_normal((256, 256)) / 16
    h = (tokens.T @ tokens / 700).astype(np.float32)
    w = rng.standard_normal((6, 256)).astype(np.float32)
    rows = pointed(ggml.quantize(w, ggml_type, np.diagonal(h).copy()), ggml_type)
    q = point_values(rows, ggml_type)
    g = (w - q) @ h

    def losses(q: np.ndarray) -> np.ndarray:
        left = (w - q).astype(np.float64)
        return np.asarray(((left @ h) * left).sum(axis=1))

    form, before = Points(ggml_type), losses(q)
    assert form.descend(g, h, q, rows) > 0
    assert (losses(q) < 0.95 * before).all()
    assert np.array_equal(q, form.values(rows))
    assert np.abs(g - (w - q) @ h).max() < 1e-4 * np.abs(g).max() + 1e-4
    assert np.array_equal(form.values(form.read(form.write(rows))), q)


@pytest.mark.parametrize("ggml_type", LATTICES)
def test_weights_on_the_lattice_stay_where_they_are(ggml: Ggml, ggml_type: str) -> None:
    rng = np.random.default_rng(5)
    w = rng.standard_normal((4, 256)).astype(np.float32)
    data = ggml.quantize(w, ggml_type, np.ones(256, np.float32))
    rows = pointed(data, ggml_type)
    q = point_values(rows, ggml_type)
    form = Points(ggml_type)
    assert form.descend(np.zeros_like(q), np.eye(256, dtype=np.float32), q, rows) == 0
    assert np.array_equal(form.write(rows), data)
