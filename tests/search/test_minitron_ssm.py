"""Known answers: the candidates of Minitron-SSM's Table 1 (2504.11409) in the space of its example.

What is ranked is archc's estimate on an H100. The paper's own speeds are not in it: nothing here claims to match them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import archc
from archc.ir.graph import LAYERS, Graph
from archc.search.budgets import violations
from archc.search.choices import Points
from archc.search.figures import Figure, Meter
from archc.searching.file import SearchFile, load_search

FILE = Path(__file__).resolve().parents[2] / "examples" / "search" / "minitron-ssm.yaml"

# Number in Table 1: layers, d_model, d_ff, Mamba heads, channels of a head.
TABLE_1: Mapping[int, tuple[int, int, int, int, int]] = {
    1: (52, 3072, 12288, 112, 64), 2: (52, 3072, 10752, 128, 64), 3: (52, 3328, 9984, 112, 64),
    4: (52, 3072, 12288, 112, 60), 5: (52, 3072, 12288, 120, 56), 6: (52, 3072, 13056, 112, 56),
    7: (44, 3072, 14592, 128, 64), 8: (44, 3584, 10752, 120, 64), 9: (52, 3072, 11520, 112, 64),
    10: (52, 3072, 13056, 96, 64), 11: (52, 3072, 13824, 128, 48), 12: (52, 3072, 12288, 104, 62),
    13: (52, 3072, 13056, 104, 60), 14: (52, 3072, 13056, 96, 62), 15: (52, 3072, 14592, 96, 56),
    16: (48, 3072, 12288, 128, 64), 17: (48, 3328, 9984, 128, 64), 18: (52, 3072, 13824, 96, 58),
    19: (52, 3072, 11520, 128, 56), 20: (44, 3328, 11648, 128, 64), 21: (48, 3072, 13824, 112, 64),
    22: (48, 3328, 11648, 112, 64), 23: (52, 3072, 16128, 64, 64), 24: (26, 4096, 21504, 128, 64),
    25: (36, 4096, 21504, 128, 64),
}  # fmt: skip
WHOLE = [number for number, sizes in TABLE_1.items() if sizes[0] == 52]
SHALLOW = 25  # its 36 layers of the parent's widths are no 4B: 5.8B


@pytest.fixture(scope="module")
def search() -> SearchFile:
    return load_search(FILE)


def point(number: int) -> dict[str, int]:
    """A candidate of Table 1 by the file's rule: Mamba layers and MLPs go in pairs, the four of attention stay."""
    layers, d_model, d_ff, heads, channels = TABLE_1[number]
    pairs = (layers - 4) // 2
    return {
        "d_model": d_model, "mlp.d_ff": d_ff, "mamba2.n_heads": heads, "mamba2.head_dim": channels,
        "layers.mamba2": pairs, "layers.mlp": pairs, "layers.attention": 4,
    }  # fmt: skip


def columns(points: list[dict[str, int]]) -> Points:
    return {name: np.array([p[name] for p in points]) for name in points[0]}


def throughput(search: SearchFile) -> Figure:
    (found,) = (o.figure for o in search.objectives if o.figure.name == "throughput.output_tokens")
    assert isinstance(found, Figure)
    return found


def by_meter(search: SearchFile, points: list[dict[str, int]]) -> list[float]:
    """Output tokens a second, all at once, as the search has them."""
    return list(map(float, Meter(search.space).take(throughput(search), columns(points))))


def by_sheet(graph: Graph) -> float:
    """Output tokens a second of one built graph, as its cost sheet has them."""
    sheet = archc.cost(graph, hardware="h100", input=65536, output=1024, batch=4, format="bf16")
    assert sheet.throughput is not None and sheet.throughput.output_tokens_per_s is not None
    return sheet.throughput.output_tokens_per_s


def params(layers: int, d_model: int, d_ff: int, heads: int, channels: int) -> int:
    """Counted by hand: 8 groups of 128 states, 32 query and 8 KV heads of 128, a convolution of 4 with bias."""
    inner, bc, vocab = heads * channels, 2 * 8 * 128, 131072
    mamba = d_model * (2 * inner + bc + heads) + 5 * (inner + bc) + 3 * heads + inner + inner * d_model
    attention = d_model * (32 + 2 * 8) * 128 + 32 * 128 * d_model
    pair = mamba + 2 * d_model * d_ff
    return (layers - 4) // 2 * pair + 4 * attention + (layers + 1) * d_model + 2 * vocab * d_model


