"""The page of `archc diff --html` in a real browser: what it shows, how it is used, and what it must not do."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import archc
from archc.hub.compare import WeightsDiff
from archc.ir.diff import Diff
from archc.ir.graph import LAYERS
from archc.resolve import load
from archc.units import format_params
from archc.viz.diff_page import diff_page
from archc.viz.diff_scene import diff_scene
from tests.front.pages import overflowing
from tests.front.test_diff_page import hostile

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Page

    OpenPage = Callable[..., Page]

pytestmark = pytest.mark.slow

BOXES = ".unit, button, td, li"
NANO = ("nemotron-nano-12b-v2", "nemotron-nano-9b-v2")
SMALL = ("tiny-moe", "tiny-latent")
PAIRS = [
    NANO,
    ("nemotron-h-56b", "nemotron-h-47b"),
    ("llama-3.1-8b", "llama-3.1-minitron-4b-depth"),
    ("nemotron-3-super-120b-a12b", "nemotron-3-ultra-550b-a55b"),
    SMALL,
]
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(18, 22, 28)"


@functools.cache
def found(a: str, b: str) -> Diff:
    return archc.diff(a, b, hardware="8xb200", context="8k")


@functools.cache
def drawn(a: str, b: str) -> dict[str, Any]:
    return diff_scene(found(a, b))


@pytest.fixture
def nano(open_page: OpenPage) -> Page:
    """The page of Nemotron Nano 12B and 9B on a wide light screen."""
    return open_page(diff_page(found(*NANO)))


def rows(shown: Page) -> list[int]:
    """Indexes of the rows that are drawn, from top to bottom."""
    ids = shown.locator("#rows .line").evaluate_all("lines => lines.map((line) => line.id)")
    return [int(name.removeprefix("row-")) for name in ids]


def marked(shown: Page) -> list[int]:
    """Indexes of the rows that are marked."""
    ids = shown.locator("#rows .line.marked").evaluate_all("lines => lines.map((line) => line.id)")
    return [int(name.removeprefix("row-")) for name in ids]


def focused(shown: Page) -> str:
    """The words of what has the keyboard's focus."""
    return str(shown.evaluate("document.activeElement.textContent"))


# -- on every screen ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_a_page_fits_its_screen(open_page: OpenPage, a: str, b: str, width: int) -> None:
    dark = width == 390
    shown = open_page(diff_page(found(a, b)), width=width, dark=dark)
    assert shown.locator("h1").inner_text() == f"{a} → {b}"
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == (DARK if dark else LIGHT)
    for key in "uf":
        shown.keyboard.press(key)
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert overflowing(shown, BOXES) == []


def test_every_layer_is_a_bar_and_every_pair_a_line(open_page: OpenPage) -> None:
    for pair in (NANO, SMALL):
        shown, diff = open_page(diff_page(found(*pair))), found(*pair)
        layers = [row for row in diff.rows if row.region == LAYERS]
        assert shown.locator("#pair rect").count() == sum(len(g.blocks[LAYERS]) for g in (diff.a, diff.b))
        for status in ("same", "changed", "replaced"):
            assert shown.locator(f"#pair .tie.{status}").count() == sum(row.status == status for row in layers)
        for status in ("dropped", "added"):
            assert shown.locator(f"#pair .alone.{status}").count() == sum(row.status == status for row in layers)


def test_a_bar_says_what_it_is(nano: Page) -> None:
    titles = nano.locator("#pair title").all_text_contents()
    assert "layer 7 dropped: n_heads 40 · head_dim 128 · n_kv_heads 8, 62.92M" in titles
    assert "layer 9 → 7: n_heads 128 · head_dim 80 · d_state 128 · n_groups 8, 168.50M" in titles
    assert nano.locator("#waterfall title").all_text_contents()[0] == "A: 12.31B"
    assert nano.locator("#row-0 .between").get_attribute("title") == "equal, but for dims that the whole model shares"


def test_a_screen_that_changes_its_size(nano: Page) -> None:
    nano.set_viewport_size({"width": 390, "height": 844})
    nano.wait_for_timeout(100)
    assert nano.evaluate("document.documentElement.scrollWidth") <= 390 and overflowing(nano, BOXES) == []


def test_colours_can_be_read_on_dark_and_light(open_page: OpenPage) -> None:
    for dark, better in ((False, "rgb(43, 130, 83)"), (True, "rgb(99, 199, 148)")):
        shown = open_page(diff_page(found(*NANO)), dark=dark)
        cell = shown.locator("td.better").first
        assert cell.evaluate("cell => getComputedStyle(cell).color") == better
        shown.keyboard.press("d")
        assert cell.evaluate("cell => getComputedStyle(cell).color") != better
        shown.click("#theme")
        assert cell.evaluate("cell => getComputedStyle(cell).color") == better


