"""`archc show` on a terminal: 80 columns, with and without colour, and the same figures as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from archc import zoo
from archc.cli import app
from archc.ir.formats import get_format
from archc.ir.graph import Graph
from archc.ir.workload import CONTEXT
from archc.kernels.errors import ArchcError, UnknownName
from archc.resolve import load
from archc.viz.block import view
from archc.viz.layers import strip
from archc.viz.overlay import Choices, Overlay, Units, Value, overlay_json
from archc.viz.summary import summarise
from archc.viz.terminal import print_summary
from archc.viz.terminal_block import print_view
from tests.front.screens import ANSI, Screen, archc, lines


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal of 80 columns."""
    return Screen(monkeypatch)


def narrowed(graph: Graph, sizes: dict[str, int]) -> Graph:
    """The graph with some dims of other sizes."""
    return graph.with_dims(lambda d: dataclasses.replace(d, size=sizes.get(d.name, d.size)))


# -- the summary -------------------------------------------------------------------------------------------------------


def test_the_head_of_nano_9b(screen: Screen) -> None:
    text = screen.shows(print_summary, summarise(load("nemotron-nano-9b-v2")), no_color=True)
    assert lines(ANSI.sub("", text))[:6] == [
        "nemotron-nano-9b-v2  8.89B parameters, 56 layers",
        "",
        "  0  M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
        "     2 x [3 x [M -] M] * - 3 x [2 x [M -] M * - M -] M 6 x [M -]",
        "     M mamba2   - mlp   * attention",
        "     attention in layers 14, 21, 30, 39",
    ]


def test_every_line_of_a_long_strip_says_where_it_begins(screen: Screen) -> None:
    shown = lines(screen.shows(print_summary, summarise(load("nemotron-3-ultra-550b-a55b"))))
    assert [line[:9] for line in shown if re.match(r" *\d+  [ME*]", line)] == ["  0  MEME", " 60  EMEM", "  0  *E"]
    assert "     attention in layers 7, 14, 23, 32, 39, 48, 57, 64, 73, 82, 89, 98" in shown
    assert "multi-token prediction, 1 step" in shown


@pytest.mark.parametrize("model", zoo.names())
def test_json_has_what_the_graph_has(model: str, screen: Screen) -> None:
    graph, shown = load(model), json.loads(archc("show", model, "--json"))
    blocks = graph.blocks["layers"]
    assert (shown["hash"], shown["layers"]) == (graph.hash, len(blocks))
    assert [block["block"] for block in shown["blocks"]] == list(blocks)
    for block in shown["blocks"]:
        op = graph.node(f"{block['block']}.mixer").op
        assert (block["kind"], block["letter"]) == (op.kind, op.usual_letter())
        assert block["sizes"] == {role: dim.size for role, dim in op.dims.items()}
    assert sum(kind["count"] for kind in shown["kinds"] if kind["letter"]) == len(blocks) + shown["mtp_layers"]
    screen.shows(print_summary, summarise(graph))


def test_colour_only_where_there_is_some(screen: Screen) -> None:
    summary = summarise(load("tiny-hybrid"))
    assert "48;2;" in screen.shows(print_summary, summary, color_system="truecolor")
    plain = screen.shows(print_summary, summary, force_terminal=False)
    assert "\x1b" not in plain and "\x1b" not in archc("show", "tiny-hybrid")
    assert lines(ANSI.sub("", screen.shows(print_summary, summary, color_system="truecolor"))) == lines(plain)


def test_letters_are_in_the_strip_whatever_the_encoding(screen: Screen) -> None:
    assert "  0  MEM*EMEM*E" in screen.shows(print_summary, summarise(load("tiny-hybrid")), encoding="ascii")


