"""The page of `archc show --html` in a real browser: what it shows, how it is used, and what it must not do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from archc.ir.formats import get_format
from archc.ir.graph import Graph
from archc.resolve import load
from archc.sheet import cost
from archc.units import format_params, format_size
from archc.viz.overlay import Choices, Overlay, Units, load_overlays, overlay_json
from archc.viz.page import page

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    OpenPage = Callable[..., Page]

pytestmark = pytest.mark.slow

NANO, SUPER, ULTRA = "nemotron-nano-9b-v2", "nemotron-3-super-120b-a12b", "nemotron-3-ultra-550b-a55b"
SCREENS = [(1440, 900, False), (1440, 900, True), (390, 844, False), (390, 844, True)]
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(18, 22, 28)"
IN_PROJ = "[z:10240 | x:10240 | B:1024 | C:1024 | dt:128, d_model:4480]"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`pages(name)`: the file of a zoo model's page, made once."""
    folder = tmp_path_factory.mktemp("pages")

    def made(name: str) -> Path:
        file = folder / f"{name}.html"
        if not file.exists():
            file.write_text(page(load(name)), encoding="utf-8")
        return file

    return made


@pytest.fixture
def nano(open_page: OpenPage, pages: Callable[[str], Path]) -> Page:
    """The page of Nemotron Nano 9B v2 on a wide light screen."""
    return open_page(pages(NANO))


def row(shown: Page, key: str) -> Locator:
    """The row of the drawing with that key: `block:L14`, `op:L14.mixer`, `op:L14.mixer/q_proj`."""
    return shown.locator(f'#drawing .row[data-key="{key}"]')


def words(shown: Page, key: str) -> str:
    """The texts of a row of the drawing."""
    return " ".join(row(shown, key).locator("text").all_text_contents())


def blocks(shown: Page) -> int:
    """How many rows of blocks there are."""
    return shown.locator("#drawing .row.block").count()


def address(shown: Page) -> str:
    """What stands after the # of the page's address."""
    return str(shown.evaluate("decodeURIComponent(location.hash)"))


def focused(shown: Page) -> str:
    """The key of the row with the keyboard's focus."""
    return str(shown.evaluate("document.activeElement.dataset.key ?? document.activeElement.id"))


def details(shown: Page) -> str:
    """The words of the panel beside the drawing."""
    return shown.locator("#details").inner_text()


def at(shown: Page, name: str, file: Path) -> None:
    """Open a file anew at a name: as a link does."""
    shown.goto("about:blank")
    shown.goto(f"{file.resolve().as_uri()}#{name}")


def until(shown: Page, condition: str) -> None:
    """Wait for a condition of the page; Playwright's own waiting would be an `eval`, which the page forbids."""
    for _ in range(250):
        if shown.evaluate(condition):
            return
        shown.wait_for_timeout(20)
    pytest.fail(f"never came true: {condition}")


def spec(folder: Path, text: str) -> Graph:
    """The graph of a spec's text."""
    file = folder / "model.yaml"
    file.write_text(f"archc: 1\n{text}", encoding="utf-8")
    return load(file)


# -- on every screen ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height", "dark"), SCREENS)
@pytest.mark.parametrize("name", [NANO, ULTRA])
def test_a_page_fits_its_screen(
    open_page: OpenPage, pages: Callable[[str], Path], name: str, width: int, height: int, dark: bool
) -> None:
    shown = open_page(pages(name), width=width, height=height, dark=dark)
    assert shown.locator("h1").inner_text() == name
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == (DARK if dark else LIGHT)
    row(shown, "block:L0").click()
    shown.click("#unfold")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    texts = "[...document.querySelectorAll('#drawing text')].map((text) => text.getBoundingClientRect())"
    left, right = shown.evaluate(f"(boxes => [boxes.map((b) => b.left), boxes.map((b) => b.right)])({texts})")
    assert min(left) >= 0 and max(right) <= width