@pytest.mark.parametrize("number", TABLE_1)
def test_candidates_lie_in_the_space_and_build(search: SearchFile, number: int) -> None:
    wanted = point(number)
    assert all(wanted[c.name] in c.values for c in search.space.choices) and wanted.keys() == set(search.space.names)
    built = search.space.build(wanted)
    assert len(built.blocks[LAYERS]) == TABLE_1[number][0]
    assert archc.cost(built).params.total == params(*TABLE_1[number])


def test_all_but_one_are_of_4b_parameters_and_within_the_budgets(search: SearchFile) -> None:
    counts = {number: params(*sizes) for number, sizes in TABLE_1.items()}
    small = {number for number, count in counts.items() if 4.32e9 < count < 4.5e9}
    assert set(TABLE_1) - small == {SHALLOW} and 5.81e9 < counts[SHALLOW] < 5.82e9
    over = violations(Meter(search.space), search.budgets, columns([point(n) for n in TABLE_1]))
    assert {n for n, most in zip(TABLE_1, over.max(axis=0).tolist(), strict=True) if most <= 0} == small


def test_the_first_is_nemotron_h_4b(search: SearchFile) -> None:
    made, published = search.space.build(point(1)), archc.load("nemotron-h-4b")
    assert [(n.op.kind, n.op.sizes) for n in made.nodes] == [(n.op.kind, n.op.sizes) for n in published.nodes]


def test_the_parent_is_the_base(search: SearchFile) -> None:
    assert params(52, 4096, 21504, 128, 64) == archc.cost(search.space.build(search.space.base)).params.total


def test_52_layers_are_ranked_by_throughput(search: SearchFile) -> None:
    """All at once, as the search does, and one by one from the graphs: the same figures, and the same order."""
    found = by_meter(search, [point(n) for n in WHOLE])
    alone = [by_sheet(search.space.build(point(n))) for n in WHOLE]
    np.testing.assert_allclose(found, alone, rtol=1e-12)
    assert len(WHOLE) == 16 and list(np.argsort(found)) == list(np.argsort(alone))


def test_fewer_mamba_channels_are_faster(search: SearchFile) -> None:
    """Of the 52-layer candidates of the same d_model and d_ff; and at the same channels, fewer heads."""
    rates = dict(zip(WHOLE, by_meter(search, [point(n) for n in WHOLE]), strict=True))
    compared = 0
    for a, b in itertools.permutations(WHOLE, 2):
        (_, *sizes_a, heads_a, each_a), (_, *sizes_b, heads_b, each_b) = TABLE_1[a], TABLE_1[b]
        if sizes_a == sizes_b and (heads_a * each_a, heads_a) < (heads_b * each_b, heads_b):
            assert rates[a] > rates[b], (a, b)
            compared += 1
    assert compared == 14


def test_fewer_layers_go_by_the_rule_and_are_faster(search: SearchFile) -> None:
    """Pairs from the middle outwards, so that the first and the last layers stay, and attention does."""
    base = search.space.graph
    kinds = {block: base.node(f"{block}.mixer").op.kind for block in base.blocks[LAYERS]}
    order = list(kinds)
    for number in sorted(set(TABLE_1) - set(WHOLE)):
        layers = TABLE_1[number][0]
        built = search.space.build(point(number))
        gone = [i for i, block in enumerate(order) if block not in built.blocks[LAYERS]]
        dropped = [kinds[order[i]] for i in gone]
        assert dropped == ["mamba2", "mlp"] * ((52 - layers) // 2)
        assert abs((gone[0] + gone[-1]) / 2 - 25.5) <= 3 and gone[0] >= 10 and gone[-1] < 42
        deep = point(number) | {"layers.mamba2": 24, "layers.mlp": 24}
        shallow_rate, deep_rate = by_meter(search, [point(number), deep])
        assert shallow_rate > deep_rate
        assert shallow_rate == pytest.approx(by_sheet(built), rel=1e-12)