def test_layers_of_other_sizes_are_marked_and_do_not_fold(screen: Screen) -> None:
    graph = narrowed(load("tiny-dense"), {"L1.mixer.d_ff": 100, "L3.mixer.d_ff": 60, "L8.mixer.d_ff": 100})
    assert " x " in strip(load("tiny-dense"), "layers").folded
    summary = summarise(graph)
    shown = screen.shows(print_summary, summary)
    letters = [layer.mark for layer in summary.layers.layers]
    assert (letters[1], letters[3], letters[8]) == ("-'", "-'2", "-'")
    usual = load("tiny-dense").dims["L1.mixer.d_ff"].size
    assert f"     -' in layers 1, 8: d_ff=100 (usually {usual})" in lines(shown)
    assert f"     -'2 in layer 3: d_ff=60 (usually {usual})" in lines(shown)
    assert {"-", "-'", "-'2"} <= {kind.letter for kind in summary.kinds}
    assert summary.to_json()["variants"][0] == {
        "mark": "-'", "layers": [1, 8], "than": [layer.mark for layer in summary.layers.layers].index("-"),
        "changes": {"d_ff": {"here": "100", "there": str(usual)}},
    }  # fmt: skip


def test_layers_of_other_attributes_are_told(screen: Screen) -> None:
    shown = lines(screen.shows(print_summary, summarise(load("gpt-oss-20b"))))
    assert "     *' in layers 2, 6, ..., 46: window=none (layer 0: 128)" in shown


def test_a_hundred_different_layers_stay_short(screen: Screen) -> None:
    graph = load("nemotron-h-56b")
    sizes = {f"L{i}.mixer.d_ff": 100 + i for i in range(118)}
    shown = screen.shows(print_summary, summarise(narrowed(graph, sizes)))
    assert "more that differ; --json lists them" in shown


def test_a_model_without_layers_is_shown(screen: Screen, tmp_path: Path) -> None:
    text = """archc graph 1
name none
dim vocab = 32 fixed
dim d_model = 8
input tokens [batch, tokens]
embedding = embedding(tokens)
lm_head = lm_head(embedding)
output logits = lm_head
"""
    (tmp_path / "none.ir").write_text(text)
    shown = screen.shows(print_summary, dataclasses.replace(summarise(load(tmp_path / "none.ir")), name="[bold]none"))
    assert lines(shown)[0] == "[bold]none  512 parameters, 0 layers"


# -- overlays on the summary -------------------------------------------------------------------------------------------


def overlay_file(folder: Path, title: str, nodes: dict[str, dict[str, Value]]) -> Path:
    """A file of an overlay."""
    file = folder / f"{title}.json"
    file.write_text(overlay_json(Overlay(title, nodes)), encoding="utf-8")
    return file


def scores(graph: Graph, letters: str = "mixer") -> Iterator[tuple[str, dict[str, Value]]]:
    """A score for every mixer, growing with depth."""
    for i, block in enumerate(graph.blocks["layers"]):
        yield f"{block}.{letters}", {"*": (i + 1) / 10}


def overlay_text(screen: Screen, graph: Graph, nodes: dict[str, dict[str, Value]], **options: Any) -> list[str]:
    """What is shown of an overlay, after its title."""
    shown = screen.shows(print_summary, summarise(graph, [Overlay("THE TITLE", nodes)]), **options)
    return lines(shown.partition("THE TITLE")[2])[1:]


def test_scores_are_bars(screen: Screen) -> None:
    graph = load("tiny-hybrid")
    shown = overlay_text(screen, graph, dict(scores(graph)))
    assert len(shown) == 1 + 10
    assert shown[1].split()[:4] == ["0", "M", "mamba2", "0.1"]
    assert [shown[i].count("█") for i in (1, 5, 10)] == [3, 16, 32]
    assert overlay_text(screen, graph, dict(scores(graph)), encoding="ascii")[10].count("#") == 32


def test_negative_scores_are_pale(screen: Screen) -> None:
    shown = overlay_text(
        screen, load("tiny-hybrid"), {"L0.mixer": {"*": -2.0}, "L1.mixer": {"*": 0.0}, "lm_head": {"*": 1}}
    )
    assert [line.count("▒") for line in shown[1:]] == [32, 0, 0]
    assert [line.count("█") for line in shown[1:]] == [0, 0, 16]


