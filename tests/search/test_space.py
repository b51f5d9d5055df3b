"""What a space may say: fields, pass options, layers by number and place, growth, conditions; what it may not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import archc
from archc.ir.cost import cost_sheet
from archc.ir.graph import LAYERS, Graph
from archc.ir.ops.attention import Attention
from archc.ir.ops.moe import MoE
from archc.ir.workload import Workload
from archc.kernels.errors import ArchcError, SearchError
from archc.search.budgets import named
from archc.search.figures import Figure, Meter, Setting
from archc.search.space import Space
from archc.searching.file import SearchFile, load_search

HEAD = "archc_search: 1\nname: s\nbase: tiny-hybrid\nobjectives: [maximize params.total]\n"


def read(folder: Path, text: str, head: str = HEAD) -> SearchFile:
    file = folder / "search.yaml"
    file.write_text(head + text)
    return load_search(file)


def space_of(folder: Path, lines: str, more: str = "") -> Space:
    return read(folder, f"{more}space:\n" + "".join(f"  {line}\n" for line in lines.strip().splitlines())).space


def kinds(graph: Graph) -> str:
    letters = {"mamba2": "M", "attention": "*", "moe": "E"}
    return "".join(letters[graph.node(f"{b}.mixer").op.kind] for b in graph.blocks.get(LAYERS, ()))


def check_costs(space: Space, count: int = 5) -> None:
    """Figures of many points are those of the cost sheet of each one's graph."""
    rng = np.random.default_rng(0)
    ranks = space.settled(np.stack([rng.integers(0, len(c.values), count) for c in space.choices], axis=1))
    points, meter = space.at(ranks), Meter(space)
    found = {
        name: meter.take(Figure(name, Setting(Workload.of(context=2048))), points)
        for name in ("params.total", "params.active", "memory.resident")
    }
    for i in range(count):
        sheet = cost_sheet(space.build(named(points, i)), context=2048)
        assert found["params.total"][i] == sheet.params.total
        assert found["params.active"][i] == sheet.params.active
        assert found["memory.resident"][i] == sheet.memory.resident_bytes


# -- layers ------------------------------------------------------------------------------------------------------------


def test_some_layers_alike_and_each_by_itself(tmp_path: Path) -> None:
    space = space_of(tmp_path, "layers.1,4.moe.d_ff: [64, 128]\nlayers.6-9.moe.d_ff: {values: [64, 192], each: layer}")
    assert space.names == ("layers.1,4.moe.d_ff", "layers.6.moe.d_ff", "layers.9.moe.d_ff")
    made = space.build(dict(zip(space.names, (64, 192, 64), strict=True)))
    assert [op.d_ff.size for op in made.ops(MoE)][:4] == [64, 64, 192, 64]
    check_costs(space)
    text = space.passes(dict(zip(space.names, (64, 192, 64), strict=True)), "first")
    built, _ = archc.apply(space.graph, text)
    assert built.cost(context=512).params == made.cost(context=512).params


def test_layers_of_all_kinds_and_one_alone_are_counted(tmp_path: Path) -> None:
    space = space_of(tmp_path, "layers: {from: 7, to: 10}", "ranking: [9, 0, 3]\n")
    assert [kinds(space.build({"layers": n})) for n in (10, 9, 7)] == [
        "MEM*EMEM*E",
        "MEM*EMEM*",
        "EMEMEM*".replace("EMEMEM*", "EMEMEM*"),
    ]
    one = space_of(tmp_path, "layers.3: [0, 1]")
    assert kinds(one.build({"layers.3": 0})) == "MEMEMEM*E" and one.base == {"layers.3": 1}
    check_costs(space)
    check_costs(one)


def test_there_may_be_more_layers_than_the_base_has(tmp_path: Path) -> None:
    space = space_of(
        tmp_path, "layers.attention: {from: 1, to: 5}\nlayers.*.attention.n_heads: [2, 4]", "ranking: [3]\n"
    )
    for n in range(1, 6):
        assert kinds(space.build({**space.base, "layers.attention": n})).count("*") == n
    assert space.build(space.base) == space.graph.without_blocks(
        (LAYERS, b) for b in space.graph.blocks[LAYERS] if "_" in b
    )
    grown = space.build({"layers.attention": 5, "layers.*.attention.n_heads": 2})
    assert [op.queries_per_kv.size * op.n_kv_heads.size for op in grown.ops(Attention)][:5] == [2] * 5
    check_costs(space)
    assert space.passes({**space.base, "layers.*.attention.n_heads": 2}, "first").startswith("prune{")
    with pytest.raises(SearchError, match=r"`layers\.attention` is 2 in the base: passes make nothing larger"):
        space.passes({**space.base, "layers.attention": 3}, "first")


