"""The rooms import in one direction, and only by their full names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A room may import itself and the rooms named here: kernels <- ir <- passes <- codegen, search <- archc.
# `archc.__version__`, which stands in what archc writes, is anyone's.
MAY_IMPORT = {
    "kernels": set[str](),
    "ir": {"kernels"},
    "passes": {"kernels", "ir"},
    "codegen": {"kernels", "ir", "passes"},
    "search": {"kernels", "ir", "passes"},
}


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that `path` imports; a relative import is given with its dots."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module == "archc":
                yield from ((node.lineno, f"archc.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_downwards_only(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    upward = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(room)
        for line, name in imported_modules(path)
        if name.split(".")[0] == "archc" and (name.split(".")[1:2] or [""])[0] not in allowed | {"__version__"}
    ]
    assert not upward, "\n".join(upward)


def test_rooms_are_imported_by_their_full_names() -> None:
    folders = [*MAY_IMPORT, "archc", "tests"]
    short = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for folder in folders
        for path in sources(folder)
        for line, name in imported_modules(path)
        if name.startswith(".") or name.split(".")[0] in MAY_IMPORT
    ]
    assert not short, "\n".join(short)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_each_room_is_a_relative_link_of_the_package(room: str) -> None:
    link = ROOT / "archc" / room
    assert link.is_symlink()
    assert link.readlink() == Path("..") / room