@pytest.mark.parametrize("dark", [False, True])
def test_print_hides_buttons_on_white(open_page: OpenPage, dark: bool) -> None:
    shown = open_page(diff_page(found(*NANO)), dark=dark)
    shown.emulate_media(media="print")
    assert not shown.locator(".buttons").is_visible() and shown.locator("#rows").is_visible()
    assert shown.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ground').trim()") == "#fff"
    for drawing in ("#pair svg", "#waterfall svg"):  # paper is narrower than the screen they were drawn for
        assert shown.locator(drawing).evaluate("svg => getComputedStyle(svg).maxWidth") == "100%"


# -- folding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_unfolded_the_rows_are_all_there_in_order(open_page: OpenPage, a: str, b: str) -> None:
    shown = open_page(diff_page(found(a, b)))
    folded = rows(shown)
    assert folded == sorted(folded)
    shown.keyboard.press("u")
    assert rows(shown) == list(range(len(found(a, b).rows)))
    assert shown.locator(".folder[aria-expanded=false]").count() == 0
    shown.keyboard.press("f")
    assert rows(shown) == folded and shown.locator(".folder[aria-expanded=true]").count() == 0
    shown.click("#unfold")
    assert len(rows(shown)) == len(found(a, b).rows)
    shown.click("#fold")
    assert rows(shown) == folded


def test_a_fold_opens_and_closes_by_click_and_by_key(nano: Page) -> None:
    before = rows(nano)
    rounds = nano.locator(".folder", has_text="3 ×").first
    assert rounds.inner_text() == "▸ 3 ×   A layers 0-5, B layers 0-5".replace("   ", " ")
    rounds.click()
    assert [row for row in rows(nano) if row not in before] == [3, 4, 5, 6]
    assert focused(nano).startswith("▾ 3 ×")
    nano.keyboard.press("Enter")
    assert rows(nano) == before and focused(nano).startswith("▸ 3 ×")
    run = nano.locator(".folder.run", has_text="layers 15-16 → 13-14 unchanged")
    assert run.locator(".chip").all_inner_texts() == ["M", "*"]
    run.click()
    nano.keyboard.press("Space")
    assert rows(nano) == before and focused(nano).startswith("▸ layers 15-16")


# -- changes -----------------------------------------------------------------------------------------------------------


def shown_of(shown: Page, change: int, scene: dict[str, Any]) -> list[int]:
    """The rows on the page that a change says something of."""
    return [i for i in rows(shown) if change in scene["rows"][i]["changes"]]


@pytest.mark.parametrize(("a", "b"), [NANO, SMALL])
def test_a_change_marks_its_rows(open_page: OpenPage, a: str, b: str) -> None:
    shown, scene = open_page(diff_page(found(a, b))), drawn(a, b)
    buttons = shown.locator("#changes button")
    assert buttons.all_inner_texts() == [change.words for change in found(a, b).changes]
    for i in range(buttons.count()):
        for key in "fu":
            buttons.nth(i).click()
            shown.keyboard.press(key)
            assert marked(shown) == shown_of(shown, i, scene)
            assert shown.locator("#changes .chosen").all_inner_texts() == [found(a, b).changes[i].words]
            buttons.nth(i).click()
            assert marked(shown) == []
    assert [row["status"] for row in scene["rows"]].count("dropped") == shown.locator(".line.dropped").count()


def test_a_change_of_the_whole_model_marks_what_is_folded_too(nano: Page) -> None:
    nano.locator("#changes button", has_text="d_model").click()
    assert nano.locator(".folder.run").count() == nano.locator(".folder.run.marked").count() > 0
    assert focused(nano) == "d_model 5120 -> 4480 everywhere"
    nano.locator("#changes button", has_text="dropped").click()
    assert nano.locator(".folder.run.marked").count() == 0
    box = nano.locator(".line.marked").first.bounding_box()
    assert box and 0 < box["y"] < 900, "the first of them is in view"


def test_dims_that_changed_are_marked_with_both_values(nano: Page) -> None:
    line = nano.locator(".line.changed").first
    assert line.locator(".field").all_inner_texts() == ["d_ff 20480", "d_ff 15680"]
    assert line.locator(".unit").first.inner_text().splitlines()[0].endswith("mlp layer 1 · 209.72M")


# -- cost --------------------------------------------------------------------------------------------------------------


def bars(shown: Page) -> list[tuple[float, float, str]]:
    """Left and right end of every bar of the waterfall, and its words."""
    script = """steps => steps.map((step) => {
      const { left, right } = step.querySelector(".fall").getBoundingClientRect();
      return [left, right, step.querySelector("title").textContent];
    })"""
    return [(left, right, words) for left, right, words in shown.locator("#waterfall .step").evaluate_all(script)]