def test_ultra_is_there_in_less_than_a_second(open_page: OpenPage, pages: Callable[[str], Path]) -> None:
    shown = open_page(pages(ULTRA))
    taken = []
    for _ in range(3):
        shown.reload()
        taken.append(shown.evaluate("performance.getEntriesByType('navigation')[0].domComplete"))
    assert min(taken) < 1000
    shown.click("#unfold")
    assert shown.locator('#drawing .row.block[data-key^="block:L"]').count() == 108
    assert (
        shown.evaluate("(() => { const from = performance.now(); draw(); return performance.now() - from; })()") < 500
    )


def test_a_screen_that_changes_its_size(nano: Page) -> None:
    wide = nano.locator("#drawing svg").bounding_box()
    nano.set_viewport_size({"width": 390, "height": 844})
    until(nano, "document.querySelector('#drawing svg').clientWidth < 390")
    assert nano.evaluate("document.documentElement.scrollWidth") <= 390
    nano.set_viewport_size({"width": 1440, "height": 900})
    until(nano, f"document.querySelector('#drawing svg').clientWidth === {round(wide['width']) if wide else 0}")


def test_dark_by_button_and_key(nano: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    nano.click("#theme")
    assert nano.evaluate(background) == DARK
    nano.keyboard.press("d")
    assert nano.evaluate(background) == LIGHT
    nano.emulate_media(color_scheme="dark")
    assert nano.evaluate(background) == LIGHT  # what was chosen stays


@pytest.mark.parametrize("dark", [False, True])
def test_print_is_the_picture_on_white(open_page: OpenPage, pages: Callable[[str], Path], dark: bool) -> None:
    shown = open_page(pages(NANO), dark=dark)
    shown.emulate_media(media="print")
    for hidden in ("#search", "#unfold", ".controls", "#hint"):
        assert not shown.locator(hidden).is_visible()
    assert shown.locator("h1").is_visible() and row(shown, "block:L0").is_visible()
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == LIGHT
    # A page of paper is narrower than the screen that the drawing was made for.
    shown.evaluate("document.body.style.width = '600px'")
    for drawn in ("#drawing svg", "#overview svg"):
        box = shown.locator(drawn).bounding_box()
        assert box and box["x"] + box["width"] <= 601


# -- folds, blocks, ops, parameters ------------------------------------------------------------------------------------


def test_folds_open_and_close(nano: Page) -> None:
    folded = blocks(nano)
    first = nano.locator("#drawing .row.fold").first
    assert first.get_attribute("aria-expanded") == "false"
    first.click()
    assert nano.locator("#drawing .row.fold").first.get_attribute("aria-expanded") == "true"
    assert blocks(nano) > folded
    nano.locator("#drawing .row.fold").first.click()
    assert blocks(nano) == folded
    nano.click("#unfold")
    assert blocks(nano) == 56
    nano.click("#fold")
    assert blocks(nano) == folded


def test_from_a_block_to_its_parameters(nano: Page) -> None:
    row(nano, "block:L0").click()
    assert address(nano) == "#layers.0"
    assert "layer 0: mamba2" in details(nano) and "n_heads 128" in details(nano)
    row(nano, "block:L0").click()
    assert row(nano, "block:L0").get_attribute("aria-expanded") == "true"
    assert [row(nano, f"op:L0.{role}").count() for role in ("norm", "mixer", "add")] == [1, 1, 1]
    row(nano, "op:L0.mixer").click()
    assert address(nano) == "#layers.0.mixer"
    assert IN_PROJ in details(nano) and "Mamba-2 mixer" in details(nano)
    row(nano, "op:L0.mixer").click()
    assert IN_PROJ in words(nano, "op:L0.mixer/in_proj")
    assert words(nano, "op:L0.mixer/in_proj").count("z:10240") == 2  # in its axes, and on its bar


def test_a_double_click_opens_a_block(nano: Page) -> None:
    row(nano, "block:L0").dblclick()
    assert row(nano, "block:L0").get_attribute("aria-expanded") == "true"


def test_the_hint_says_what_share_a_block_has(nano: Page) -> None:
    hint = nano.locator("#hint")
    assert not hint.is_visible()
    row(nano, "block:L14").hover()
    sheet = cost(NANO).params.total
    share = 100 * nano.evaluate("model.blockValue(model.blocks.get('L14'), 'params', cost)") / sheet
    assert f"{share:.1f}% of the model" in hint.inner_text() and "layers.14: attention" in hint.inner_text()
    nano.locator("#drawing .row.fold").first.hover()
    assert "2 rounds of 7 layers" in hint.inner_text()
    nano.mouse.move(5, 5)
    assert not hint.is_visible()


def test_search_goes_to_the_first_attention_layer(nano: Page) -> None:
    nano.fill("#search", "attention")
    assert nano.locator("#found li").first.inner_text().startswith("layers.14")
    nano.keyboard.press("Enter")
    assert address(nano) == "#layers.14" and focused(nano) == "block:L14"
    assert "layer 14: attention" in details(nano)
    assert not nano.locator("#found").is_visible()
    nano.fill("#search", "in_proj 13")
    nano.locator("#found button").first.click()
    assert address(nano) == "#layers.13.mixer" and row(nano, "op:L13.mixer").is_visible()
    nano.fill("#search", "mlp")
    lines = [(hit.bounding_box() or {})["height"] for hit in nano.locator("#found li").all()]
    assert len(lines) == 41 and max(lines) < 30  # the first 40 and how many more, a line each
    nano.fill("#search", "no such thing")
    assert nano.locator("#found").inner_text() == "nothing found"
    nano.keyboard.press("Escape")
    assert not nano.locator("#found").is_visible() and nano.input_value("#search") == ""


@pytest.mark.parametrize("width", [1440, 390])
def test_a_link_opens_what_it_names(open_page: OpenPage, pages: Callable[[str], Path], width: int) -> None:
    shown = open_page("", width=width, height=844)
    at(shown, "layers.18.mixer", pages(NANO))
    chosen = row(shown, "op:L18.mixer")
    assert chosen.get_attribute("aria-selected") == "true" and chosen.is_visible()
    assert "mixer: mamba2" in details(shown) and IN_PROJ in details(shown)
    box, panel = chosen.bounding_box(), shown.locator("#details").bounding_box()
    assert box and panel and box["y"] >= 0 and box["y"] + box["height"] <= (panel["y"] if width < 820 else 844)


def test_a_link_to_nothing_shows_the_whole(open_page: OpenPage, pages: Callable[[str], Path]) -> None:
    shown = open_page("")
    for name in ("", "layers.99", "%", "%E0%A4%A", "<img src=x>", "__proto__", "constructor"):
        at(shown, name, pages("tiny-hybrid"))
        assert shown.locator("#drawing .row").count() > 5, name
        assert "Share of parameters" in details(shown), name


def test_links_on_the_page_and_back_to_the_whole(nano: Page) -> None:
    nano.locator("#overview .bar").nth(21).click()
    assert address(nano) == "#layers.21" and row(nano, "block:L21").is_visible()
    nano.locator("#details .ops button", has_text="mixer").click()
    assert address(nano) == "#layers.21.mixer"
    nano.locator("#details .crumbs button").first.click()
    assert address(nano) == "" and "Share of parameters" in details(nano)
    nano.locator("#details .kinds button", has_text="attention").click()
    assert address(nano) == "#layers.14.mixer"
    nano.evaluate("location.hash = '#lm_head'")
    until(nano, "view.selected === 'lm_head'")
    assert "lm_head: lm_head" in details(nano)


# -- the workload ------------------------------------------------------------------------------------------------------

STEPS: list[tuple[str, str]] = [
    ("context", "128k"),
    ("batch", "4"),
    ("hardware", "a10g"),
    ("weights", "fp8"),
    ("kv", "fp8_e5m2"),
    ("ssm", "bf16"),
    ("hardware", "b200"),
    ("devices", "8"),
    ("weights", "nvfp4"),
    ("kv", ""),
    ("context", "1_000"),
    ("weights", ""),
    ("hardware", ""),
    ("ssm", ""),
]


def choose(shown: Page, name: str, value: str) -> None:
    """Set a control as a user would."""
    if name in ("context", "batch"):
        shown.fill(f"#{name}", value)
    else:
        shown.select_option(f"#{name}", value)


def sheet_totals(model: str, chosen: dict[str, str]) -> dict[str, float]:
    """What the page's totals have to be."""
    device = f"{chosen['devices']}x{chosen['hardware']}" if chosen["hardware"] else None
    formats = {f"{name}_format": chosen[name] or None for name in ("kv", "ssm")}
    given = {
        "context": chosen["context"],
        "batch": chosen["batch"],
        "hardware": device,
        "format": chosen["weights"] or None,
    }
    sheet = cost(model, **given, **formats)  # type: ignore[arg-type]
    memory = dataclasses.asdict(sheet.memory)
    del memory["mtp_state_bytes"]
    flops = {"prefill_flops": sheet.flops.prefill, "decode_flops": sheet.flops.decode_per_token}
    params = {"params": sheet.params.total, "active": sheet.params.active, "mtp_params": sheet.params.mtp}
    latency = sheet.latency
    timed = {"prefill_s": latency.prefill_s, "decode_s": latency.decode_s_per_token} if latency else {}
    return {**memory, **flops, **params, **timed}


@pytest.mark.parametrize("name", [NANO, SUPER, "gpt-oss-20b"])
def test_the_workload_gives_the_figures_of_the_cost_sheet(
    open_page: OpenPage, pages: Callable[[str], Path], name: str
) -> None:
    shown = open_page(pages(name))
    chosen = {
        c: shown.input_value(f"#{c}") for c in ("context", "batch", "hardware", "devices", "weights", "kv", "ssm")
    }
    for control, value in [("context", "8k"), *STEPS]:
        choose(shown, control, value)
        chosen[control] = value
        chosen["devices"] = shown.input_value("#devices")
        expected = sheet_totals(name, chosen)
        totals = shown.evaluate("cost.totals")
        assert {figure: totals[figure] for figure in expected} == pytest.approx(expected, rel=1e-9), chosen
        assert ("decode_s" in totals) == bool(chosen["hardware"])
        cards = shown.locator("#headline .value").all_inner_texts()
        assert cards[:2] == [format_params(expected["params"]), format_size(expected["resident_bytes"])]


def test_what_a_token_of_context_costs(nano: Page) -> None:
    nano.fill("#context", "128k")
    card = nano.locator(".card", has_text="One token of context").inner_text()
    assert "16.00 KiB" in card and "at 128k" in card
    nano.select_option("#kv", "fp8")
    assert "8.00 KiB" in nano.locator(".card", has_text="One token of context").inner_text()


def test_a_bad_count_is_marked_and_changes_nothing(nano: Page) -> None:
    before = nano.evaluate("[cost.totals, workload]")
    for bad in ("12x", "", "0", "-1", "1.5", "1e3", "8 k k"):
        nano.fill("#context", bad)
        assert nano.get_attribute("#context", "aria-invalid") == "true", bad
        assert nano.evaluate("[cost.totals, workload]") == before, bad
    nano.fill("#context", "16k")
    assert nano.get_attribute("#context", "aria-invalid") == "false"
    assert nano.evaluate("workload.context") == 16384


def test_formats_that_were_not_chosen_are_named(nano: Page, tmp_path: Path, open_page: OpenPage) -> None:
    nano.select_option("#weights", "nvfp4")
    assert nano.locator("#kv option").first.inner_text() == "bf16, by default"
    assert nano.locator("#ssm option").first.inner_text() == "fp32, by default"
    own = dataclasses.replace(load("tiny-hybrid"), formats=(("weights", "bf16"), ("ssm", "bf16"), ("kv", "fp8")))
    shown = open_page(page(own))
    assert shown.locator("#kv option").first.inner_text() == "fp8, by default"
    assert shown.locator("#ssm option").first.inner_text() == "bf16, by default"
    shown.select_option("#ssm", "fp32")
    assert shown.evaluate("cost.totals.ssm_bytes") == cost(own, context="8k", ssm_format="fp32").memory.ssm_bytes


def test_times_need_hardware(nano: Page) -> None:
    timed = "#measure option[value=decode_s]"
    nano.select_option("#measure", "decode_s")
    assert "Share of time of a decode step" in details(nano)
    nano.select_option("#hardware", "")
    assert nano.locator(timed).count() == 0 and "Share of parameters" in details(nano)
    nano.select_option("#hardware", "a10g")
    assert nano.locator(timed).count() == 1
    assert nano.locator("#devices option").count() >= 1


# -- the picture -------------------------------------------------------------------------------------------------------


def boxes(shown: Page, *names: str) -> list[tuple[float, str | None]]:
    """Height and fill of the boxes of blocks."""
    found = [row(shown, f"block:{name}").locator("rect").first for name in names]
    return [((one.bounding_box() or {})["height"], one.get_attribute("fill")) for one in found]


def test_height_and_colour_follow_the_measure(nano: Page) -> None:
    usual = [(mamba, blue), (attention, orange)] = boxes(nano, "L0", "L14")
    assert mamba == attention and blue != orange
    nano.select_option("#height", "measure")
    (mamba, _), (attention, _) = boxes(nano, "L0", "L14")
    assert mamba > 1.3 * attention
    nano.fill("#context", "1M")
    nano.select_option("#measure", "state_bytes")
    nano.select_option("#colour", "measure")
    (mamba, pale), (attention, deep) = boxes(nano, "L0", "L14")
    assert attention > 2 * mamba
    assert len({pale, deep, blue, orange}) == 4
    assert nano.locator(".legend").inner_text().startswith("colour: state, bytes")
    nano.select_option("#colour", "kind")
    nano.select_option("#height", "equal")
    assert boxes(nano, "L0", "L14") == usual


CONTRASTS = """([texts, ground]) => {
  const canvas = document.createElement("canvas").getContext("2d");
  const linear = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].map((value) => linear(value / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (...shapes) => {
    const [dark, light] = shapes.map((shape) => luminance(getComputedStyle(shape).fill)).sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const written = (box) => [...box.parentNode.querySelectorAll(texts)].filter((text) => text.textContent);
  return [...document.querySelectorAll(ground)].flatMap((box) => written(box).map((text) => contrast(box, text)));
}"""


def contrasts(shown: Page, texts: str, ground: str) -> list[float]:
    """Contrast ratios (WCAG 2) of texts on the fill of `ground` in the same row, as the browser paints them."""
    return list(shown.evaluate(CONTRASTS, [texts, ground]))


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_on_whatever_it_stands(open_page: OpenPage, dark: bool) -> None:
    graph = load("tiny-hybrid")
    steps = Overlay("a score for each", {f"L{i}.mixer": {"*": i / 9} for i in range(9)})
    shown = open_page(page(graph, [steps]), dark=dark)
    shown.click("#unfold")
    shown.evaluate("for (const node of data.nodes) view.open.add(`op:${node.id}`); view.open.add('block:L0'); draw()")
    for colour in ("kind", "measure", "overlay:0"):
        shown.select_option("#colour", colour)
        found = [*contrasts(shown, "text:not(.inside)", ".row > .box"), *contrasts(shown, ".inside", ".row > .piece")]
        assert len(found) > 50 and min(found) >= 4.5, colour


# -- overlays ----------------------------------------------------------------------------------------------------------


def test_overlays_are_colours_and_details(open_page: OpenPage, tmp_path: Path) -> None:
    graph = load("tiny-hybrid")
    made = [
        Overlay(
            "importance",
            {"L0.mixer": {"*": 0.72, "heads_per_group": Units((0.9, 0.2, 0.4, 0.5))}, "L2.mixer": {"*": 0.1}},
        ),
        Overlay("elastic", {"L1.mixer": {"d_ff": Choices((64, 128, 192)), "up_proj": get_format("nvfp4")}}),
        Overlay("load", {"L1.mixer": {"experts": Units((0.31, 0.02, 0.11, 0.09, 0.17, 0.05, 0.2, 0.05))}}),
    ]
    files = [tmp_path / f"{overlay.title}.json" for overlay in made]
    for file, overlay in zip(files, made, strict=True):
        file.write_text(overlay_json(overlay), encoding="utf-8")
    shown = open_page(page(graph, load_overlays(files, graph)))
    offered = shown.locator("#colour option").all_inner_texts()
    assert offered == ["kind of block", "the measure", "importance", "load"]  # `elastic` has no numbers
    shown.click("#unfold")
    shown.select_option("#colour", "importance")
    fill = lambda key: row(shown, key).locator("rect").first.get_attribute("fill")  # noqa: E731
    assert len({fill("block:L0"), fill("block:L2"), fill("block:L3")}) == 3
    assert fill("block:L3") == fill("block:L4") == "var(--unknown)"
    row(shown, "block:L0").click()
    assert "score 0.72" in details(shown) and "heads_per_group: 4 values from 0.200 to 0.900" in details(shown)
    assert shown.locator("#details .histogram rect").count() == 4
    row(shown, "block:L1").click()
    assert "d_ff: one of 64, 128, 192 (of 192)" in details(shown) and "experts: 8 values" in details(shown)
    assert shown.locator("#details .tick").count() == 3
    shown.locator("#details .ops button", has_text="mixer").click()
    assert "nvfp4 (bf16 in the model)" in details(shown)


def test_an_overlay_of_very_many_units(open_page: OpenPage) -> None:
    many = Overlay("units", {"L1.mixer": {"d_ff": Units(tuple(i % 7 / 7 for i in range(300_000)))}})
    shown = open_page(page(load("tiny-hybrid"), [many]))
    row(shown, "block:L1").click()
    assert "d_ff: 300000 values from 0.00 to 0.857" in details(shown)
    assert shown.locator("#details .histogram rect").count() == 96


# -- the keyboard ------------------------------------------------------------------------------------------------------


def test_everything_by_keyboard(nano: Page) -> None:
    press = nano.keyboard.press
    for _ in range(40):
        press("Tab")
        if focused(nano).startswith("op:"):
            break
    assert focused(nano) == "op:embedding"
    press("ArrowDown")
    assert focused(nano).startswith("fold:")
    folded = blocks(nano)
    press("ArrowRight")
    assert blocks(nano) > folded and focused(nano).startswith("fold:")
    press("ArrowLeft")
    assert blocks(nano) == folded
    press("ArrowDown")
    press("j")
    assert focused(nano) == "block:L0" and address(nano) == "#layers.0"
    press("Enter")
    assert row(nano, "block:L0").get_attribute("aria-expanded") == "true"
    press("ArrowDown")
    press("ArrowDown")
    assert focused(nano) == "op:L0.mixer" and IN_PROJ in details(nano)
    press("Enter")
    press("ArrowDown")
    assert focused(nano) == "op:L0.mixer/in_proj"
    press("k")
    assert focused(nano) == "op:L0.mixer"
    press("Escape")
    assert address(nano) == "" and "Share of parameters" in details(nano)
    press("u")
    assert blocks(nano) == 56
    press("f")
    assert blocks(nano) == folded
    press("/")
    assert focused(nano) == "search"
    nano.keyboard.type("attention")
    press("Enter")
    assert focused(nano) == "block:L14"


def test_zoom_and_help_by_keyboard(nano: Page) -> None:
    press, width = nano.keyboard.press, lambda: nano.locator("#drawing svg").bounding_box()["width"]
    usual = width()
    press("+")
    assert width() == pytest.approx(1.25 * usual, abs=1)
    assert nano.evaluate("document.documentElement.scrollWidth") <= 1440
    press("0")
    press("-")
    assert width() == pytest.approx(0.8 * usual, abs=1)
    press("0")
    assert width() == usual
    press("?")
    assert nano.locator("#keys").is_visible()
    press("Escape")
    assert not nano.locator("#keys").is_visible()


def test_keys_work_after_a_button_and_from_a_link(open_page: OpenPage, pages: Callable[[str], Path]) -> None:
    shown = open_page("")
    at(shown, "layers.17.mixer", pages(NANO))
    shown.keyboard.press("ArrowDown")
    assert focused(shown) == "op:L17.add"
    folded = blocks(shown)
    shown.click("#unfold")
    shown.keyboard.press("f")
    assert blocks(shown) <= folded
    shown.focus("#theme")
    shown.keyboard.press("Enter")
    assert shown.evaluate("document.documentElement.dataset.theme") == "dark"
    shown.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    shown.keyboard.press("Space")
    until(shown, "scrollY > 0")  # with no row in focus it scrolls, as on any page
    shown.focus("#context")
    shown.keyboard.press("u")  # a letter in a field is a letter
    assert blocks(shown) <= folded


def test_what_a_screen_reader_is_told(nano: Page) -> None:
    assert nano.locator('#drawing svg[role="tree"]').get_attribute("aria-label") == f"{NANO}, top to bottom"
    row(nano, "block:L0").dblclick()
    for shown in nano.locator("#drawing .row").all():
        assert shown.get_attribute("role") == "treeitem" and shown.get_attribute("aria-label")
        assert int(shown.get_attribute("aria-level") or 0) >= 1
    assert row(nano, "op:L0.add").get_attribute("aria-expanded") is None
    assert row(nano, "op:L0.mixer").get_attribute("aria-expanded") == "false"
    assert nano.locator('#drawing .row[tabindex="0"]').count() == 1
    unnamed = "[...document.querySelectorAll('input, select')].filter((e) => !e.labels.length && !e.ariaLabel).length"
    assert nano.evaluate(unnamed) == 0
    assert nano.evaluate("[...document.querySelectorAll('button')].every((b) => b.innerText.trim())")


# -- names that are markup ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "'\"&lt;b>\u202e"]
)
def test_names_are_never_markup(open_page: OpenPage, name: str) -> None:
    graph = dataclasses.replace(load("tiny-hybrid"), name=name)
    overlay = Overlay(name, {"L0.mixer": {"*": 1.0, name: Units((1.0, 2.0))}})
    shown = open_page(page(graph, [overlay]))
    said: list[str] = []
    shown.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    assert shown.locator("h1").inner_text() == name and shown.title() == f"{name} · archc"
    shown.select_option("#colour", "overlay:0")
    row(shown, "block:L0").click()
    row(shown, "block:L0").hover()
    shown.fill("#search", name)
    shown.wait_for_timeout(50)
    assert name in details(shown)
    assert shown.locator("script").count() == 2 and shown.locator("img, b").count() == 0 and not said


