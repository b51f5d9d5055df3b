"""Exports are opened in the viewers that they are for: Graphviz, Mermaid, Model Explorer and Netron.

`make viewers` installs what is opened here. Nothing is fetched from anywhere: Model Explorer and Netron run on this
machine, and what their pages ask of the network is refused.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.etree import ElementTree

import pytest

from archc import zoo
from archc.ir.graph import Graph
from archc.resolve import load
from archc.viz.dot import dot
from archc.viz.mermaid import mermaid
from archc.viz.model_explorer import model_explorer
from archc.viz.netron import netron
from tests.front.export_readers import EVIL, SHOWN, read_dot, read_mermaid, renamed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

    Visit = Callable[[str], Page]

pytestmark = pytest.mark.nightly

VIEWERS = Path(__file__).resolve().parents[2] / ".venv-viewers"
STARTS_S = 60
SVG = "{http://www.w3.org/2000/svg}"
# Netron takes `eval` away from its page, and Playwright reads pages by it.
KEEP_EVAL = "(kept => Object.defineProperty(window, 'eval', {get: () => kept, set: () => {}}))(window.eval)"
EXPLORER = """
import sys, model_explorer
config = model_explorer.config()
config.add_model_from_path(sys.argv[1])
model_explorer.visualize_from_config(config, host="127.0.0.1", port=int(sys.argv[2]), no_open_in_browser=True)
"""


def needed(path: Path | str | None) -> str:
    """A path that `make viewers` makes; without it the test is skipped."""
    if path is None or not Path(path).exists():
        pytest.skip("not installed: `make viewers` installs it, or says why it cannot")
    return str(path)


def models() -> dict[str, Graph]:
    """What takes seconds to open: many layers, mixtures, multi-token prediction, names that are markup."""
    names = ("tiny-latent", "gpt-oss-20b", "nemotron-3-ultra-550b-a55b")
    return {**{name: load(name) for name in names}, "markup": renamed(load("tiny-latent"), EVIL)}


def squeezed(text: str) -> str:
    """Text without its spaces, and without invisible joiners: pages break lines where they like."""
    return "".join(text.replace("\u2060", "").split())


@pytest.fixture
def serve() -> Iterator[Callable[[Sequence[str], int], None]]:
    """`serve(command, port)`: runs until the test ends, and returns once it answers at the port."""
    running: list[subprocess.Popen[bytes]] = []

    def start(command: Sequence[str], port: int) -> None:
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        until = time.monotonic() + STARTS_S
        while not _answers(port):
            assert running[-1].poll() is None and time.monotonic() < until, f"{command[0]} does not answer"
            time.sleep(0.1)

    yield start
    for process in running:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with closing(socket.socket()) as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """`visit(url)`: a page that reaches this machine only; the test fails if its script raises."""
    raised: list[str] = []
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.route("**/*", _only_here)
    context.add_init_script(KEEP_EVAL)
    page = context.new_page()
    page.on("pageerror", lambda error: raised.append(str(error)))

    def go(url: str) -> Page:
        page.goto(url)
        return page

    yield go
    context.close()
    assert not raised, "\n".join(raised)


def _only_here(route: Route) -> None:
    if route.request.url.startswith("http://127.0.0.1:"):
        route.continue_()
    else:
        route.abort()


# -- Graphviz ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*zoo.names(), "markup"])
def test_graphviz_draws_every_node_edge_and_cluster(name: str) -> None:
    text = dot(renamed(load("tiny-latent"), EVIL) if name == "markup" else load(name))
    drawn = subprocess.run(
        [needed(shutil.which("dot")), "-Tsvg"], input=text.encode(), capture_output=True, timeout=120
    )
    assert drawn.returncode == 0 and not drawn.stderr, drawn.stderr.decode()
    parts = ElementTree.fromstring(drawn.stdout).findall(f".//{SVG}g[@class]")
    given = read_dot(text)
    of_class = {kind: [part for part in parts if part.get("class") == kind] for kind in ("node", "edge", "cluster")}
    assert len(of_class["edge"]) == len(given.edges)
    said = sorted(squeezed("".join(t.text or "" for t in part.iter(f"{SVG}text"))) for part in of_class["node"])
    assert said == sorted(map(squeezed, given.nodes.values()))
    framed = sorted(squeezed("".join(t.text or "" for t in part.iter(f"{SVG}text"))) for part in of_class["cluster"])
    assert framed == sorted(map(squeezed, given.clusters))


# -- Mermaid -----------------------------------------------------------------------------------------------------------

MERMAID = """<!doctype html><meta charset="utf-8"><main></main><script src="{bundle}"></script><script>
mermaid.initialize({{startOnLoad: false, securityLevel: "strict"}});
async function draw(text) {{
  document.querySelector("main").innerHTML = (await mermaid.render("drawing", text)).svg;
  const texts = (which) => [...document.querySelectorAll(which)].map((each) => each.textContent);
  return {{nodes: texts("g.node .nodeLabel"), clusters: texts("g.cluster .nodeLabel"),
           title: texts(".flowchartTitleText")[0], scripts: document.querySelectorAll("main script").length,
           edges: document.querySelectorAll("path.flowchart-link").length}};
}}
</script>"""


@pytest.fixture(scope="module")
def mermaid_page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page with Mermaid's own bundle in it."""
    (bundle,) = sorted(VIEWERS.glob("mermaid-*.min.js")) or [None]
    file = tmp_path_factory.mktemp("mermaid") / "page.html"
    file.write_text(MERMAID.format(bundle=Path(needed(bundle)).as_uri()), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    yield page
    page.close()


@pytest.mark.parametrize("name", [*zoo.names(), "markup"])
def test_mermaid_draws_every_node_edge_and_frame(mermaid_page: Page, name: str) -> None:
    text = mermaid(renamed(load("tiny-latent"), EVIL) if name == "markup" else load(name))
    drawn = mermaid_page.evaluate("text => draw(text)", text)
    given = read_mermaid(text)
    outputs = {target for _, target in given.edges if target.startswith("out")}
    assert len(drawn["nodes"]) == len(given.nodes) + len(outputs) and drawn["edges"] == len(given.edges)
    assert set(map(squeezed, given.nodes.values())) <= set(map(squeezed, drawn["nodes"]))
    assert sorted(map(squeezed, drawn["clusters"])) == sorted(map(squeezed, given.clusters))
    assert drawn["scripts"] == 0
    title = f"tiny-latent{SHOWN}".replace("<", "‹").replace(">", "›") if name == "markup" else name
    assert squeezed(drawn["title"]) == squeezed(title)


# -- Model Explorer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models())
def test_model_explorer_shows_every_node_and_its_attributes(
    name: str, serve: Callable[..., None], visit: Visit, tmp_path: Path
) -> None:
    graph, file, port = models()[name], tmp_path / "model.json", free_port()
    file.write_text(model_explorer(graph), encoding="utf-8")
    serve([needed(VIEWERS / "bin" / "python"), "-c", EXPLORER, str(file), str(port)], port)
    page = visit(f"http://127.0.0.1:{port}/?data={quote(json.dumps({'models': [{'url': str(file)}]}))}")
    page.wait_for_selector("text=GRAPH INFO", timeout=60_000)
    told = page.inner_text("body")
    nodes = len(graph.nodes) + len(graph.inputs) + len(graph.outputs)
    assert f"{nodes} nodes" in told and "Unsupported" not in told and "Error" not in told
    layer = next(node for node in graph.nodes if node.block == "L3" and node.op.Fields is not None)
    page.get_by_placeholder("Search nodes").fill(r"layers\.3\.mixer")
    found = page.locator(".search-results-container").get_by_text(layer.op.kind, exact=True).last
    found.click(modifiers=["Alt"])
    page.wait_for_selector("text=NODE INFO", timeout=30_000)
    told = page.inner_text("body")
    assert f"layers/3 {layer.op.kind}" in told and "layers.3.mixer" in told
    assert all(param.name in told for param in layer.op.params())
    page.screenshot(path=tmp_path / "model-explorer.png")


# -- Netron ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models())
def test_netron_shows_every_node_and_its_attributes(
    name: str, serve: Callable[..., None], visit: Visit, tmp_path: Path
) -> None:
    graph, file, port = models()[name], tmp_path / "model.netron", free_port()
    file.write_text(netron(graph), encoding="utf-8")
    serve([needed(VIEWERS / "bin" / "netron"), "--host", "127.0.0.1", "-p", str(port), str(file)], port)
    page = visit(f"http://127.0.0.1:{port}")
    page.get_by_role("button", name="Accept").click()
    page.wait_for_selector("g.node:not([style*='opacity: 0'])", timeout=60_000)
    assert page.locator("g.node-item-type > text").all_text_contents() == [node.op.kind for node in graph.nodes]
    assert page.locator("g.node-item-type > title").all_text_contents() == list(graph.by_id)
    layer = next(node for node in graph.nodes if node.op.Fields is not None)
    page.locator("g.node-item-type", has_text=layer.op.kind).first.click()
    page.wait_for_selector("text=NODE PROPERTIES", timeout=30_000)
    told = page.locator("#sidebar").inner_text()
    told += page.evaluate("[...document.querySelectorAll('#sidebar input')].map(field => field.value).join(' ')")
    assert squeezed(layer.id) in squeezed(told) and all(param.name in told for param in layer.op.params())
    page.screenshot(path=tmp_path / "netron.png")
