"""Pictures of the docs are what docs/pictures.py draws now: `make pictures` after a change of what is drawn."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from archc import zoo

DOCS = Path(__file__).parents[2] / "docs"
DRAW = "docs/{} is not what archc draws now: run `make pictures`"


@functools.cache
def pictures() -> ModuleType:
    """docs/pictures.py."""
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", zoo.names())
def test_the_picture_of_a_model(name: str) -> None:
    drawn = (DOCS / "gallery" / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == pictures().picture(pictures().load(name)), DRAW.format(f"gallery/{name}.svg")


@pytest.mark.parametrize(("a", "b"), pictures().DIFFERENCES)
def test_the_picture_of_a_difference(a: str, b: str) -> None:
    file = pictures().difference_file(a, b)
    drawn = (DOCS / "gallery" / file).read_text(encoding="utf-8")
    assert drawn == pictures().difference(a, b), DRAW.format(f"gallery/{file}")


def test_the_page_shows_what_is_there() -> None:
    page = (DOCS / "gallery" / "README.md").read_text(encoding="utf-8")
    assert page == pictures().page(), DRAW.format("gallery/README.md")
    models = {f"{name}.svg" for name in zoo.names()}
    differences = {pictures().difference_file(a, b) for a, b in pictures().DIFFERENCES}
    assert {file.name for file in (DOCS / "gallery").iterdir()} == models | differences | {"README.md"}
    assert {line.partition("(")[2].rstrip(")") for line in page.splitlines() if line.startswith("!")} == (
        models | differences
    )


@pytest.mark.parametrize("name", pictures().PRINTED)
def test_what_a_terminal_shows(name: str) -> None:
    drawn = (DOCS / name).read_text(encoding="utf-8")
    assert drawn == pictures().printed(pictures().PRINTED[name]), DRAW.format(name)


def test_what_a_browser_shows_is_there() -> None:
    assert (DOCS / "page.png").read_bytes().startswith(b"\x89PNG")
