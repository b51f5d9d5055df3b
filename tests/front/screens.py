"""A terminal of 80 columns for tests, and what is printed on it."""

from __future__ import annotations

import functools
import io
import re
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from archc.cli import app

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def archc(*arguments: object) -> str:
    """What a command prints; errors are raised."""
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


class Screen:
    """A terminal of 80 columns that remembers what is printed on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def shows(self, printer: Any, *values: Any, encoding: str = "utf-8", **options: Any) -> str:
        """What `printer` prints of `values`, none of whose lines is too long."""
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
        given = {"width": 80, "force_terminal": True, "color_system": None, "highlight": False, "legacy_windows": False}
        out = Console(file=file, **{**given, **options})
        plain = printer.func if isinstance(printer, functools.partial) else printer
        with self.monkeypatch.context() as patch:
            patch.setitem(plain.__globals__, "console", lambda: out)
            printer(*values)
        text = raw.getvalue().decode(encoding)
        assert max(len(ANSI.sub("", line)) for line in text.splitlines()) <= 80, text
        return text


def lines(text: str) -> list[str]:
    """Lines without what stands at their ends."""
    return [line.rstrip() for line in text.splitlines()]