# -- models of every shape ---------------------------------------------------------------------------------------------


NO_LAYERS = """archc graph 1
name none
dim vocab = 32 fixed
dim d_model = 8
input tokens [batch, tokens]
embedding = embedding(tokens)
lm_head = lm_head(embedding)
output logits = lm_head
"""


def test_the_residual_stream_goes_from_the_embedding_to_the_last_norm(nano: Page) -> None:
    stream, middles = nano.locator("#drawing .stream"), {}
    assert stream.count() == 1
    for name in ("embedding", "norm"):
        box = row(nano, f"op:{name}").locator("rect").first
        middles[name] = nano.evaluate(
            "(box) => box.y.baseVal.value + box.height.baseVal.value / 2", box.element_handle()
        )
    assert [float(stream.get_attribute(end) or 0) for end in ("y1", "y2")] == [middles["embedding"], middles["norm"]]
    adds = nano.locator("#drawing .plus")
    assert adds.count() == blocks(nano)
    nano.click("#unfold")
    assert adds.count() == 56


def test_a_model_without_layers(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "none.ir").write_text(NO_LAYERS)
    shown = open_page(page(load(tmp_path / "none.ir")))
    assert shown.locator("#drawing .row").count() == 2 and shown.locator("#overview .bar").count() == 0
    for choice, value in (("measure", "state_bytes"), ("height", "measure"), ("colour", "measure")):
        shown.select_option(f"#{choice}", value)
    shown.click("#unfold")
    assert shown.locator("#drawing .row").count() == 2


