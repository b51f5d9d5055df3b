"""`archc show --svg`: what every picture has to be, and what is in it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import archc
from archc import zoo
from archc.cli import app
from archc.ir.graph import LAYERS
from archc.resolve import load
from archc.units import format_params, format_size
from archc.viz.overlay import Overlay, Units
from archc.viz.picture import heat, picture
from archc.viz.svg import Canvas, fitted, text_width

SVG = "{http://www.w3.org/2000/svg}"
TAGS = {"svg", "title", "style", "text", "rect", "path", "circle"}
HOSTILE = ("</script><script>alert(1)</script>", "a\x00b\x07\n\u202ec]]>", "&lt;\"'\ud800", "W" * 500, "漢" * 300)
ULTRA = "nemotron-3-ultra-550b-a55b"


def shapes(text: str, tag: str) -> list[ElementTree.Element]:
    """All shapes of a picture of one tag."""
    return list(ElementTree.fromstring(text).iter(f"{SVG}{tag}"))


def check_picture(text: str) -> None:
    """A picture is well-formed, does nothing, and its texts and bars lie within it."""
    root = ElementTree.fromstring(text)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert {node.tag.removeprefix(SVG) for node in root.iter()} <= TAGS
    for node in root.iter():
        assert not [name for name in node.attrib if name.startswith("on") or "href" in name]
        assert not re.search(r"\b(nan|inf)\b", " ".join(node.attrib.values()))
    for node in root.iter(f"{SVG}text"):
        wide = text_width(node.text or "", float(node.attrib["font-size"]))
        before = {"middle": wide / 2, "end": wide}.get(node.attrib.get("text-anchor", ""), 0)
        start = float(node.attrib["x"]) - before
        assert start >= 0 and start + wide <= width, node.text
        assert 0 < float(node.attrib["y"]) < height
    for node in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(node.attrib[name]) for name in ("x", "y", "width", "height"))
        assert min(x, y) >= 0 and x + w <= width and y + h <= height
    assert "@media (prefers-color-scheme: dark)" in text and not re.search(r"url\(|@import", text)


def words(text: str) -> list[str]:
    """All texts of a picture."""
    return [node.text or "" for node in shapes(text, "text")]


@pytest.mark.parametrize("name", zoo.names())
def test_a_picture_of_every_model(name: str) -> None:
    graph = load(name)
    text = picture(graph)
    check_picture(text)
    assert text == picture(graph)
    titles = [title for title in (rect.findtext(f"{SVG}title") for rect in shapes(text, "rect")) if title]
    assert [title.split(":")[0] for title in titles] == [f"layer {i}" for i in range(len(graph.blocks[LAYERS]))]
    sheet, said = archc.cost(graph, context="8k"), words(text)
    assert said[0] == name
    assert said[1].startswith(f"{format_params(sheet.params.total)} parameters")
    assert f"weights {format_size(sheet.memory.weights_bytes)} in {sheet.formats['weights']}" in said[1]
    assert any("active" in word for word in said[1:2]) == (sheet.params.active != sheet.params.total)


@pytest.mark.parametrize("name", zoo.names())
def test_shares_of_the_parameters_are_of_all(name: str) -> None:
    said = words(picture(load(name)))
    shares = [float(word[:-1]) for word in said if re.fullmatch(r"\d+\.\d%", word)]
    assert sum(shares) == pytest.approx(100, abs=0.5) and shares == sorted(shares, reverse=True)


def test_what_a_token_of_context_adds() -> None:
    graph = load("nemotron-nano-9b-v2")
    growing, memory = 4 * 2 * 8 * 128 * 2, archc.cost(graph, context=1).memory
    fixed = memory.ssm_bytes + memory.conv_bytes
    told = f"state of a sequence at 8k: {format_size(growing)} a token and {format_size(fixed)} fixed"
    assert told in words(picture(graph))


def test_a_window_of_attention_is_fixed_state() -> None:
    """Of gpt-oss-20b's 24 attentions every other one keeps 128 tokens of 8 heads of 64, keys and values in 2 bytes."""
    token = 2 * 8 * 64 * 2
    told = f"state of a sequence at 8k: {format_size(12 * token)} a token and {format_size(12 * 128 * token)} fixed"
    assert told in words(picture(load("gpt-oss-20b")))


