"""A real browser for tests that open what archc draws. `make browser` sees to it that there is one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

    OpenPage = Callable[..., Page]

# What a page may ask for: itself, and what a test serves on this machine.
HERE = ("file", "data", "blob", "about")
LOOPBACK = ("127.0.0.1", "localhost")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium, one a test process."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium on PATH: `make browser` installs one, or says why it cannot")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[OpenPage]:
    """`open_page(what, width=1440, height=900, dark=False)`: a Page of a file, of a loopback URL or of a text of HTML.

    At the end the test fails if a page raised, logged an error, or asked for anything beyond this machine."""
    troubles: list[str] = []
    contexts = []

    def open_(what: Path | str, width: int = 1440, height: int = 900, dark: bool = False) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(f"raised: {error}"))
        page.on("console", lambda message: troubles.extend(_logged(message)))
        page.on("request", lambda request: troubles.extend(_away(request)))
        page.goto(_address(what, tmp_path / f"page{len(contexts)}.html"))
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not troubles, "\n".join(troubles)


def _address(what: Path | str, scratch: Path) -> str:
    """Where to go for `what`; a text of HTML is written to `scratch`, so that it is opened as a user would."""
    if isinstance(what, str) and what.startswith("http://"):
        return what
    if isinstance(what, str):
        scratch.write_text(what, encoding="utf-8")
        what = scratch
    return what.resolve().as_uri()


def _logged(message: ConsoleMessage) -> list[str]:
    return [f"logged: {message.text}"] if message.type == "error" else []


def _away(request: Request) -> list[str]:
    url = urlsplit(request.url)
    here = url.scheme in HERE or url.hostname in LOOPBACK
    return [] if here else [f"asked the network: {request.url}"]