def test_many_scores_fold_by_kind(screen: Screen) -> None:
    graph = load("nemotron-3-ultra-550b-a55b")
    shown = overlay_text(screen, graph, dict(scores(graph)))
    assert len(shown) == 1 + 3 + 2
    assert shown[1].split()[:7] == ["48", "x", "M", "mamba2", "48", "0.1", "5.4"]
    assert shown[-2] == "highest: 107 (10.8), 106 (10.7), 105 (10.6), 104 (10.5), 103 (10.4)"
    assert shown[-1] == "lowest: 0 (0.1), 1 (0.2), 2 (0.3), 3 (0.4), 4 (0.5)"


def test_importance_and_load_are_profiles(screen: Screen) -> None:
    graph = load("tiny-hybrid")
    load_of = Units((0.0, 0.0, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1))
    width = Units(tuple(float(i % 50) for i in range(8 * 192)))
    shown = overlay_text(screen, graph, {"L1.mixer": {"experts": load_of, "d_ff": width}})
    assert shown[1].split() == ["1", "E", "moe", "experts", "8", "0", "0.125", "0.5", "█▂▂▂▂▂▁▁"]
    assert shown[2].split()[3:8] == ["d_ff", "1536", "0", "24.3", "49"]
    assert shown[2].split()[8].startswith("██") and shown[2].endswith("▁")


def test_units_of_many_layers_fold(screen: Screen) -> None:
    graph = load("nemotron-h-56b")
    nodes: dict[str, dict[str, Value]] = {
        f"L{i}.mixer": {"d_model": Units((float(i),) * graph.dims["d_model"].size)} for i in range(118)
    }
    shown = overlay_text(screen, graph, nodes)
    assert len(shown) == 1 + 3
    assert shown[1].split()[:5] == ["54", "x", "M", "mamba2", "d_model"]


def test_formats_and_choices_are_words(screen: Screen) -> None:
    graph = load("tiny-hybrid")
    nodes: dict[str, dict[str, Value]] = {
        **{f"L{i}.mixer": {"up_proj": get_format("nvfp4"), "d_ff": Choices((64, 128, 192))} for i in (1, 4, 6, 9)},
        "lm_head": {"weight": get_format("fp8")},
    }
    shown = overlay_text(screen, graph, nodes)
    assert [line.split() for line in shown[1:]] == [
        ["E", "moe", "up_proj", "nvfp4", "1,", "4,", "6,", "9"],
        ["E", "moe", "d_ff", "64,", "128,", "192", "of", "192", "1,", "4,", "6,", "9"],
        ["lm_head", "weight", "fp8", "lm_head"],
    ]


def test_several_overlays_are_read_by_the_command(tmp_path: Path) -> None:
    one = overlay_file(tmp_path, "one", {"L1.mixer": {"*": 0.5}})
    two = overlay_file(tmp_path, "two", {"L3.mixer": {"*": -0.5}})
    shown = lines(archc("show", "tiny-hybrid", "--overlay", one, "--overlay", two))
    assert shown.index("one") < shown.index("two")
    as_json = json.loads(archc("show", "tiny-hybrid", "--overlay", one, "--json"))
    assert as_json["overlays"] == [json.loads(one.read_text())]


# -- one layer, one op -------------------------------------------------------------------------------------------------


def test_axes_are_written_in_dims(screen: Screen) -> None:
    shown = lines(screen.shows(print_view, view(load("nemotron-nano-12b-v2"), op="layers.0.mixer")))
    assert "  params   in_proj: [z:10240 | x:10240 | B:1024 | C:1024 | dt:128, d_model:5120]" in shown
    assert "             22656 x 5120 = 116.00M, bf16, 221.25 MiB, 0.94%" in shown
    assert "           heads_per_group = 16 in each of 8 n_groups" in shown
    assert "  sizes    n_heads = n_groups * heads_per_group = 128" in shown
    assert "           out_proj: [d_model:5120, d_inner:10240]" in shown