def overlay(title: str, **scores: float) -> Overlay:
    return Overlay(title, {f"{block}.mixer": {"*": score, "d_ff": Units((1.0,))} for block, score in scores.items()})


def fills(text: str) -> list[str]:
    """Colours of the layers' bars."""
    return [rect.attrib["fill"] for rect in shapes(text, "rect") if rect.find(f"{SVG}title") is not None]


def test_the_first_overlay_that_has_scores_gives_colours() -> None:
    graph = load("tiny-hybrid")
    none = Overlay("none", {"L0.mixer": {"d_state": Units((1.0, 2.0))}})
    text = picture(graph, [none, overlay("score", L0=0.0, L1=1.0, L2=0.5), overlay("other", L0=9.0)])
    check_picture(text)
    assert fills(text)[:3] == [heat(score, 0.0, 1.0).fill for score in (0.0, 1.0, 0.5)]
    assert len({*fills(text)[3:]} | {*fills(text)[:3]}) == 4, "layers without score are plain"
    assert "Colour: score, 0 to 1" in words(text)
    assert picture(graph, [none]) == picture(graph)


@pytest.mark.parametrize("scores", [{"L0": 1.0}, {"L0": -1e300, "L1": 1e300}, {"L0": 0.0, "L1": 0.0}])
def test_any_scores_can_be_drawn(scores: dict[str, float]) -> None:
    check_picture(picture(load("tiny-hybrid"), [overlay("score", **scores)]))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("model", ["tiny-hybrid", ULTRA])
def test_names_stay_text(name: str, model: str) -> None:
    check_picture(picture(dataclasses.replace(load(model), name=name), [overlay(name, L0=1.0)]))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_canvas_takes_any_text(text: str) -> None:
    canvas = Canvas(200)
    canvas.text(10, 20, text, width=180)
    canvas.rect(0, 0, 10, 10, title=text)
    root = ElementTree.fromstring(canvas.svg(40, text))
    assert Counter(node.tag.removeprefix(SVG) for node in root) == {"title": 1, "style": 1, "text": 1, "rect": 1}


def test_texts_are_cut_to_fit() -> None:
    assert fitted("short", 100, 12) == "short"
    for width in range(200):
        cut = fitted("a rather long text with words", width, 12)
        assert not cut or text_width(cut, 12) <= width
    assert fitted("long", 1, 12) == ""


def test_a_model_without_layers(tmp_path: Path) -> None:
    lines = ["archc graph 1", "name none", "dim vocab = 32 fixed", "dim d_model = 8", "input tokens [batch, tokens]"]
    lines += ["embedding = embedding(tokens)", "lm_head = lm_head(embedding)", "output logits = lm_head", ""]
    (tmp_path / "none.ir").write_text("\n".join(lines))
    text = picture(load(tmp_path / "none.ir"))
    check_picture(text)
    assert not fills(text)


# -- the command -------------------------------------------------------------------------------------------------------


def test_archc_show_svg(tmp_path: Path) -> None:
    scores = {"archc_overlay": 1, "title": "<b>", "nodes": {"L0.mixer": {"*": 1.0}, "L2.mixer": {"*": 2.0}}}
    (tmp_path / "o.json").write_text(json.dumps(scores))
    file = tmp_path / "tiny.svg"
    shown = CliRunner().invoke(app, ["show", "tiny-hybrid", "--svg", str(file), "--overlay", str(tmp_path / "o.json")])
    assert shown.exit_code == 0 and not shown.stdout
    given = Overlay("<b>", {"L0.mixer": {"*": 1.0}, "L2.mixer": {"*": 2.0}})
    assert file.read_text(encoding="utf-8") == picture(load("tiny-hybrid"), [given])
    assert CliRunner().invoke(app, ["show", "tiny-hybrid", "--svg", "-"]).stdout == picture(load("tiny-hybrid"))


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "archc", "show", "tiny-hybrid", "--svg", str(tmp_path / "no" / "x.svg")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "") and run.stderr.endswith("No such file or directory\n")
    assert not list(tmp_path.iterdir())
