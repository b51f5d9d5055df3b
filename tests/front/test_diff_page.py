"""`archc diff`: the scene of a diff, its page, its picture, and the files and statuses of the command.

test_diff_page_browser.py opens the page, test_diff_weights.py compares checkpoints."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import archc
from archc.diff_table import FIGURES
from archc.ir.diff import Diff
from archc.ir.graph import LAYERS, Graph, Node
from archc.resolve import load
from archc.spec import spec_from_graph
from archc.viz.diff_page import diff_page
from archc.viz.diff_picture import diff_picture
from archc.viz.diff_scene import diff_scene, unit_nodes, unit_params
from tests.front.pages import HOSTILE, Reader, read_alone
from tests.front.test_picture import check_picture, shapes

PAIRS = [
    ("nemotron-nano-12b-v2", "nemotron-nano-9b-v2"),
    ("nemotron-h-8b", "nemotron-h-4b"),
    ("nemotron-h-56b", "nemotron-h-47b"),
    ("llama-3.1-8b", "llama-3.1-minitron-4b-depth"),
    ("nemotron-3-super-120b-a12b", "nemotron-3-ultra-550b-a55b"),
    ("tiny-moe", "tiny-latent"),
    ("tiny-latent", "tiny-moe"),
    ("tiny-hybrid", "tiny-hybrid"),
]
CONTROLS = "a\x00b\x07\n\u202ec]]>"


@functools.cache
def found(a: str, b: str) -> Diff:
    """The diff of two models of the zoo, made once."""
    return archc.diff(a, b, hardware="8xb200", context="8k")


@functools.cache
def drawn(a: str, b: str) -> Mapping[str, Any]:
    """Its scene as the page reads it."""
    return json.loads(json.dumps(diff_scene(found(a, b)), allow_nan=False))  # type: ignore[no-any-return]


each_pair = pytest.mark.parametrize(("a", "b"), PAIRS)


# -- the scene ---------------------------------------------------------------------------------------------------------


def unfolded(items: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    """The rows of items from top to bottom."""
    for item in items:
        for each in item.get("rounds", []):
            yield from unfolded(each)
        yield from item.get("rows", [])


def repeats(items: Sequence[Mapping[str, Any]]) -> Iterator[list[list[int]]]:
    """The rows of every round of everything that repeats."""
    for item in items:
        rounds = item.get("rounds", [])
        if rounds:
            yield [list(unfolded(each)) for each in rounds]
        for each in rounds:
            yield from repeats(each)


@each_pair
def test_items_are_every_row_once_in_order(a: str, b: str) -> None:
    scene = drawn(a, b)
    assert list(unfolded(scene["items"])) == list(range(len(scene["rows"])))
    for side, graph in (("a", load(a)), ("b", load(b))):
        names = [row[side]["name"] for row in scene["rows"] if row[side]]
        assert Counter(names) == Counter({node.block or node.id: 1 for node in graph.nodes})
        places = [r[f"{side}_position"] for r in scene["rows"] if r["region"] == LAYERS and r[side]]
        assert places == list(range(len(graph.blocks[LAYERS])))


@each_pair
def test_rounds_are_alike_in_all_that_is_shown(a: str, b: str) -> None:
    scene = drawn(a, b)
    for first, *others in repeats(scene["items"]):
        for other in others:
            assert [looks(scene["rows"][i]) for i in first] == [looks(scene["rows"][i]) for i in other]


def looks(row: Mapping[str, Any]) -> Any:
    sides = [side and {k: v for k, v in side.items() if k != "name"} for side in (row["a"], row["b"])]
    return row["status"], row["fields"], row["changes"], row["region"], sides


@each_pair
def test_runs_hide_nothing_but_what_a_dim_of_the_whole_model_does(a: str, b: str) -> None:
    scene = drawn(a, b)
    for item in lines(scene["items"]):
        if len(item["rows"]) > 1:
            rows = [scene["rows"][i] for i in item["rows"]]
            assert {row["status"] for row in rows} == {"same"} and len({row["region"] for row in rows}) == 1
            assert {scene["changes"][n]["kind"] for row in rows for n in row["changes"]} <= {"dim"}


def lines(items: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Items that do not repeat, all of them."""
    for item in items:
        if "rounds" in item:
            yield from (inner for each in item["rounds"] for inner in lines(each))
        else:
            yield item


