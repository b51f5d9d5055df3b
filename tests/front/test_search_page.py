"""A finished search: its scene, page, picture and terminal view, and `archc show RUN`.

test_search_page_browser.py opens the page."""

from __future__ import annotations

import copy
import io
import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import archc as library
from archc.cli import app
from archc.kernels.errors import ArchcError
from archc.resolve import load
from archc.searching.folder import RESULTS, read_results, results_text
from archc.searching.pick import picked
from archc.viz.plane import Axis, Plane
from archc.viz.scatter import print_plane
from archc.viz.search_page import search_page
from archc.viz.search_picture import search_picture
from archc.viz.search_scene import column_text, search_scene, written
from archc.viz.search_terminal import print_search
from tests.front.pages import HOSTILE, Reader, read_alone
from tests.front.screens import ANSI, Screen, archc, lines
from tests.front.test_picture import check_picture, shapes, words

SEARCH = """archc_search: 1
name: {name}
base: tiny-hybrid
space:
  d_model: {{from: 32, to: 256, step: 16}}
  moe.d_ff: {{from: 16, to: 256, step: 16}}
  attention.n_heads: [2, 4, 8, 12]
budgets:
  - "params.total <= 3M"
  - "memory.activation <= 8MiB at {{context: 4k}}"
  - "memory.resident <= 12MiB at {{context: 1k, batch: 1}}"
  - "memory.resident <= 12MiB at {{context: 4k, batch: 1}}"
objectives:
  - "maximize params.total"
  - "minimize latency.decode at {{hardware: a10g, context: 4k, batch: 1}}"
keep: 60
"""


def searched(folder: Path, name: str = "tiny") -> Path:
    """The folder of a search, made by the command."""
    (folder / "search.yaml").write_text(SEARCH.format(name=json.dumps(name)), encoding="utf-8")
    archc("search", folder / "search.yaml", "-o", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="module")
def results(run: Path) -> dict[str, Any]:
    return dict(read_results(run))


@pytest.fixture(scope="module")
def scene(results: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(search_scene(results, "run"), allow_nan=False))  # type: ignore[no-any-return]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal of 80 columns."""
    return Screen(monkeypatch)


def laddered(results: dict[str, Any]) -> dict[str, Any]:
    """The results as if candidates had climbed a ladder: some with scores, one that failed, the best of them named."""
    made = copy.deepcopy(results)
    for i, candidate in enumerate(made["candidates"]):
        candidate["scores"] = {"proxy": 1.0 + i, **({"zero_shot": 3.0 - i / 100} if i < 5 else {})}
    made["candidates"][2] |= {"scores": {"proxy": 3.0}, "failed": {"zero_shot": "<b>no weights</b>"}}
    return {**made, "best": made["candidates"][4]["name"], "notes": ["a note"], "rungs": [{"name": "proxy", "keep": 5}]}


OPTIONS = """\
archc_search: 1
name: wide
base: tiny-hybrid
space:
  d_model: {from: 64, to: 128, step: 32}
  attention.rope: [none, {theta: 10000.0}]
  attention.rope.theta: {values: [5000.0, 10000.0], when: {attention.rope: [{theta: 10000.0}]}}
  layers.attention: {from: 1, to: 2}
  place.attention: [0, 4, 8]
ranking: [3]
objectives: [maximize params.total, "minimize latency.decode at {hardware: a10g, context: 1k}"]
compare: [tiny-moe, tiny-hybrid]
candidates: 300
keep: 40
"""


def with_options(folder: Path) -> Path:
    """The folder of a search of more than sizes, beside two models."""
    (folder / "search.yaml").write_text(OPTIONS, encoding="utf-8")
    archc("search", folder / "search.yaml", "-o", folder / "run")
    return folder / "run"


def with_library(results: dict[str, Any], layers: int = 6, odd: str = "<b>odd") -> dict[str, Any]:
    """The results as if they were of a search for variants: one variant of an odd name, one that could not be measured,
    one that gains, losses of many orders of magnitude."""
    made = copy.deepcopy(results)
    variants = [["keep", "drop", "narrow"], ["keep", odd]]
    losses = [[0.0, 2.0, 1e-9], [0.0, -0.25]]

    def row(layer: int, place: int) -> dict[str, Any]:
        failed = odd if layer == 2 and place == 1 else ""
        loss = None if failed else losses[layer % 2][place] * (1 + layer)
        return {"layer": layer + 10, "variant": variants[layer % 2][place], "loss": loss, "failed": failed}

    made["library"] = [[row(layer, i) for i in range(len(variants[layer % 2]))] for layer in range(layers)]
    for n, candidate in enumerate((made["base_figures"], *made["candidates"])):
        some = [variants[layer % 2][(n + layer) % 2 if n else 0] for layer in range(layers)]
        candidate["variants"] = some
    return {**made, "metric": "kl"}


