"""Lowering a graph to a package of plain torch that reads as if written by hand.

`emit_package(graph, folder)` writes it; `emit_sources(graph)` gives its text files.
"""

from archc.codegen.package import emit_package, emit_sources

__all__ = ["emit_package", "emit_sources"]
