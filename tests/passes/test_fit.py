"""fit: the largest model of a share that a budget allows."""

from __future__ import annotations

import pytest

from archc.kernels.errors import PassError
from archc.passes import Context, apply
from archc.passes.fit import SHARES, Fit
from archc.resolve import load


@pytest.mark.parametrize("limit", [900_000, 1_500_000, 2_400_000])
def test_one_more_step_would_be_too_much(limit: int) -> None:
    graph, one = load("tiny-hybrid"), Fit(params=limit, dims=("d_model", "d_ff"), multiples=(4, 8), by="first")
    made, weights = apply(graph, one)
    assert made.cost().params.total <= limit
    assert weights.shapes(graph.weight_shapes()) == made.weight_shapes()
    for node in made.nodes:
        assert all(d.size % 8 == 0 for role, d in node.op.dims.items() if role == "d_ff")
    prunes = one.prunes(graph)
    shares = {p.keep for p in prunes}
    assert len(shares) == 1
    (share,) = shares
    more = graph
    for p in one.at(share + 1 / SHARES, "first"):
        more = p.apply(more, Context())[0]
    assert more.cost().params.total > limit


def test_what_fits_stays() -> None:
    graph = load("tiny-hybrid")
    assert apply(graph, "fit{params=1000000000, dims=(d_model)}")[0] == graph


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fit{dims=(d_model)}", "give one of `params` and `active`"),
        ("fit{params=10, dims=(d_ff), by=first}", "cannot be that small: the least of these dims is"),
        ("fit{params=10, dims=(d_f), by=first}", "unknown dim of `tiny-hybrid` `d_f`"),
        ("fit{params=10, dims=(d_ff), multiples=(1, 2)}", "`multiples` are one for each of `dims`: got 2 and 1"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(PassError) as raised:
        apply(load("tiny-hybrid"), text)
    assert message in str(raised.value)