@each_pair
def test_params_of_rows_are_those_of_the_graphs(a: str, b: str) -> None:
    scene = drawn(a, b)
    for side, graph in (("a", load(a)), ("b", load(b))):
        counted = sum(row[side]["params"] for row in scene["rows"] if row[side])
        sheet = archc.cost(graph).params
        assert counted == sheet.total + sheet.mtp
        for row in scene["rows"]:
            if row[side]:
                nodes = graph.block_nodes(row["region"], row[side]["name"]) or (graph.by_id[row[side]["name"]],)
                assert row[side]["params"] == sum(map(elements, nodes))


def elements(node: Node) -> int:
    """Parameters of a node, its axes multiplied."""
    shapes = [] if node.owner else [param.shape for param in node.op.params()]
    return sum(map(math.prod, shapes))


@each_pair
def test_shares_sum_to_the_whole_difference(a: str, b: str) -> None:
    scene = drawn(a, b)
    sheets = archc.cost(load(a), hardware="8xb200", context="8k"), archc.cost(load(b), hardware="8xb200", context="8k")
    for figure in scene["effect"]["figures"]:
        if "shares" not in figure:
            continue
        assert len(figure["shares"]) == len(scene["changes"])
        whole = figure["b"] - figure["a"]
        if figure["unit"] == "seconds":
            assert sum(figure["shares"]) == pytest.approx(whole, rel=1e-9, abs=1e-15)
        else:
            assert sum(figure["shares"]) == whole, figure["words"]
    by_words = {figure["words"]: figure for figure in scene["effect"]["figures"]}
    assert [by_words["parameters"][s] for s in "ab"] == [sheet.params.total for sheet in sheets]
    assert [by_words["resident"][s] for s in "ab"] == [sheet.memory.resident_bytes for sheet in sheets]
    assert [by_words["peak"][s] for s in "ab"] == [sheet.memory.peak_bytes for sheet in sheets]
    assert [by_words["prefill time"][s] for s in "ab"] == pytest.approx([s.latency.prefill_s for s in sheets])  # type: ignore[union-attr]


@each_pair
def test_rows_know_the_changes_that_tell_of_them(a: str, b: str) -> None:
    scene = drawn(a, b)
    told = {n for row in scene["rows"] for n in row["changes"]}
    steps = {n for n, c in enumerate(scene["changes"]) if c["kind"] in ("formats", "mtp")}
    assert told | steps == set(range(len(scene["changes"])))
    for n, change in enumerate(scene["changes"]):
        mine = [row for row in scene["rows"] if n in row["changes"]]
        if change["kind"] in ("dropped", "added", "replaced"):
            assert [row["status"] for row in mine] == [change["kind"]] * len(change["edits"])
        if change["kind"] == "field" and change["region"]:
            assert {(row["a_position"], row["b_position"]) for row in mine} >= {
                (e["a"], e["b"]) for e in change["edits"]
            }
            assert all(row["status"] == "changed" for row in mine)
    for row in scene["rows"]:
        assert row["status"] == "same" or row["changes"], row


def test_a_dim_of_the_whole_model_tells_of_what_has_it() -> None:
    scene = drawn("nemotron-nano-12b-v2", "nemotron-nano-9b-v2")
    assert all(1 in row["changes"] for row in scene["rows"]) and scene["changes"][1]["field"] == "d_model"
    other = dataclasses.replace(spec_from_graph(load("tiny-dense")), vocab=640)
    wider = diff_scene(archc.diff("tiny-dense", other.graph()))
    assert [row["a"]["name"] for row in wider["rows"] if row["changes"]] == ["embedding", "lm_head"]


def test_a_link_and_a_tie_tell_of_their_rows() -> None:
    graph = load("tiny-dense")
    tied = dataclasses.replace(spec_from_graph(graph), tied=not spec_from_graph(graph).tied).graph()
    scene = diff_scene(archc.diff(graph, tied))
    assert {row["a"]["name"] for row in scene["rows"] if row["changes"]} == {"lm_head"}


# -- the page ----------------------------------------------------------------------------------------------------------


@each_pair
def test_a_page_is_one_file_that_asks_for_nothing(a: str, b: str) -> None:
    text = diff_page(found(a, b))
    assert read_alone(text) == {**drawn(a, b), "weights": []}
    assert len(text) < 200_000


def test_a_page_and_a_picture_are_the_same_each_time() -> None:
    a, b = "tiny-moe", "tiny-latent"
    again = archc.diff(a, b, hardware="8xb200", context="8k")
    assert diff_page(again) == diff_page(found(a, b)) and diff_picture(again) == diff_picture(found(a, b))