# -- the scene ---------------------------------------------------------------------------------------------------------


def test_rows_are_the_figures_of_the_models_that_are_built(run: Path, scene: dict[str, Any]) -> None:
    labels = [column["label"] for column in scene["columns"]]
    assert labels == [
        "params.total", "latency.decode", "memory.activation",
        "memory.resident context 1k", "memory.resident context 4k",
        "d_model", "moe.d_ff", "attention.n_heads",
    ]  # fmt: skip
    for candidate in [*scene["candidates"][::17], {"name": "", **scene["base_row"]}]:
        graph = picked(run, candidate["name"]).graph if candidate["name"] else load("tiny-hybrid")
        sheets = [library.cost(graph, hardware="a10g", context=c, batch=1) for c in (4096, 1024)]
        assert sheets[0].latency is not None
        wanted = [sheets[0].params.total, sheets[0].latency.decode_s_per_token, sheets[0].memory.activation_bytes]
        wanted += [sheets[1].memory.resident_bytes, sheets[0].memory.resident_bytes, graph.dims["d_model"].size]
        assert candidate["row"][:6] == pytest.approx(wanted, rel=1e-9)


def test_what_is_limited_and_an_objective_is_one_column(scene: dict[str, Any], results: dict[str, Any]) -> None:
    first = scene["columns"][0]
    assert (first["aim"], first["sense"], first["limit"], first["role"]) == ("maximize", "<=", 3e6, "objective")
    assert len(scene["budgets"]) == 4 and len(results["report"]["importance"]) == 6
    shares = results["report"]["importance"]
    assert scene["importance"] == [shares[i] for i in (0, 1, 3, 4, 5)]
    assert all(len(c["row"]) == len(scene["columns"]) == len(scene["cloud"]["columns"]) for c in scene["candidates"])


def test_candidates_outside_are_marked(results: dict[str, Any]) -> None:
    over = copy.deepcopy(results)
    over["candidates"][0]["violations"][2] = 1.0
    scene = search_scene(over, "run")
    assert [c["fits"] for c in scene["candidates"]].count(False) == 1 and not scene["candidates"][0]["fits"]
    limit = results["report"]["budgets"][2]["limit"]
    assert scene["candidates"][0]["row"][3] == limit + 1


def test_scores_of_rungs_are_columns(results: dict[str, Any]) -> None:
    scene = search_scene(laddered(results), "run")
    labels = [column["label"] for column in scene["columns"]]
    assert labels[5:7] == ["proxy", "zero_shot"] and scene["cloud"]["columns"][5:7] == [None, None]
    assert [c["row"][6] for c in scene["candidates"][:6]] == [3.0, 2.99, None, 2.97, 2.96, None]
    assert scene["candidates"][2]["failed"] == {"zero_shot": "<b>no weights</b>"}
    assert scene["told"][-1] == "a note" and scene["best"] == results["candidates"][4]["name"]


def test_a_library_is_cells_and_what_was_picked_of_it(results: dict[str, Any], scene: dict[str, Any]) -> None:
    made = with_library(results)
    drawn = search_scene(made, "run")["library"]
    assert scene["library"] is None and drawn["layers"] == [10, 11, 12, 13, 14, 15]
    assert drawn["variants"] == ["keep", "drop", "narrow", "<b>odd"]
    told = {(drawn["layers"][i], drawn["variants"][j]): (loss, why) for i, j, loss, why in drawn["cells"]}
    rows = [row for layer in made["library"] for row in layer]
    assert told == {(r["layer"], r["variant"]): (r["loss"], r["failed"]) for r in rows} and len(told) == len(rows)
    for picks, candidate in zip(
        [drawn["base"], *drawn["picks"]], [made["base_figures"], *made["candidates"]], strict=True
    ):
        assert [drawn["variants"][i] for i in picks] == candidate["variants"]
    made["candidates"][0]["variants"][3] = "gone"
    assert search_scene(made, "run")["library"]["picks"][0][3] == -1


def test_the_first_axes_are_objectives_or_what_is_limited(results: dict[str, Any], scene: dict[str, Any]) -> None:
    assert scene["axes"] == [0, 1]
    one = copy.deepcopy(results)
    one["report"]["objectives"].pop()
    one["report"]["history"].pop()
    one["report"]["cloud"]["values"].pop()
    for candidate in (one["base_figures"], *one["candidates"]):
        candidate["values"].pop()
    made = search_scene(one, "run")
    assert [made["columns"][i]["label"] for i in made["axes"]] == ["memory.activation", "params.total"]