def test_multi_token_prediction_stands_apart(open_page: OpenPage, pages: Callable[[str], Path]) -> None:
    shown = open_page(pages(SUPER))
    assert "multi-token prediction 2.94B more" in shown.locator("#headline").inner_text()
    assert "Multi-token prediction of 1 step, not counted in these shares" in details(shown)
    assert shown.locator("#drawing .stream").count() == 2
    at(shown, "mtp.layers.0.mixer", pages(SUPER))
    assert "mixer: attention" in details(shown)


def test_tied_head(open_page: OpenPage, pages: Callable[[str], Path]) -> None:
    shown = open_page(pages("tiny-mamba"))
    row(shown, "op:lm_head").click()
    assert "uses the parameters of embedding" in details(shown) and address(shown) == "#lm_head"
    assert shown.evaluate("cost.totals.params") == cost("tiny-mamba").params.total


@pytest.mark.parametrize("name", ["tiny-attention", "tiny-moe", "tiny-latent", "tiny-dense"])
def test_other_models_unfold(open_page: OpenPage, pages: Callable[[str], Path], name: str) -> None:
    shown = open_page(pages(name))
    shown.click("#unfold")
    assert blocks(shown) == sum(len(blocks) for region, blocks in load(name).blocks.items())
    shown.evaluate("for (const { block, id } of data.nodes) view.open.add(`block:${block}`).add(`op:${id}`);draw()")
    params = [param for _, param in load(name).params()]
    assert shown.locator("#drawing .row.param").count() >= len(params)