def renamed(graph: Graph, name: str) -> Graph:
    """A graph called `name`, its layer 0 too, and its head `name` with a dot before it."""
    head = f".{name}"

    def other(node_id: str) -> str:
        return head if node_id == "lm_head" else re.sub(r"^L0\.", lambda _: f"{name}.", node_id)

    nodes = tuple(
        dataclasses.replace(
            node,
            block=name if node.block == "L0" else node.block,
            role=head if node.id == "lm_head" else node.role,
            inputs=tuple(map(other, node.inputs)),
            owner=other(node.owner),
        )
        for node in graph.nodes
    )
    outputs = tuple((out, other(source)) for out, source in graph.outputs)
    return dataclasses.replace(graph, name=name, nodes=nodes, outputs=outputs)


def hostile(name: str) -> Diff:
    """A diff of models, a layer and a node with that name."""
    return archc.diff(renamed(load("tiny-moe"), name), renamed(load("tiny-latent"), name))


@pytest.mark.parametrize("name", ["".join(HOSTILE), "a\"b'c\nd", CONTROLS])
def test_names_stay_text_on_the_page(name: str) -> None:
    plain, read = Reader(diff_page(found("tiny-moe", "tiny-latent"))), Reader(diff_page(hostile(name)))
    assert [tag for tag, _ in read.elements] == [tag for tag, _ in plain.elements]
    assert read.texts["script"][1] == plain.texts["script"][1]
    data = json.loads(read.texts["script"][0])
    assert data["a"] == data["b"] == name
    assert name in {row["a"]["name"] for row in data["rows"] if row["a"]}
    assert not set("<>&") & set(read.texts["script"][0])


# -- the picture -------------------------------------------------------------------------------------------------------


@each_pair
def test_a_picture_has_a_bar_for_every_layer(a: str, b: str) -> None:
    diff = found(a, b)
    text = diff_picture(diff)
    check_picture(text)
    rows = [row for row in diff.rows if row.region == LAYERS]
    bars = [rect for rect in shapes(text, "rect") if rect.get("class", "") in ("", "gone", "new")]
    y, height = ([float(bar.attrib[name]) for bar in bars] for name in ("y", "height"))
    layers = [len(graph.blocks[LAYERS]) for graph in (diff.a, diff.b)]
    ends = Counter(round(top + tall, 1) for top, tall in zip(y[: layers[0]], height, strict=False))
    assert len(bars) == sum(layers) and len(ends) == 1, "bars of A stand on one line"
    assert len(set(y[layers[0] :])) == 1, "bars of B hang from one line"
    styles = Counter(bar.get("class", "") for bar in bars)
    status = Counter(row.status for row in rows)
    assert (styles["gone"], styles["new"]) == (status["dropped"], status["added"])
    ties = Counter(path.attrib["class"] for path in shapes(text, "path"))
    assert ties == Counter(
        {f"tie {s}".removesuffix(" same"): n for s, n in status.items() if s not in ("dropped", "added")}
    )
    words = " ".join(node.text or "" for node in shapes(text, "text"))
    for change in diff.changes:
        assert change.words.replace("\n", " ") in words


def test_dropped_layers_are_dashed() -> None:
    text = diff_picture(found("nemotron-nano-12b-v2", "nemotron-nano-9b-v2"))
    assert re.search(r"\.gone \{[^}]*fill: none;[^}]*stroke-dasharray", text)
    assert text.count('class="gone"') == 6


def test_the_last_bar_of_a_waterfall_is_b() -> None:
    diff = found("nemotron-h-8b", "nemotron-h-4b")
    words = [node.text for node in shapes(diff_picture(diff), "text")]
    for figure in FIGURES:
        if figure.name in ("params", "resident_bytes", "decode_s"):
            assert figure.written(diff.effect.last[figure.name]) in words
    whole = [float(r.attrib["width"]) for r in shapes(diff_picture(diff), "rect") if r.get("class") == "whole"]
    assert whole[1] / whole[0] == pytest.approx(diff.effect.last["params"] / diff.effect.first["params"], rel=1e-3)


@pytest.mark.parametrize("name", ["".join(HOSTILE), CONTROLS, "W" * 500, "x" * 500, "漢" * 200])
def test_names_stay_text_in_the_picture(name: str) -> None:
    check_picture(diff_picture(hostile(name)))


# -- the command -------------------------------------------------------------------------------------------------------

