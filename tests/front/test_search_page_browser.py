"""The page of a search in a real browser: what it shows, how it is used, and what it must not do."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from archc.searching.folder import read_results
from archc.viz.search_page import search_page
from archc.viz.search_scene import search_scene, written
from tests.front.pages import overflowing
from tests.front.test_search_page import laddered, renamed, searched, with_library, with_options

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Locator, Page

    OpenPage = Callable[..., Page]

pytestmark = pytest.mark.slow

BOXES = "#details *, #told li, figcaption, .chart td, .budget p, h1, h2"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(18, 22, 28)"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(read_results(searched(tmp_path_factory.mktemp("search"))))


@pytest.fixture(scope="module")
def scene(results: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(search_scene(results, "runs/x")))  # type: ignore[no-any-return]


@pytest.fixture
def shown(open_page: OpenPage, results: dict[str, Any]) -> Page:
    """The page on a wide light screen."""
    return open_page(search_page(results, "runs/x"))


def chosen(page: Page) -> str:
    """The candidate in the panel."""
    return str(page.evaluate("document.querySelector('#details h2').firstChild.textContent"))


def centre(found: Locator) -> tuple[float, float]:
    box = found.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def visible_rows(page: Page) -> list[str]:
    """Names in the table, as they are seen from top to bottom."""
    script = "rows => rows.filter((row) => !row.hidden).map((row) => row.cells[0].innerText.split(' ')[0])"
    return list(page.locator("#table tbody tr").evaluate_all(script))


# -- on every screen ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ladder", [False, True])
@pytest.mark.parametrize("width", [1440, 1280, 400])
def test_a_page_fits_its_screen(open_page: OpenPage, results: dict[str, Any], width: int, ladder: bool) -> None:
    dark = width == 400
    page = open_page(search_page(laddered(results) if ladder else results, "runs/x"), width=width, dark=dark)
    assert page.locator("h1").inner_text() == "tiny"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (DARK if dark else LIGHT)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert overflowing(page, BOXES) == []
    page.set_viewport_size({"width": 800, "height": 900})
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= 800 and overflowing(page, BOXES) == []


def test_colours_follow_the_theme(shown: Page) -> None:
    def fill() -> str:
        return str(shown.locator("#front circle.front").first.evaluate("c => getComputedStyle(c).fill"))

    before = fill()
    shown.keyboard.press("d")
    assert fill() != before
    shown.click("#theme")
    assert fill() == before


@pytest.mark.parametrize("dark", [False, True])
def test_print_is_white_and_whole(open_page: OpenPage, results: dict[str, Any], dark: bool) -> None:
    page = open_page(search_page(results, "runs/x"), width=1280, dark=dark)
    page.emulate_media(media="print")
    for hidden in (".buttons", "#axes", ".commands"):
        assert not page.locator(hidden).first.is_visible()
    for there in ("#front svg", "#parallel svg", "#table", "#budgets svg", "#importance"):
        assert page.locator(there).first.is_visible()
    assert page.locator("#front circle.front").first.evaluate("c => getComputedStyle(c).fill") == "rgb(23, 105, 194)"
    page.set_viewport_size({"width": 720, "height": 1000})
    for svg in ("#front svg", "#parallel svg", "#history svg"):
        box = page.locator(svg).bounding_box()
        assert box and box["width"] <= 720


def test_front_and_table_without_scripts(browser: Browser, results: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(search_page(results, "runs/x"), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("#front svg circle.knee").is_visible() and page.locator("#table").is_visible()
    for hidden in ("#details", "#axes", "#parallel-section", "#importance-section"):
        assert not page.locator(hidden).is_visible()
    context.close()


# -- the front ---------------------------------------------------------------------------------------------------------


def test_every_candidate_is_drawn_where_it_lies(shown: Page, scene: dict[str, Any]) -> None:
    script = (
        "circles => circles.map((c) => [c.dataset.name, Number(c.getAttribute('cx')), Number(c.getAttribute('cy'))])"
    )
    for x, y in ((0, 1), (2, 0), (5, 3)):
        shown.select_option("#x", str(x))
        shown.select_option("#y", str(y))
        drawn = {n: (px, py) for n, px, py in shown.locator("#front circle[data-name]").evaluate_all(script)}
        rows = {c["name"]: c["row"] for c in scene["candidates"]}
        assert drawn.keys() == rows.keys()
        by_x = sorted(drawn, key=lambda n: rows[n][x])
        one, other = by_x[0], by_x[-1]
        per_x = (drawn[other][0] - drawn[one][0]) / (rows[other][x] - rows[one][x])
        for name, (px, _) in drawn.items():
            assert px - drawn[one][0] == pytest.approx((rows[name][x] - rows[one][x]) * per_x, abs=0.01)
        assert drawn[max(drawn, key=lambda n: rows[n][y])][1] == min(py for _, py in drawn.values())
    assert shown.locator("#front .edge").count() == 0  # only where the axes are the objectives
    assert shown.locator("#front .limit-line").count() == 1  # memory.resident's limit, up


def test_the_line_of_the_front_is_the_static_one(browser: Browser, shown: Page, results: dict[str, Any]) -> None:
    """Python and the script draw the same steps, at another scale."""
    moving = shown.locator("#front .edge").get_attribute("d") or ""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(search_page(results, "runs/x"))
    static = page.locator("#front .edge").get_attribute("d") or ""
    context.close()

    def steps(path: str) -> str:
        points = [tuple(map(float, p.split(","))) for p in path.replace("M", "").replace("L", " ").split()]
        return "".join("h" if abs(a[1] - b[1]) < 1e-6 else "v" for a, b in itertools.pairwise(points))

    assert steps(moving) == steps(static) != ""


def test_pointing_shows_a_candidate_and_a_click_pins_it(shown: Page, scene: dict[str, Any]) -> None:
    other = next(c for c in scene["candidates"] if c["front"] and c["name"] != scene["knee"])
    assert chosen(shown).strip() == scene["knee"]
    mark = shown.locator(f"#front circle[data-name={other['name']}]")
    mark.scroll_into_view_if_needed()
    x, y = centre(mark)
    shown.mouse.move(x, y)
    hint = shown.locator("#hint")
    assert hint.is_visible() and hint.inner_text().startswith(other["name"])
    assert f"params.total {written('parameters', other['row'][0])}" in hint.inner_text()
    assert f"d_model {other['row'][5]}" in hint.inner_text()
    shown.mouse.click(x, y)
    assert chosen(shown).strip() == other["name"] and shown.locator("#table tr.chosen").count() == 1
    assert shown.locator("#table tr.chosen button").inner_text().startswith(other["name"])
    commands = shown.locator("#details .command").all_inner_texts()
    assert commands == [
        f"archc best runs/x --pick {other['name']} -o best.yaml",
        "archc diff tiny-hybrid best.yaml",
        f"archc best runs/x --pick {other['name']} --recipe recipe.yaml",
    ]
    figures = [row.split("\t") for row in shown.locator("#details tbody").first.locator("tr").all_inner_texts()]
    left = 3e6 - other["row"][0]
    assert figures[0][:2] == ["params.total", written("parameters", other["row"][0])]
    assert figures[0][3].strip() == written("parameters", left)
    shown.mouse.move(2, 2)
    assert not hint.is_visible()


def test_one_of_the_sample_can_be_looked_at_and_not_taken(shown: Page, scene: dict[str, Any]) -> None:
    shown.evaluate("choose(sample.find((point) => !point.fits))")
    assert chosen(shown).startswith("proposal") and "outside the budgets" in shown.locator("#details").inner_text()
    assert shown.locator("#details .command").count() == 0
    assert shown.locator("#details .worse").count() >= 1
    shown.uncheck("#sample")
    assert shown.locator("#front path.cloud").count() == shown.locator("#front path.outside").count() == 0


def test_the_keyboard_goes_along_the_front(shown: Page, scene: dict[str, Any]) -> None:
    order = [c["name"] for c in sorted((c for c in scene["candidates"] if c["front"]), key=lambda c: c["row"][0])]
    at = order.index(scene["knee"])
    shown.focus("#front")
    shown.keyboard.press("ArrowRight")
    assert chosen(shown).strip() == order[at + 1]
    for _ in range(3):
        shown.keyboard.press("ArrowLeft")
    assert chosen(shown).strip() == order[at - 2]
    shown.keyboard.press("b")
    assert chosen(shown).strip() == "base" and "archc show tiny-hybrid" in shown.locator("#details").inner_text()
    shown.keyboard.press("k")
    assert chosen(shown).strip() == scene["knee"]
    shown.keyboard.press("?")
    assert shown.locator("#keys").is_visible()
    shown.keyboard.press("Escape")
    assert not shown.locator("#keys").is_visible()


# -- all choices at once -----------------------------------------------------------------------------------------------


def test_a_brush_keeps_what_passes(shown: Page, scene: dict[str, Any]) -> None:
    axis = shown.locator("#parallel .axis[data-column='5'] .hit")  # d_model, 32 to 256
    axis.scroll_into_view_if_needed()
    x, _ = centre(axis)
    box = axis.bounding_box()
    assert box
    shown.mouse.move(x, box["y"] + box["height"] - 1)
    shown.mouse.down()
    shown.mouse.move(x, box["y"] + box["height"] / 2 - 2, steps=4)
    shown.mouse.up()
    kept = [c["name"] for c in scene["candidates"] if c["row"][5] <= 144]
    assert 0 < len(kept) < len(scene["candidates"])
    assert (
        shown.locator("#matching").inner_text()
        == f"{len(kept)} of {len(scene['candidates'])} recorded pass the brushes"
    )
    assert visible_rows(shown) == ["base", *kept]
    faded = shown.locator("#front circle.faded").count()
    assert faded == len(scene["candidates"]) - len(kept)
    x, y = centre(axis)
    shown.mouse.click(x, y)
    assert shown.locator("#matching").inner_text() == "" and len(visible_rows(shown)) == len(scene["candidates"]) + 1


def test_brushes_by_keys(shown: Page, scene: dict[str, Any]) -> None:
    axis = shown.locator("#parallel .axis[data-column='5']")
    axis.focus()
    shown.keyboard.press("ArrowUp")
    half = [c["name"] for c in scene["candidates"] if c["row"][5] >= 144]
    assert visible_rows(shown)[1:] == half
    assert "brush from 144 to 256" in (axis.get_attribute("aria-label") or "")
    shown.keyboard.press("Shift+ArrowDown")
    assert "brush from 144 to 233.6" in (axis.get_attribute("aria-label") or "")
    shown.locator("#parallel .axis[data-column='6']").focus()
    shown.keyboard.press("ArrowDown")
    assert shown.locator("#parallel .brush").count() == 2
    shown.keyboard.press("Escape")
    assert shown.locator("#parallel .brush").count() == 1
    assert shown.evaluate("document.activeElement.dataset.column") == "6"
    shown.keyboard.press("c")
    assert shown.locator("#parallel .brush").count() == 0 and not shown.locator("#clear").is_visible()


# -- the library of a search for variants ------------------------------------------------------------------------------


def test_only_a_search_for_variants_has_a_library(shown: Page) -> None:
    assert not shown.locator("#library-section").is_visible()


def test_cells_are_the_darker_the_more_they_lose(open_page: OpenPage, results: dict[str, Any]) -> None:
    made = with_library(results)
    page = open_page(search_page(made, "runs/x"), dark=True)
    titles = page.locator("#library .cell title").all_text_contents()
    rows = [row for layer in made["library"] for row in layer]
    wanted = [f"layer {r['layer']}, {r['variant']}: {r['failed'] or 'kl ' + written('', r['loss'])}" for r in rows]
    assert [t.replace("e-9", "e-09") for t in titles] == wanted
    fills = page.locator("#library .cell rect").evaluate_all("r => r.map((c) => c.style.fill.match(/ (\\d+)%/)[1])")
    shade = dict(zip(wanted, map(int, fills), strict=True))
    by_loss = sorted((r["loss"], shade[w]) for r, w in zip(rows, wanted, strict=True) if r["loss"] is not None)
    assert [s for _, s in by_loss] == sorted(s for _, s in by_loss)
    assert by_loss[0][1] == 0 and by_loss[-1][1] == 100 and {s for loss, s in by_loss if 0 < loss < 1} == {10}
    assert page.locator("#library .cell.none text").all_text_contents() == ["×"]
    ends = page.locator("#library-scale").evaluate("scale => [...scale.childNodes].map((n) => n.textContent)")
    assert ends == ["≤ 0.001", "", "10"]


def test_the_variants_of_the_chosen_candidate_are_outlined(open_page: OpenPage, results: dict[str, Any]) -> None:
    made = with_library(results)
    page = open_page(search_page(made, "runs/x"))

    def outlined() -> list[str]:
        """What is in each outline, from left to right."""
        script = """() => [...document.querySelectorAll("#library .pick")].map((pick) => {
          const [x, y] = ["x", "y"].map((name) => Number(pick.getAttribute(name)) + 0.5);
          const same = (cell) => Number(cell.getAttribute("x")) === x && Number(cell.getAttribute("y")) === y;
          const cell = [...document.querySelectorAll("#library .cell rect")].find(same);
          return cell.parentElement.querySelector("title").textContent.split(": ")[0];
        })"""
        return list(page.evaluate(script))

    for row, candidate in (("0", made["candidates"][0]), ("3", made["candidates"][3])):
        page.locator(f'#table tr[data-i="{row}"]').click()
        assert outlined() == [f"layer {10 + i}, {v}" for i, v in enumerate(candidate["variants"])]
        assert page.locator("#library-picked").inner_text() == candidate["name"]
    page.keyboard.press("b")
    assert outlined() == [f"layer {10 + i}, keep" for i in range(6)]
    page.evaluate("choose(sample[0])")
    assert outlined() == [] and page.locator("#library-picked").inner_text() == "-"


@pytest.mark.parametrize("width", [1440, 400])
@pytest.mark.parametrize("layers", [1, 118])
def test_a_library_fits_its_screen(open_page: OpenPage, results: dict[str, Any], layers: int, width: int) -> None:
    page = open_page(search_page(with_library(results, layers, "n" * 200), "runs/x"), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width and overflowing(page, BOXES) == []
    page.emulate_media(media="print")
    assert page.locator("#library svg").is_visible()


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_bars_are_as_long_as_their_shares(shown: Page, scene: dict[str, Any]) -> None:
    charts = shown.locator("#importance figure")
    assert charts.count() == len(scene["importance"])
    for chart, shares in zip(charts.all(), scene["importance"], strict=True):
        wide = chart.locator(".fill").evaluate_all("f => f.map((b) => b.offsetWidth / b.parentElement.offsetWidth)")
        assert wide == pytest.approx(sorted(shares, reverse=True), abs=0.02)
    words = shown.locator("#budgets").inner_text()
    for budget in scene["budgets"]:
        assert budget["text"] in words
        assert f"rejects {budget['broken'] / scene['proposed']:.1%} of proposals" in words
    assert shown.locator("#budgets circle").count() == sum(len(b["slack"]) for b in scene["budgets"])


def test_history_of_each_objective(shown: Page, scene: dict[str, Any]) -> None:
    for i, steps in enumerate(scene["history"]):
        shown.select_option("#history-of", str(i))
        assert shown.locator("#history circle").count() == len(steps)
        last = shown.locator("#history title").all_text_contents()[-1]
        unit = scene["columns"][i]["unit"]
        assert last == f"proposal {steps[-1][0] + 1}: {written(unit, steps[-1][1])}"


def test_options_and_models_beside_them(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(search_page(read_results(with_options(tmp_path)), "runs/x"))
    assert overflowing(page, BOXES) == []
    assert page.locator("#front text", has_text="tiny-hybrid").count() == 1
    row = page.locator("#table tr", has_text="{theta: 10000.0}").first
    row.click()
    panel = page.locator("#details").inner_text()
    assert "{theta: 10000.0}" in panel and "base none" in panel
    page.locator("#table tr", has=page.locator("td", has_text="none")).nth(1).click()
    theta = page.locator("#details tr", has_text="rope.theta").inner_text().split()
    assert theta[-1] == "-", "what means nothing is no value"


def test_the_table_sorts_by_any_column(shown: Page, results: dict[str, Any], scene: dict[str, Any]) -> None:
    for column in (0, 1, 5):
        head = shown.locator("#table th").nth(column + 1)
        for _ in range(2):
            head.locator("button").click()
            up = head.get_attribute("aria-sort") == "ascending"
            rows = {"base": scene["base_row"]["row"], **{c["name"]: c["row"] for c in scene["candidates"]}}
            values = [rows[name][column] for name in visible_rows(shown)]
            assert values == sorted(values, reverse=not up) and len(values) == len(rows)
    shown.locator("#table th button").first.click()
    assert visible_rows(shown) == ["base", *(c["name"] for c in scene["candidates"])]
    shown.locator("#table tbody tr").nth(3).click()
    assert chosen(shown).strip() == scene["candidates"][2]["name"]


def test_scores_of_rungs_are_shown_and_sorted(open_page: OpenPage, results: dict[str, Any]) -> None:
    page = open_page(search_page(laddered(results), "runs/x"))
    page.locator("#table th", has_text="zero_shot").locator("button").click()
    assert visible_rows(page)[:4] == ["tiny-5", "tiny-4", "tiny-2", "tiny-1"]
    page.locator("#table tbody tr", has_text="tiny-3 ").first.click()
    assert "zero_shot: <b>no weights</b>" in page.locator("#details").inner_text()
    page.select_option("#x", label="proxy")
    page.select_option("#y", label="zero_shot")
    assert page.locator("#front circle[data-name]").count() == 4
    assert page.locator(".badge.best").count() == 1


@pytest.mark.parametrize(
    "name", ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "it's \"&lt;\n$(x)"]
)
def test_names_are_never_markup(open_page: OpenPage, results: dict[str, Any], name: str) -> None:
    page = open_page(search_page(renamed(results, name), name))
    said: list[str] = []
    page.on("dialog", functools.partial(heard, said))
    page.locator("#table tbody tr").nth(1).click()
    mark = page.locator("#front circle[data-name]").first
    mark.scroll_into_view_if_needed()
    page.mouse.move(*centre(mark))
    page.wait_for_timeout(50)
    command = page.locator("#details .command").first.text_content() or ""
    quoted = name.replace("'", "'\"'\"'")
    assert command == f"archc best '{quoted}' --pick '{quoted}-1' -o best.yaml"
    assert page.locator("script").count() == 2 and page.locator("img").count() == 0 and not said


@pytest.mark.parametrize("width", [1440, 400])
def test_long_names_break(open_page: OpenPage, results: dict[str, Any], width: int) -> None:
    page = open_page(search_page(renamed(results, "x" * 200), "y" * 200), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert overflowing(page, BOXES) == []


def heard(said: list[str], dialog: Dialog) -> None:
    """Note what a dialog says, and close it."""
    said.append(dialog.message)
    dialog.dismiss()
