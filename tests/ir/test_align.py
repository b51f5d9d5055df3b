"""Alignment: by ids where lineage is shared, else by structure; insertions are insertions, and doubts are told."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.ir.align import Alignment, align
from archc.ir.build import Block, build_model
from archc.ir.graph import LAYERS, Graph
from archc.ir.ops.attention import Attention
from archc.ir.ops.mamba2 import Mamba2
from archc.ir.ops.mlp import MLP
from archc.ir.sequence import GAP, OTHER_KIND, pair_up
from archc.passes import apply
from archc.resolve import load
from archc.testing.strategies import renamed

KINDS: dict[str, Block] = {
    "M": ("mamba2", Mamba2.Fields(n_heads=4, head_dim=4, d_state=4)),
    "*": ("attention", Attention.Fields(n_heads=2, head_dim=8)),
    "-": ("mlp", MLP.Fields(d_ff=24)),
    "w": ("mlp", MLP.Fields(d_ff=32)),
}


def model(layers: Sequence[Block] | str) -> Graph:
    """A model of blocks, or of letters for some; its ids are fresh: nothing is known of where it comes from."""
    given = [KINDS[letter] for letter in layers] if isinstance(layers, str) else layers
    graph = build_model(name="m", d_model=16, vocab=32, layers=given)
    return dataclasses.replace(graph, lineage=())


def dropped(found: Alignment) -> list[int | None]:
    return [m.a.position for m in found.matches if m.a and m.b is None]


def added(found: Alignment) -> list[int | None]:
    return [m.b.position for m in found.matches if m.b and m.a is None]


def replaced(found: Alignment) -> list[tuple[int | None, int | None]]:
    return [(m.a.position, m.b.position) for m in found.matches if m.replaced and m.a and m.b]


def doubts(found: Alignment) -> list[tuple[str, int, tuple[int, ...]]]:
    """Side, how many, of which layers."""
    return [(s.side, len(s.chosen), tuple(int(name.strip("Lx")) for name in s.among)) for s in found.slides]


# -- by structure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "gone", "new", "other"),
    [
        ("M-M-*-", "M-M-*-", [], [], []),
        ("M-M-*-", "M-M--", [4], [], []),
        ("M-*-", "*M-*-", [], [0], []),
        ("M-M-", "M-*-", [], [], [(2, 2)]),
        ("M-*w-", "M-*-", [3], [], []),  # the width tells which went
        ("M-*-w", "M-*w", [3], [], []),
        ("*-", "Mw", [], [], [(0, 0)]),
        ("", "M-", [], [0, 1], []),
        ("M-", "", [0, 1], [], []),
    ],
)
def test_by_structure(a: str, b: str, gone: list[int], new: list[int], other: list[tuple[int, int]]) -> None:
    found = align(model(a), renamed(model(b)))
    assert found.by == "structure"
    assert (dropped(found), added(found), replaced(found)) == (gone, new, other)
    assert not found.slides


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("----", "---", [("a", 1, (0, 1, 2, 3))]),
        ("M-M-M-", "M-M-", [("a", 2, (0, 1, 2, 3, 4, 5))]),
        ("*M-M-*", "*M-*", [("a", 2, (1, 2, 3, 4))]),
        ("*M-*", "*M-M-*", [("b", 2, (1, 2, 3, 4))]),
        ("M-M-*-", "M-M-*-*-", [("b", 2, (3, 4, 5, 6, 7))]),
        ("*-", "M", [("a", 1, (0, 1))]),
        ("--*--", "-*-", [("a", 1, (0, 1)), ("a", 1, (3, 4))]),
    ],
)
def test_what_structure_cannot_tell_is_told(a: str, b: str, told: list[tuple[str, int, tuple[int, ...]]]) -> None:
    assert doubts(align(model(a), renamed(model(b)))) == told


def test_the_fewest_runs_win_among_equal_costs() -> None:
    """Two of six equal layers: next to one another, not here and there."""
    first, second = dropped(align(model("------"), renamed(model("----"))))
    assert first is not None and second == first + 1


def test_evidence_settles_what_structure_cannot() -> None:
    a, b = model("-----"), renamed(model("---"))
    found = align(a, b, {"L0": "L0x", "L3": "L1x", "L4": "L2x"})
    assert found.by == "evidence" and dropped(found) == [1, 2] and not found.slides
    half = align(a, b, {"L3": "L1x"})
    assert doubts(half) == [("a", 2, (0, 1, 2))]


def test_evidence_that_crosses_is_kept_as_far_as_it_is_in_order() -> None:
    found = align(model("---"), renamed(model("---")), {"L0": "L2x", "L1": "L0x", "L2": "L1x"})
    assert [(m.a.position, m.b.position) for m in found.matches if m.region == LAYERS and m.a and m.b] == [
        (1, 0),
        (2, 1),
    ]


def some_blocks() -> st.SearchStrategy[Block]:
    """Blocks of three kinds, and many widths of one."""
    widths = st.sampled_from([8, 12, 16, 20, 24])
    return st.sampled_from([KINDS[k] for k in "M*-"]) | widths.map(lambda n: ("mlp", MLP.Fields(d_ff=n)))


@given(
    st.lists(some_blocks(), min_size=1, max_size=9), st.lists(st.tuples(st.integers(0, 9), some_blocks()), max_size=3)
)
@settings(max_examples=40, deadline=None)
def test_inserting_k_blocks_is_k_insertions(layers: list[Block], extra: list[tuple[int, Block]]) -> None:
    more = list(layers)
    for at, block in extra:
        more.insert(min(at, len(more)), block)
    found = align(model(layers), renamed(model(more)))
    assert (len(added(found)), dropped(found), replaced(found)) == (len(extra), [], [])
    back = align(model(more), renamed(model(layers)))
    assert (len(dropped(back)), added(back), replaced(back)) == (len(extra), [], [])


@given(st.text("M*-w", max_size=7), st.text("M*-w", max_size=7))
@settings(max_examples=60, deadline=None)
def test_every_unit_once_and_in_order(a: str, b: str) -> None:
    found = align(model(a), renamed(model(b)))
    for side, text in (("a", a), ("b", b)):
        units = [getattr(m, side) for m in found.matches if getattr(m, side) is not None]
        assert [u.position for u in units if u.region == LAYERS] == list(range(len(text)))
        assert [u.nodes[0].op.kind for u in units if not u.region] == ["embedding", "rms_norm", "lm_head"]
    assert all(m.a or m.b for m in found.matches)


@given(st.text("M*-", max_size=5), st.text("M*-", max_size=5))
@settings(max_examples=60, deadline=None)
def test_the_cost_is_the_least_there_is(a: str, b: str) -> None:
    """Against a search over all alignments."""
    cost = [[0 if x == y else OTHER_KIND for y in b] for x in a]

    def least(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return GAP * (len(a) - i + len(b) - j)
        return min(cost[i][j] + least(i + 1, j + 1), GAP + least(i + 1, j), GAP + least(i, j + 1))

    pairs = pair_up(cost, len(b), lambda i, j: 0).pairs
    assert sum(GAP if i is None or j is None else cost[i][j] for i, j in pairs) == least(0, 0)


# -- by lineage --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 8), st.data())
@settings(max_examples=40, deadline=None)
def test_lineage_tells_which_of_equal_layers_went(count: int, data: st.DataObject) -> None:
    graph = model("-" * count)
    gone = data.draw(st.sets(st.integers(0, count - 1)))
    made, _ = apply(graph, f"drop-layers{{layers=({', '.join(map(str, sorted(gone)))})}}")
    found = align(graph, made)
    assert (found.by, dropped(found), added(found), found.slides) == ("lineage", sorted(gone), [], ())
    assert added(align(made, graph)) == sorted(gone)


def test_two_made_from_one_share_its_ids() -> None:
    graph = model("-" * 6)
    one, other = (apply(graph, f"drop-layers{{layers=({layers})}}")[0] for layers in ("0, 1", "1, 2"))
    found = align(one, other)  # 2, 3, 4, 5 and 0, 3, 4, 5
    assert (found.by, dropped(found), added(found)) == ("lineage", [0], [0])


def test_the_same_index_means_nothing_without_lineage() -> None:
    """Zoo models all have a layer `L7`; that of 12B is attention, that of 9B a Mamba-2."""
    found = align(load("nemotron-nano-12b-v2"), load("nemotron-nano-9b-v2"))
    assert found.by == "structure"
    pairs = {m.a.name: m.b.name for m in found.matches if m.a and m.b}
    assert "L7" not in pairs and pairs["L9"] == "L7"