SPEC = """archc: 1
name: small
d_model: 64
vocab: 256
blocks:
  "*": {attention: {n_heads: 4, n_kv_heads: 2, head_dim: 16}}
  "-": {mlp: {d_ff: 96}}
layers: "*-*-"
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`archc diff` in a folder with two specs, the IR of one, and what is no model."""
    (folder / "a.yaml").write_text(SPEC)
    (folder / "b.yaml").write_text(SPEC.replace("96", "64").replace('"*-*-"', '"*-*"').replace("small", "less"))
    (folder / "a.ir").write_text(archc.ir.text.print_graph(load(folder / "a.yaml")))
    (folder / "bad.yaml").write_text("archc: 1\nname: x\n")
    command = [sys.executable, "-m", "archc", "diff", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def written(folder: Path) -> set[str]:
    """What a command left beside what it was given."""
    return {path.name for path in folder.iterdir()} - {"a.yaml", "b.yaml", "a.ir", "bad.yaml"}


def test_html_svg_and_patch_in_one(tmp_path: Path) -> None:
    files = ("--html", "d.html", "--svg", "d.svg", "--patch", "d.yaml", "--context", "1k")
    shown = run(tmp_path, "a.yaml", "b.yaml", *files)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert sorted(shown.stderr.splitlines()) == ["wrote d.html", "wrote d.svg", "wrote d.yaml"]
    diff = archc.diff(tmp_path / "a.yaml", tmp_path / "b.yaml", context="1k")
    assert (tmp_path / "d.html").read_text() == diff_page(diff)
    assert (tmp_path / "d.svg").read_text() == diff_picture(diff)
    assert not archc.diff(tmp_path / "d.yaml", tmp_path / "b.yaml") and load(tmp_path / "d.yaml").name == "less"
    same = run(tmp_path, "a.yaml", "a.ir", "--html", "d.html")
    assert same.returncode == 0 and "nothing" in (tmp_path / "d.html").read_text()


def test_a_patch_lies_where_it_is_written_and_names_a_from_there(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert run(tmp_path, "a.yaml", "b.yaml", "--patch", "sub/p.yaml").returncode == 1
    assert 'extends: "../a.yaml"' in (tmp_path / "sub" / "p.yaml").read_text()
    assert not archc.diff(tmp_path / "sub" / "p.yaml", tmp_path / "b.yaml")


def test_a_patch_to_standard_output(tmp_path: Path) -> None:
    shown = run(tmp_path, "a.yaml", "b.yaml", "--patch", "-")
    assert (shown.returncode, shown.stderr, written(tmp_path)) == (1, "", set())
    assert shown.stdout.startswith("archc: 1\nname: less\nextends: a.yaml\nchanges:\n")
    (tmp_path / "p.yaml").write_text(shown.stdout)
    assert not archc.diff(tmp_path / "p.yaml", tmp_path / "b.yaml")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("a.ir", "b.yaml", "--patch", "p.yaml", "--html", "d.html"), "error: `a.ir` is no spec"),
        (("a.yaml", "nowhere", "--html", "d.html"), "error: "),
        (("a.yaml", "b.yaml", "--html", "no/d.html"), "error: no/d.html: No such file or directory"),
        (("a.yaml", "b.yaml", "--hardware", "abacus", "--svg", "d.svg"), "error: "),
        (("a.yaml", "bad.yaml", "--patch", "p.yaml"), "error: "),
    ],
)
def test_trouble_is_said_in_a_line_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...], error: str
) -> None:
    shown = run(tmp_path, *arguments)
    assert (shown.returncode, shown.stdout, written(tmp_path)) == (2, "", set())
    assert shown.stderr.startswith(error) and "Traceback" not in shown.stderr


def test_json_is_what_python_has(tmp_path: Path) -> None:
    shown = run(tmp_path, "a.yaml", "b.yaml", "--json")
    told = json.loads(shown.stdout)
    assert shown.returncode == 1
    assert told == json.loads(json.dumps(archc.diff(tmp_path / "a.yaml", tmp_path / "b.yaml").to_json()))
    assert list(told) == ["a", "b", "same", "aligned_by", "open", "changes", "effect", "rows"]
    same = run(tmp_path, "a.yaml", "a.ir", "--json")
    assert same.returncode == 0 and json.loads(same.stdout)["same"] is True


def test_units_of_a_node_in_no_block() -> None:
    graph = load("tiny-dense")
    (node,) = unit_nodes(graph, "", "lm_head")
    assert node.id == "lm_head" and unit_params((node,)) == elements(node)