def test_nothing_that_is_no_number_breaks_it(results: dict[str, Any]) -> None:
    """A score that the base has not got is NaN; it is stored as null, and drawn nowhere."""
    none = copy.deepcopy(results)
    none["base_figures"]["values"][1] = float("nan")
    none["candidates"][3]["values"][1] = float("inf")
    none["report"]["cloud"]["values"][1][0] = None
    stored = json.loads(results_text(none))
    scene = search_scene(stored, "run")
    plane = Plane.of(scene, 0, 1)
    assert scene["base_row"]["row"][1] is None and not plane.beside
    assert len(plane.front) + len(plane.trials) == len(scene["candidates"]) - 1
    search_page(stored, "run")


# -- the plane ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aims", [("minimize", "minimize"), ("minimize", "maximize"), ("maximize", "minimize")])
def test_the_line_is_the_edge_of_what_is_reached(aims: tuple[str, str]) -> None:
    """Anywhere along it, the best `y` of all candidates whose `x` is as good."""
    rng = np.random.default_rng(5)
    points = rng.random((40, 2))
    signs = np.array([1.0 if aim == "minimize" else -1.0 for aim in aims])
    loss = points * signs
    on = [not ((loss <= one).all(axis=1) & (loss < one).any(axis=1)).any() for one in loss]
    columns = [{"label": n, "unit": "", "role": "objective", "aim": aim} for n, aim in zip("xy", aims, strict=True)]
    candidates = [{"name": str(i), "front": on[i], "row": list(p)} for i, p in enumerate(points)]
    nothing = {"columns": [[], []], "fits": []}
    scene = {"columns": columns, "candidates": candidates, "cloud": nothing, "compared": []}
    scene["base_row"] = {"row": [0.5, 0.5]}
    corners = Plane.of(scene, 0, 1).line
    assert len(corners) == 2 * sum(on) - 1
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        assert x0 == x1 or y0 == y1
        if x0 != x1:
            reached = loss[loss[:, 0] <= signs[0] * (x0 + x1) / 2 + 1e-12, 1].min()
            assert signs[1] * y0 == pytest.approx(reached)
    assert Plane.of(scene, 1, 1).line == ()


def test_a_base_far_away_is_left_out_and_told(scene: dict[str, Any]) -> None:
    assert [name for name, _ in Plane.of(scene, 0, 1).beside] == ["base"]
    far = {**scene, "base_row": {"row": [1e9, *scene["base_row"]["row"][1:]]}}
    plane = Plane.of(far, 0, 1)
    assert not plane.beside and "base" in plane.left_out and plane.x.high < 1e8


def test_marks_are_round_and_in_their_unit() -> None:
    axis = Axis.of({"label": "memory.peak", "unit": "bytes"}, [2**30, 5.5 * 2**30])
    assert axis.title == "memory.peak, GiB" and [text for _, text in axis.marks()] == ["1", "2", "3", "4", "5"]
    assert 0 < axis.at(2**30) < 0.1 and axis.at(5.5 * 2**30) > 0.9
    for values in ([0.0], [7.0, 7.0], [], [-3.0, -3.0]):
        assert list(Axis.of({"label": "x", "unit": "s"}, values).marks())


def test_options_are_told_by_what_they_stand_for(tmp_path: Path, screen: Screen) -> None:
    run = with_options(tmp_path)
    found = read_results(run)
    scene = search_scene(found, "run")
    columns = {c["label"]: c for c in scene["columns"]}
    at = list(columns).index
    rows = [candidate["row"] for candidate in scene["candidates"]]
    rope, theta, second = (at(n) for n in ("attention.rope", "attention.rope.theta", "place.attention.2"))
    assert {column_text(columns["attention.rope"], row[rope]) for row in rows} == {"none", "{theta: 10000.0}"}
    for row in rows:
        assert (row[theta] is None) == (row[rope] == 0) and (row[second] is None) == (row[at("layers.attention")] == 1)
    names = [one["name"] for one in scene["compared"]]
    assert names == ["tiny-moe", "tiny-hybrid"] and [name for name, _ in Plane.of(scene, 0, 1).beside][-1] == names[-1]
    assert scene["compared"][1]["row"][0] == scene["base_row"]["row"][0]
    text = search_page(found, "run")
    assert "<td>tiny-moe</td>" in text and '<td class="number">{theta: 10000.0}</td>' in text
    shown = screen.shows(print_search, found, "run")
    assert "◈ tiny-hybrid" in shown and "{theta: 10000.0}" in shown


