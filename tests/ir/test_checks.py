"""Rules between the fields of an op that its types do not say."""

import pytest

from archc.ir.ops.attention import Attention, Rope, RopeScaling


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        (Rope(theta=1.0), "`theta` must be above 1: got 1"),
        (
            Rope(scaling=RopeScaling(kind="llama3", factor=8.0, original_context=64, high_freq_factor=1.0)),
            "`low_freq_factor` must be below `high_freq_factor`: got 1 and 1",
        ),
    ],
)
def test_rope_that_would_divide_by_zero_is_refused(rope: Rope, message: str) -> None:
    assert [told for _, told, _ in Attention.check(Attention.Fields(n_heads=2, head_dim=4, rope=rope))] == [message]