@pytest.mark.parametrize(("a", "b"), [NANO, PAIRS[3], SMALL])
def test_a_waterfall_of_every_figure_leads_from_a_to_b(open_page: OpenPage, a: str, b: str) -> None:
    shown, scene = open_page(diff_page(found(a, b))), drawn(a, b)
    figures = scene["effect"]["figures"]
    options = shown.locator("#figure option").all_inner_texts()
    assert options == [figure["words"] for figure in figures if "shares" in figure]
    for words in options:
        shown.select_option("#figure", label=words)
        figure = next(figure for figure in figures if figure["words"] == words)
        first, *steps, last = bars(shown)
        assert len(steps) == sum(share != 0 for share in figure["shares"])
        assert (first[2][:3], last[2][:3]) == ("A: ", "B: ")
        zero, scale = last[0], (last[1] - last[0]) / figure["b"]
        assert first[:2] == pytest.approx((zero, zero + max(1.5, figure["a"] * scale)), abs=0.1)
        total = figure["a"]
        for (left, right, _), share in zip(steps, (share for share in figure["shares"] if share), strict=True):
            start, end = sorted((zero + total * scale, zero + (total + share) * scale))
            assert left == pytest.approx(start, abs=0.1) and right == pytest.approx(max(end, start + 1.5), abs=0.1)
            total += share
        assert total == pytest.approx(figure["b"])
    shown.select_option("#figure", label="parameters")
    assert bars(shown)[-1][2] == f"B: {format_params(found(a, b).effect.last['params'])}"


def test_a_bar_of_the_waterfall_chooses_its_change(nano: Page) -> None:
    nano.locator("#waterfall .step.better").nth(2).click()
    assert nano.locator("#changes .chosen").all_inner_texts() == ["d_ff 20480 -> 15680 in 25 of 25 mlp layers"]
    nano.locator("#waterfall .step.whole").first.click()
    assert nano.locator("#changes .chosen").count() == 1


def test_the_table_has_both_ends(nano: Page) -> None:
    table = [row.split("\t") for row in nano.locator("#figures tbody tr").all_inner_texts()]
    by_name = {row[0].strip(): row[1:] for row in table}
    assert by_name["parameters"] == ["12.31B", "8.89B", "-27.8%"]
    assert {"peak", "activations", "prefill time", "decode time"} <= by_name.keys()


# -- other models ------------------------------------------------------------------------------------------------------


def test_two_that_are_the_same(open_page: OpenPage) -> None:
    shown = open_page(diff_page(archc.diff("tiny-moe", "tiny-moe")))
    assert shown.locator("#changes").inner_text() == "nothing: the two are the same"
    assert len(bars(shown)) == 2 and shown.locator(".tie.same").count() == len(load("tiny-moe").blocks[LAYERS])
    for key in "ufd":
        shown.keyboard.press(key)


def test_what_became_of_the_weights(open_page: OpenPage) -> None:
    shown = open_page(diff_page(archc.diff("tiny-moe", "tiny-moe"), WeightsDiff((), (), ("<b>",))))
    assert shown.locator("#weights li").all_inner_texts() == ["1 of A dropped"]


def test_a_model_without_layers(open_page: OpenPage) -> None:
    graph = load("tiny-dense")
    kept = tuple(node for node in graph.nodes if not node.block)
    kept = tuple(dataclasses.replace(n, inputs=("embedding",) if n.role == "norm" else n.inputs) for n in kept)
    shown = open_page(diff_page(archc.diff(graph, dataclasses.replace(graph, nodes=kept, name="none"))))
    shown.keyboard.press("u")
    assert shown.locator(".line.dropped").count() == len(graph.blocks[LAYERS])


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "'\"&lt;b>\n"])
def test_names_are_never_markup(open_page: OpenPage, name: str) -> None:
    shown = open_page(diff_page(hostile(name)))
    said: list[str] = []
    shown.on("dialog", functools.partial(heard, said))
    assert shown.evaluate("document.getElementById('name').textContent") == f"{name} → {name}"
    shown.keyboard.press("u")
    for button in shown.locator("#changes button").all():
        button.click()
    shown.locator("#pair rect").first.hover()
    shown.wait_for_timeout(50)
    assert name.strip() in shown.locator("#rows").inner_text()
    assert shown.locator("script").count() == 2 and shown.locator("img").count() == 0 and not said


@pytest.mark.parametrize("width", [1440, 390])
def test_long_names_break(open_page: OpenPage, width: int) -> None:
    shown = open_page(diff_page(hostile("x" * 300)), width=width)
    for key in "uf":
        shown.keyboard.press(key)
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert overflowing(shown, BOXES) == []
    heads = shown.locator(".sides > div").evaluate_all(
        "heads => heads.map((head) => head.scrollWidth - head.clientWidth)"
    )
    assert max(heads) <= 0


def heard(said: list[str], dialog: Dialog) -> None:
    """Note what a dialog says, and close it."""
    said.append(dialog.message)
    dialog.dismiss()


def test_a_page_from_the_command_line(open_page: OpenPage, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from archc.cli import app

    file = tmp_path / "d.html"
    assert CliRunner().invoke(app, ["diff", *SMALL, "--html", str(file)]).exit_code == 1
    assert open_page(file).locator("#changes button").count() == len(archc.diff(*SMALL).changes)