def test_layers_have_places(tmp_path: Path) -> None:
    space = space_of(tmp_path, "layers.attention: [0, 1, 2]\nplace.attention: {from: 0, to: 8}", "ranking: [8, 3]\n")
    assert space.names == ("layers.attention", "place.attention.1", "place.attention.2")
    assert space.base == {"layers.attention": 2, "place.attention.1": 3, "place.attention.2": 7}
    assert kinds(space.build(space.base)) == "MEM*EMEM*E"

    def at(n: int, first: int, second: int) -> str:
        return kinds(space.build({"layers.attention": n, "place.attention.1": first, "place.attention.2": second}))

    assert at(2, 8, 0) == at(2, 0, 8) == "*MEMEMEME*" and at(1, 2, 5) == "ME*MEMEME" and at(0, 2, 5) == "MEMEMEME"
    check_costs(space)
    ranks = space.settled(np.array([[1, 2, 5], [0, 2, 5], [2, 2, 5]]))
    assert ranks.tolist() == [[1, 2, 7], [0, 3, 7], [2, 2, 5]], (
        "the second layer's place says nothing where there is one"
    )
    assert space.passes({**space.base, "layers.attention": 1}, "first") == "drop-layers{layers=(8)}"
    with pytest.raises(SearchError, match="passes move no layers"):
        space.passes({**space.base, "place.attention.1": 0}, "first")


def test_the_base_is_a_point_where_there_may_be_more_layers(tmp_path: Path) -> None:
    lines = "layers.attention: {from: 1, to: 4}\nlayers.moe: {from: 2, to: 7}\nplace.attention: {from: 0, to: 11}"
    space = space_of(tmp_path, lines, "ranking: [3, 1, 4]\n")
    made = space.build(space.base)
    assert made.blocks == archc.load("tiny-hybrid").blocks and kinds(made) == "MEM*EMEM*E"
    assert space.passes(space.base, "first") == ""
    more = space.build({**space.base, "layers.attention": 3, "place.attention.3": 0})
    assert kinds(more) == "*MEM*EMEM*E"
    check_costs(space)


# -- options -----------------------------------------------------------------------------------------------------------


def test_fields_of_the_spec_are_searched(tmp_path: Path) -> None:
    space = space_of(
        tmp_path, "moe.top_k: [1, 2, 4]\nmoe.activation: [relu2, silu]\nnorm.eps: [1.0e-6, 1.0e-5]\nd_model: [64, 128]"
    )
    assert space.base == {"moe.top_k": 2, "moe.activation": 0, "norm.eps": 1, "d_model": 128}
    made = space.build({"moe.top_k": 4, "moe.activation": 1, "norm.eps": 0, "d_model": 64})
    assert {(op.top_k, op.activation, op.d_model.size) for op in made.ops(MoE)} == {(4, "silu", 64)}
    assert made.node("norm").op.attributes["eps"] == 1e-6
    assert space.build(space.base) == archc.load("tiny-hybrid")
    check_costs(space, 12)
    with pytest.raises(SearchError, match=r"no pass changes `moe\.top_k` of a model with weights"):
        space.passes({**space.base, "moe.top_k": 4}, "first")
    assert space.passes({**space.base, "d_model": 64}, "first") == "prune{dim=d_model, to=64, by=first}"


def test_options_of_passes_are_searched(tmp_path: Path) -> None:
    passes = "passes:\n  - drop-experts: {count: 2, by: first}\n  - prune{dim=d_ff, kind=moe, to=64, by=first}\n"
    space = space_of(
        tmp_path,
        "passes.drop-experts.count: [1, 2, 3]\npasses.1: [on, off]\nlayers.moe: [3, 4]",
        passes + "ranking: [1]\n",
    )
    assert space.base == {"passes.drop-experts.count": 2, "passes.1": 0, "layers.moe": 4}
    for count, on, layers in ((1, 0, 4), (3, 1, 3), (2, 1, 4)):
        point = {"passes.drop-experts.count": count, "passes.1": on, "layers.moe": layers}
        made = space.build(point)
        assert {(op.experts.size, op.d_ff.size) for op in made.ops(MoE)} >= {(8 - count, 192 if on else 64)}
        built, _ = archc.apply(archc.load("tiny-hybrid"), space.passes(point, "first"))
        assert built.cost(context=64).params == made.cost(context=64).params
    check_costs(space)