# -- the page ----------------------------------------------------------------------------------------------------------


def test_a_page_is_one_file_that_asks_for_nothing(results: dict[str, Any], scene: dict[str, Any]) -> None:
    text = search_page(results, "run")
    assert read_alone(text) == scene
    assert len(text) < 400_000 and "<!--" not in text


def test_front_and_table_are_there_without_scripts(results: dict[str, Any]) -> None:
    read = Reader(search_page(results, "run"))
    rows = [attributes for tag, attributes in read.elements if tag == "tr" and "data-i" in attributes]
    assert [row["data-i"] for row in rows] == ["", *map(str, range(len(results["candidates"])))]
    circles = [x["class"] for tag, x in read.elements if tag == "circle"]
    on_front = sum(c["front"] for c in results["candidates"])
    counts = Counter(circles)
    assert (counts["front"], counts["knee"], counts["trial"]) == (on_front, 1, len(results["candidates"]) - on_front)
    assert results["candidates"][0]["name"] in [text.strip() for text in read.texts["td"]]
    assert written("parameters", results["candidates"][0]["values"][0]) in read.texts["td"]


def test_the_page_of_a_run_is_the_one_that_is_written(run: Path, tmp_path: Path, results: dict[str, Any]) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page == search_page(results, str(run))
    archc("show", run, "--html", tmp_path / "r.html", "--svg", tmp_path / "r.svg")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == page
    assert (tmp_path / "r.svg").read_text(encoding="utf-8") == search_picture(results, str(run))


def test_what_is_left_out_for_a_runtime_is_listed(results: dict[str, Any]) -> None:
    excluded = [{"what": f"d_model {i}", "why": "<i>odd</i>"} for i in range(250)]
    text = search_page({**results, "target": "vllm", "excluded": excluded}, "run")
    assert "250 left out: vllm does not load them" in text and "and 50 more" in text
    assert "d_model 0: &lt;i&gt;odd" in text and "<i>odd" not in text


def renamed(results: dict[str, Any], name: str) -> dict[str, Any]:
    """Results in which everything that people name is called `name`."""
    made = json.loads(json.dumps(results).replace('"moe.d_ff"', json.dumps(name)))
    for candidate in made["candidates"]:
        candidate["name"] = candidate["name"].replace("tiny", name)
        candidate["failed"] = {name: name}
    knee = made["knee"].replace("tiny", name)
    more = {"notes": [name], "target": name, "excluded": [{"what": name, "why": name}]}
    return {**made, "name": name, "base": name, "knee": knee, "best": knee, **more}


@pytest.mark.parametrize("name", ["".join(HOSTILE), "a\"b'c\nd", "a\x00b\x07\n\u202ec]]>"])
def test_names_stay_text(results: dict[str, Any], name: str, screen: Screen) -> None:
    plain, read = (Reader(search_page(renamed(results, n), n)) for n in ("plain", name))
    assert [tag for tag, _ in read.elements] == [tag for tag, _ in plain.elements]
    assert [x.keys() for _, x in read.elements] == [x.keys() for _, x in plain.elements]
    assert read.texts["script"][1] == plain.texts["script"][1]
    data = json.loads(read.texts["script"][0])
    assert data["name"] == data["run"] == name and not set("<>&") & set(read.texts["script"][0])
    check_picture(search_picture(renamed(results, name), name))
    shown = screen.shows(print_search, renamed(results, name), "run", encoding="utf-8", no_color=True)
    assert not set(shown) & set("\x00\x07\u202e\u2028")


def test_a_search_with_a_hostile_name(tmp_path: Path) -> None:
    """From the file to the page, by the command."""
    run = searched(tmp_path, "</script><b> '\"&")
    read = Reader((run / "report.html").read_text(encoding="utf-8"))
    assert "b" not in {tag for tag, _ in read.elements}
    assert json.loads(read.texts["script"][0])["name"] == "</script><b> '\"&"
    assert "</script><b> '\"&-1" in archc("best", run, "--pick", "</script><b> '\"&-1", "-o", tmp_path / "b.yaml")


# -- the picture -------------------------------------------------------------------------------------------------------


def test_a_picture_has_every_candidate(results: dict[str, Any]) -> None:
    text = search_picture(results, "run")
    check_picture(text)
    assert len(shapes(text, "circle")) == len(results["candidates"]) + 1  # the knee twice
    said = words(text)
    assert f"{results['knee']} (knee)" in said and "base" in said and "params.total, M" in said
    for wide in ("W" * 300, "漢" * 100):
        check_picture(search_picture(renamed(results, wide), wide))