def test_one_layer(open_page: OpenPage, tmp_path: Path) -> None:
    one = spec(tmp_path, 'name: one.v2_x-1\nd_model: 64\nvocab: 50\nblocks: {"-": {mlp: {d_ff: 128}}}\nlayers: "-"\n')
    shown = open_page(page(one))
    assert blocks(shown) == 1 and shown.locator("#drawing .row.fold").count() == 0
    assert shown.locator("#overview .bar").count() == 1
    assert "One token of context" in shown.locator("#headline").inner_text()
    shown.click("#unfold")
    shown.select_option("#measure", "state_bytes")
    shown.select_option("#height", "measure")
    shown.select_option("#colour", "measure")
    assert blocks(shown) == 1


def test_layers_of_sizes_of_their_own_do_not_fold(open_page: OpenPage, tmp_path: Path) -> None:
    text = """name: uneven
d_model: 64
vocab: 50
blocks: {"-": {mlp: {d_ff: 128}}, "*": {attention: {n_heads: 4, n_kv_heads: 2, head_dim: 16}}}
layers: ["*-*-", {use: "*", n_heads: 2}, {use: "-", d_ff: 96}, "*-*-"]
"""
    shown = open_page(page(spec(tmp_path, text)))
    assert row(shown, "block:L4").count() == row(shown, "block:L5").count() == 1
    assert "n_heads 2 " in words(shown, "block:L4") and "d_ff 96" in words(shown, "block:L5")
    assert shown.locator("#drawing .row.fold").count() == 2