def test_what_depends_on_another_counts_only_there(tmp_path: Path) -> None:
    lines = "moe.activation: [relu2, silu]\nmoe.top_k: {values: [1, 2, 4], when: {moe.activation: [silu]}}\n"
    space = space_of(tmp_path, lines + "d_model: {values: [64, 96, 128], when: {moe.top_k: [1, 4]}}")
    every = np.stack(np.meshgrid(*(np.arange(len(c.values)) for c in space.choices), indexing="ij"), -1).reshape(-1, 3)
    settled = np.unique(space.settled(every), axis=0)
    assert len(every) == 18 and len(settled) == 1 + 1 + 2 * 3
    assert {tuple(row) for row in settled if row[0] == 0} == {(0, 1, 2)}, "at the base's values"
    check_costs(space, 10)


# -- what it may not say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("moe.topk: [1, 2]", r"search.yaml:6:3: unknown field of moe `topk`: did you mean `top_k`\?"),
        ("moe.top_k: [2, 99]", r":6:\d+: `moe.top_k: 99`: `top_k` must not exceed `experts`: got top_k=99, experts=8"),
        ("layers.0-12.moe.d_ff: [64]", "tiny-hybrid` has layers 0 to 9"),
        ("layers.3-1.moe.d_ff: [64]", "has no layer"),
        ("moe.d_ff: {from: 8}", "expected {from:, to:, step:} or a list of values"),
        ("moe.d_ff: {from: 8, to: 16, stop: 2}", "expected some of from, step, to, values, each, when, or a list"),
        ("moe.d_ff: []", "expected at least one value"),
        ("moe.d_ff: [small]", "expected whole numbers, got small"),
        ("d_model: {values: [64], each: layer}", "`each: layer` goes with `layers.*.KIND.FIELD`"),
        ("d_model: {values: [64], each: head}", "expected `each: layer`, got `head`"),
        ("layers: {from: 8, to: 12}", r"`layers`: there are 10: got 8 to 12"),
        ("layers.4: [0, 2]", r"`layers.4`: there are 1: got 0 to 2"),
        ("place.attention: {from: 0, to: 9}", r"8 other layers keep their places: got 0 to 9"),
        ("place.mlp: [0]", "`tiny-hybrid` has no such layer; it has attention, mamba2, moe"),
        ("passes.prune.to: [64]", "there are no `passes` in the file"),
        ("d_model: {values: [64, 128], when: {nothing: [1]}}", "`when`: expected one path of the space"),
        ("d_model: {values: [64, 128], when: {d_ff: [1]}}\nmoe.d_ff: [64]", "`when`: expected one path of the space"),
        ("d_model: {values: [64, 128], when: {moe.d_ff: [64]}}\nmoe.d_ff: [64, 192]", "must stand before it"),
        ("tied: [true]\nd_model: {values: [64], when: {tied: [false]}}", "`tied` is never `false`"),
        ("moe.d_ff: [64]\nlayers.1.moe.d_ff: [64]", "both say what"),
    ],
)  # fmt: skip
def test_spaces_that_there_are_not(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(ArchcError, match=message):
        space_of(tmp_path, lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("passes.prune.too: [64]", "unknown option of prune `too`: did you mean `to`"),
        ("passes.prun.to: [64]", "unknown pass in `passes` `prun`: did you mean `prune`"),
        ("passes.7.to: [64]", "unknown pass in `passes` `7`"),
        ("passes.prune: [yes]", "expected `on` and `off`, got yes"),
        ("passes.prune.to: [all]", r"`to`"),
    ],
)
def test_passes_that_there_are_not(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ArchcError, match=message):
        space_of(tmp_path, line, 'passes: ["prune{dim=d_ff, kind=moe, to=64, by=first}"]\n')