# -- on a terminal -----------------------------------------------------------------------------------------------------


def test_a_search_fits_eighty_columns(screen: Screen, results: dict[str, Any]) -> None:
    shown = lines(screen.shows(print_search, results, "run", no_color=True))
    assert ANSI.sub("", shown[0]) == "tiny  around tiny-hybrid"
    assert f"on the front: {sum(c['front'] for c in results['candidates'])}; knee {results['knee']}" in shown
    table = [line.split() for line in shown if re.match(r"(tiny-\d+|base) ", line)]
    assert {row[0] for row in table} >= {"base", "tiny-1", results["knee"]}
    assert any("●" in line and "│" in line for line in shown) and any("◆" in line for line in shown)
    assert any(line.startswith("what decides latency.decode: d_model") for line in shown)
    assert "archc best run --pick knee -o best.yaml" in shown


def test_plain_characters_where_there_are_no_more(screen: Screen, results: dict[str, Any]) -> None:
    shown = screen.shows(print_search, results, "run", encoding="ascii")
    assert "o on the front   K knee" in ANSI.sub("", shown) and ". measured" in ANSI.sub("", shown)
    assert "\x1b[3" in screen.shows(print_search, results, "run", color_system="standard")


def test_many_choices_are_several_tables(screen: Screen, results: dict[str, Any]) -> None:
    many = copy.deepcopy(results)
    report = many["report"]
    report["choices"] += [{"name": f"layers.{i}.mlp.d_ff", "values": [8, 16], "base": 16} for i in range(40)]
    report["cloud"]["ranks"] += [[0] * len(report["cloud"]["order"])] * 40
    report["by_chance"] += [0.0] * 40
    report["importance"] = [[*row, *[0.0] * 40] for row in report["importance"]]
    for n, candidate in enumerate((many["base_figures"], *many["candidates"])):
        candidate["point"] |= {f"layers.{i}.mlp.d_ff": 8 if (n + i) % 3 and i else 16 for i in range(40)}
    shown = screen.shows(print_search, many, "run")
    assert "the same in all of them: layers.0.mlp.d_ff 16 (base 16)" in shown and "columns more; --json" in shown
    search_page(many, "run")


def test_scores_and_the_best_are_told(screen: Screen, results: dict[str, Any]) -> None:
    shown = screen.shows(print_search, laddered(results), "run")
    assert "zero_shot" in shown and "tiny-5 (best)" in shown and "a note" in shown


def test_a_plane_with_nothing_on_it() -> None:
    empty = Plane(*(Axis.of({"label": n, "unit": ""}, []) for n in "xy"), (), (), (), (), (), (), "")
    out = Console(file=io.StringIO(), width=80)
    print_plane(out, empty, "", width=60, height=5)
    assert isinstance(out.file, io.StringIO) and out.file.getvalue().count("│") == 5


# -- the command -------------------------------------------------------------------------------------------------------


def test_json_is_what_the_folder_has(run: Path) -> None:
    stored = json.loads((run / RESULTS).read_text(encoding="utf-8"))
    assert json.loads(archc("show", run, "--json")) == stored == json.loads(results_text(stored))
    again = json.loads(archc("search", run.parent / "search.yaml", "-o", run, "--json"))
    assert {**again, "seconds": 0} == {**stored, "seconds": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "--stats"), "--stats: of a search there are --html, --svg and --json"),
        (("show", "--layer", "3"), "--layer: of a search there are"),
        (("show", "--dot", "-"), "--dot: of a search there are"),
        (("show", "--html", "-", "--json"), "--html and --json exclude one another"),
    ],
)
def test_options_that_a_search_has_not(run: Path, arguments: tuple[str, ...], message: str) -> None:
    command, *options = arguments
    result = CliRunner().invoke(app, [command, str(run), *options], env={"COLUMNS": "200"})
    assert result.exit_code == 2 and message in ANSI.sub("", result.stderr)


def test_a_search_is_no_model(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchcError, match=r"is a search, no model: `archc best .* -o best.yaml`"):
        load(run)
    (tmp_path / "study.log").write_text("")
    with pytest.raises(ArchcError, match="not the folder of a finished search"):
        read_results(tmp_path)
    (tmp_path / RESULTS).write_text('{"archc_search_results": 0}')
    with pytest.raises(ArchcError, match="another version of archc"):
        read_results(tmp_path)
    (tmp_path / RESULTS).write_text("[")
    with pytest.raises(ArchcError, match="not the folder of a finished search"):
        read_results(tmp_path)