def test_a_link_carries_the_workload(open_page: OpenPage, pages: Callable[[str], Path]) -> None:
    """A colleague who opens the address sees what was seen; what an address cannot mean is left out."""
    shown = open_page(pages(NANO))
    shown.fill("#context", "128k")
    shown.select_option("#hardware", "a10g")
    shown.select_option("#kv", "fp8")
    assert shown.url.endswith("#?context=131072&hardware=a10g&kv=fp8")
    cards = shown.locator("#headline").inner_text()
    again = open_page(pages(NANO))
    again.goto(shown.url.replace("#?", "#layers.14.mixer?"))
    until(again, "document.getElementById('context').value === '128k'")
    assert again.locator("#headline").inner_text() == cards
    assert again.locator("#details h2").inner_text().startswith("mixer: attention")
    again.goto(f"{pages(NANO).as_uri()}#?context=abc&hardware=abacus&devices=3&kv=int3")
    until(again, "document.getElementById('context').value === '8k'")
    assert again.input_value("#hardware") == "h100" and again.input_value("#devices") == "1"


def test_folded_layers_show_each_layers_own_shade(open_page: OpenPage) -> None:
    scores: dict[str, dict[str, float]] = {"L0.mixer": {"*": 1.0}, "L2.mixer": {"*": 0.0}, "L4.mixer": {"*": 0.5}}
    shown = open_page(page(load(NANO), [Overlay("score", scores)]))
    shown.select_option("#colour", "overlay:0")
    stripes = shown.locator(".row.block").first.locator(".stripe").all()
    shades = [stripe.get_attribute("fill") for stripe in stripes]
    assert len(shades) == 6 and len(set(shades)) == 4, "three scores, and three layers without one"
