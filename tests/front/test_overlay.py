"""Overlays: the form that docs/overlay.md describes is read, written back, and held against the graph."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.ir.formats import get_format
from archc.ir.graph import Graph
from archc.kernels.errors import ParseError, SpecErrors
from archc.resolve import load
from archc.viz.overlay import Choices, Overlay, Units, load_overlays, overlay_json

PAGE = Path(__file__).resolve().parents[2] / "docs/overlay.md"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return load("tiny-hybrid")


def write(folder: Path, nodes: Any, **fields: Any) -> Path:
    """A file of the given nodes; fields replace those of a sound overlay."""
    file = folder / "overlay.json"
    file.write_text(json.dumps({"archc_overlay": 1, "title": "t", "nodes": nodes, **fields}), encoding="utf-8")
    return file


def problems(graph: Graph, file: Path) -> list[str]:
    """What is wrong with a file, without its name."""
    with pytest.raises(SpecErrors) as caught:
        load_overlays([file], graph)
    assert all(str(error).startswith(f"{file}: ") for error in caught.value.errors)
    return [str(error).removeprefix(f"{file}: ") for error in caught.value.errors]


def test_the_page_s_example_is_read(graph: Graph, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "example.json").write_text(example, encoding="utf-8")
    (overlay,) = load_overlays([tmp_path / "example.json"], graph)
    assert overlay.title == "activation importance"
    assert overlay.nodes["L1.mixer"]["*"] == 0.41
    assert overlay.nodes["L1.mixer"]["d_ff"] == Choices((64, 128, 192))
    assert overlay.nodes["L1.mixer"]["up_proj"] == get_format("nvfp4")
    assert overlay.nodes["L0.mixer"]["heads_per_group"] == Units((0.9, 0.2, 0.4, 0.5))


finite = st.floats(allow_nan=False, allow_infinity=False)
moe_values = st.fixed_dictionaries(
    {},
    optional={
        "*": finite,
        "experts": st.lists(finite, min_size=8, max_size=8).map(lambda v: Units(tuple(v))),
        "d_ff": st.sets(st.integers(1, 192), min_size=1).map(lambda sizes: Choices(tuple(sorted(sizes)))),
        "up_proj": st.sampled_from(["fp8", "nvfp4", "bf16"]).map(get_format),
    },
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["L1.mixer", "L4.mixer", "M1.mixer"]), moe_values), st.booleans())
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, nodes: Any, bound: bool) -> None:
    graph = load("tiny-hybrid")
    overlay = Overlay("load of experts", nodes, graph.hash if bound else "")
    file = tmp_path_factory.mktemp("overlay") / "o.json"
    file.write_text(overlay_json(overlay), encoding="utf-8")
    assert load_overlays([file], graph) == (overlay,)


def test_a_hash_may_be_a_prefix_and_must_be_the_graph_s(graph: Graph, tmp_path: Path) -> None:
    (overlay,) = load_overlays([write(tmp_path, {}, graph=graph.hash[:8])], graph)
    assert overlay.graph == graph.hash[:8]
    (short,) = problems(graph, write(tmp_path, {}, graph=graph.hash[:7]))
    assert short.startswith("graph: expected a graph's hash, at least 8 digits of it")
    (other,) = problems(graph, write(tmp_path, {}, graph="0" * 64))
    assert other.startswith("graph: made for another graph") and graph.hash[:12] in other


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"L1.mixr": {}}, "nodes: no node has the id `L1.mixr`: did you mean `L1.mixer`?"),
        ({"layers.1.mixer": {}}, "nodes: no node has the id `layers.1.mixer`: did you mean `L1.mixer`?"),
        ({"L1.mixer": 3}, "nodes.L1.mixer: expected an object of keys and their values, got `3`"),
        ({"L1.mixer": {"*": "high"}}, "nodes.L1.mixer.*: expected a finite number, got `\"high\"`"),
        ({"L1.mixer": {"*": True}}, "nodes.L1.mixer.*: expected a finite number, got `true`"),
        ({"L1.mixer": {"*": float("nan")}}, "nodes.L1.mixer.*: expected a finite number, got `NaN`"),
        ({"L1.mixer": {"*": 10**400}}, "nodes.L1.mixer.*: expected a finite number, got `1000"),
        ({"L1.mixer": {"expert": [1]}}, "nodes.L1.mixer.expert: moe has no such dim or parameter: did you mean"),
        ({"L1.mixer": {"experts": [1, 2]}}, "nodes.L1.mixer.experts: expected 8 numbers, got 2"),
        ({"L1.mixer": {"d_ff": [1]}}, "nodes.L1.mixer.d_ff: expected 192 numbers or 1536 (8 rows), got 1"),
        ({"L1.mixer": {"experts": [0, 1, None, "a", 4, 5, 6, 7]}},
         "nodes.L1.mixer.experts[2]: expected a finite number, got nothing, and 1 more like it"),
        ({"L1.mixer": {"experts": 0.5}}, 'nodes.L1.mixer.experts: expected a list of numbers or {"choices": [sizes]}'),
        ({"L1.mixer": {"experts": {"choices": [4, 9]}}},
         "nodes.L1.mixer.experts.choices[1]: expected a size from 1 to 8, got `9`"),
        ({"L1.mixer": {"experts": {"choices": []}}}, "nodes.L1.mixer.experts.choices: expected at least one size"),
        ({"L1.mixer": {"up_proj": "nvfp5"}}, "nodes.L1.mixer.up_proj: unknown format `nvfp5`: did you mean `nvfp4`?"),
        ({"L1.mixer": {"up_proj": [1]}}, "nodes.L1.mixer.up_proj: expected the name of a format, got a list"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_place(graph: Graph, tmp_path: Path, nodes: Any, message: str) -> None:
    (told,) = problems(graph, write(tmp_path, nodes))
    assert told.startswith(message)


def test_everything_wrong_is_told_at_once(graph: Graph, tmp_path: Path) -> None:
    nodes = {"L1.mixer": {"*": None, "up_proj": "x"}, "L99.mixer": {}}
    told = problems(graph, write(tmp_path, nodes, title="a\x1b[31m", graf="x", archc_overlay=2))
    assert len(told) == 6
    assert "unknown field `graf`: did you mean `graph`?" in told
    assert not any("\x1b" in message for message in told)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "1:2: not JSON"), ("[1]", "expected an overlay"), ('{"a": 1, "a": 2}', "2 times")]
)
def test_what_is_no_overlay_is_refused(graph: Graph, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "o.json").write_text(text, encoding="utf-8")
    with pytest.raises((ParseError, SpecErrors), match=message):
        load_overlays([tmp_path / "o.json"], graph)