@pytest.mark.parametrize("model", zoo.names())
def test_every_op_is_shown_as_the_graph_has_it(model: str, screen: Screen) -> None:
    graph = load(model)
    kinds = {node.op.key: node for node in graph.nodes}
    for node in kinds.values():
        made = view(graph, op=node.id)
        (op,) = json.loads(json.dumps(made.to_json(), allow_nan=False))["ops"]
        assert (op["id"], op["scope"], op["kind"], op["owner"]) == (
            node.id,
            graph.scope(node.id),
            node.op.kind,
            node.owner,
        )
        assert {d["role"]: d["size"] for d in op["dims"]} == {role: dim.size for role, dim in node.op.dims.items()}
        assert {p["name"]: tuple(p["shape"]) for p in op["params"]} == {p.name: p.shape for p in node.op.params()}
        for param in op["params"]:
            sums = [sum(int(part.rpartition(":")[2]) for part in axis.split(" | ")) for axis in param["axes"]]
            assert sums == param["shape"]
        screen.shows(print_view, made)


def test_figures_of_one_layer_are_those_of_the_sheet(screen: Screen) -> None:
    graph = load("nemotron-nano-9b-v2")
    (group,) = (n for n in graph.cost(context=CONTEXT).nodes if "L0.mixer" in n.nodes)
    op = view(graph, layer=0).ops[1]
    assert sum(param.elements for param in op.params) == group.params
    assert sum(param.bytes for param in op.params) == group.weights_bytes
    assert sum(state.bytes for state in op.state) == group.state_bytes
    assert sum(product.flops_per_token for product in op.products) == group.decode_flops
    everything = [view(graph, op=node.id).ops[0] for node in graph.nodes if not node.owner]
    assert sum(param.share for op in everything for param in op.params) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("layers.3.mixer", ["L3.mixer"]),
        ("L3.mixer", ["L3.mixer"]),
        ("layers.3", ["L3.norm", "L3.mixer", "L3.add"]),
        ("L3", ["L3.norm", "L3.mixer", "L3.add"]),
        ("embedding", ["embedding"]),
        ("lm_head", ["lm_head"]),
        ("mtp.joint", ["mtp.joint"]),
        ("mtp.layers.1.mixer", ["M1.mixer"]),
    ],
)
def test_an_op_has_several_names(name: str, ids: list[str]) -> None:
    assert [op.id for op in view(load("tiny-hybrid"), op=name).ops] == ids


def test_a_layer_is_its_block() -> None:
    shown = json.loads(archc("show", "tiny-hybrid", "--layer", 3, "--json"))
    assert [op["id"] for op in shown["ops"]] == ["L3.norm", "L3.mixer", "L3.add"]
    assert "layers.3.mixer" in archc("show", "tiny-hybrid", "--layer", 3)


def test_what_is_not_there_is_told_with_what_is() -> None:
    graph = load("tiny-hybrid")
    with pytest.raises(ArchcError, match="no layer 10: `tiny-hybrid` has the layers 0 to 9"):
        view(graph, layer=10)
    with pytest.raises(ArchcError, match="no layer -1"):
        view(graph, layer=-1)
    with pytest.raises(UnknownName, match=r"did you mean `layers\.3\.mixer`"):
        view(graph, op="layers.3.mixr")
    result = CliRunner().invoke(app, ["show", "tiny-hybrid", "--layer", "1", "--op", "L1"])
    assert result.exit_code == 2 and "exclude one another" in result.output


@pytest.mark.parametrize(("model", "node", "owner"), [
    ("tiny-mamba", "lm_head", "embedding"), ("tiny-latent", "mtp2.joint", "mtp.joint")
])  # fmt: skip
def test_shared_parameters_name_their_owner(screen: Screen, model: str, node: str, owner: str) -> None:
    made = view(load(model), op=node)
    assert (made.ops[0].id, made.ops[0].owner) == (node, owner)
    assert f"  params   those of {owner}" in lines(screen.shows(print_view, made))


def test_an_overlay_of_one_layer(screen: Screen, tmp_path: Path) -> None:
    graph = load("tiny-hybrid")
    nodes: dict[str, dict[str, Value]] = {"L1.mixer": {"*": 0.5, "experts": Units((1.0,) * 8)}, "L4.mixer": {"*": 0.7}}
    made = view(graph, layer=1, overlays=[Overlay("load of experts", nodes)])
    shown = screen.shows(print_view, made).partition("load of experts")[2]
    assert "experts" in shown and "0.7" not in shown
    assert made.to_json()["overlays"][0]["nodes"] == {"L1.mixer": {"*": 0.5, "experts": [1.0] * 8}}
