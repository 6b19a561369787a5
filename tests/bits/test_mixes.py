"""Small windows keep half of their tokens scored."""

from __future__ import annotations

import pytest

from lwq.bits.mixes import probed

pytestmark = pytest.mark.tools


@pytest.mark.parametrize(("n_ctx", "n_skipped"), [(32, 16), (64, 32), (128, 64), (512, 64)])
def test_small_windows_keep_half_of_their_tokens_scored(n_ctx: int, n_skipped: int) -> None:
    assert list(probed(n_ctx)) == list(range(n_skipped, n_ctx - 1, 2))
