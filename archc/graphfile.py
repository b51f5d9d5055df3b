"""Reading the graph that a file of IR text holds."""

from __future__ import annotations

from pathlib import Path

from archc.ir.graph import Graph
from archc.ir.text import parse_graph
from archc.ir.verify import verify
from archc.kernels.errors import GraphError, ParseError, Place

MAX_BYTES = 64 * 2**20


def read_graph(file: Path) -> Graph:
    """The verified graph of a file of IR text. Raises ParseError or GraphError, each naming the file."""
    if file.stat().st_size > MAX_BYTES:
        raise ParseError(Place(str(file)), f"too large: {file.stat().st_size} bytes")
    try:
        content = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ParseError(Place(str(file)), f"expected UTF-8 text: {error.reason} at byte {error.start}") from None
    return verified(file, parse_graph(content, file=str(file)))


def verified(file: Path, graph: Graph) -> Graph:
    """The graph of `file` if it holds together. Raises GraphError that names the file."""
    try:
        return verify(graph)
    except GraphError as error:
        raise GraphError(f"{file}: {error}") from None
