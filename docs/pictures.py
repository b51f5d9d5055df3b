"""Draws the pictures of the docs (`make pictures`).

docs/show.svg and docs/diff.svg are what a terminal shows, docs/page.png what a browser does; docs/gallery/ has a
picture of every model of the zoo and of some differences between models, with the page that shows them.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from archc import load, zoo
from archc.viz.page import page as show_page
from archc.viz.picture import picture

HERE = Path(__file__).parent
GALLERY = HERE / "gallery"
WIDTH = 100
PRINTED = {
    "show.svg": ["show", "nemotron-nano-9b-v2"],
    "diff.svg": ["diff", "nemotron-nano-12b-v2", "nemotron-nano-9b-v2", "--hardware", "a10g", "--context", "128k"],
}
DIFFERENCES = (
    ("nemotron-nano-12b-v2", "nemotron-nano-9b-v2"),
    ("nemotron-h-8b", "nemotron-h-4b"),
    ("nemotron-h-56b", "nemotron-h-47b"),
    ("llama-3.1-8b", "llama-3.1-minitron-4b-depth"),
)


def printed(arguments: list[str]) -> str:
    """A picture of the command line and what it prints, coloured."""
    env = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
    run = subprocess.run(
        [sys.executable, "-m", "archc", *arguments], env=env, capture_output=True, text=True, check=False
    )
    text = Text.assemble((f"$ archc {' '.join(arguments)}\n", "bold"), Text.from_ansi(run.stdout), "\n")
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(text, soft_wrap=True)
    return console.export_svg(title="archc", unique_id="archc")


def screenshot(model: str) -> bytes:
    """The page of a model in a browser, as a PNG."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(show_page(load(model)), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1360, "height": 860})
        page.goto(file.as_uri())
        return page.screenshot()


def gallery() -> dict[str, str]:
    """Every file of the gallery by name."""
    made = {f"{name}.svg": picture(load(name)) for name in zoo.names()}
    made |= {difference_file(a, b): difference(a, b) for a, b in DIFFERENCES}
    return {**made, "README.md": page()}


def difference(a: str, b: str) -> str:
    """A picture of what makes B of A."""
    from archc import diff
    from archc.viz.diff_picture import diff_picture

    return diff_picture(diff(a, b, hardware="h100", context="8k"))


def difference_file(a: str, b: str) -> str:
    """Its name in the gallery."""
    return f"diff-{a}-{b}.svg"


def page() -> str:
    """The page that shows them all."""
    lines = [
        "# Gallery",
        "",
        "Drawn by `make pictures`: `archc show MODEL --svg FILE` and `archc diff A B --svg FILE`.",
        "",
    ]
    lines += ["## What makes one of another", ""]
    lines += [
        line for a, b in DIFFERENCES for line in (f"### {a} to {b}", "", f"![{a} to {b}]({difference_file(a, b)})", "")
    ]
    lines += ["## Every model of the zoo", ""]
    lines += [line for name in zoo.names() for line in (f"### {name}", "", f"![{name}]({name}.svg)", "")]
    return "\n".join(lines[:-1]) + "\n"


def main() -> None:
    """Draw every picture."""
    for name, arguments in PRINTED.items():
        (HERE / name).write_text(printed(arguments), encoding="utf-8")
    (HERE / "page.png").write_bytes(screenshot("nemotron-3-super-120b-a12b"))
    GALLERY.mkdir(exist_ok=True)
    for old in GALLERY.iterdir():
        old.unlink()
    for name, text in gallery().items():
        (GALLERY / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
