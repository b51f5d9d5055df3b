"""git shows what changed in a model, not in its text: `git diff` of specs and IR files through archc.

    # .gitattributes
    *.ir diff=archc
    # git config diff.archc.command "archc diff --git-driver"

git calls the driver once a file with `path old-file old-hex old-mode new-file new-hex new-mode`, and for a renamed file
the new path and what git tells of the renaming; of an unmerged file with its path alone. Whatever the files hold, the
driver answers: what archc cannot read is shown as text, since git gives up on a driver that fails. A spec that extends
a file is read with that file as it lies in the working tree: git hands a driver one file at a time.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from archc.ir.graph import Graph
from archc.kernels.errors import ArchcError
from archc.units import format_params

_UNMERGED, _CHANGED, _RENAMED = 1, 7, 9


@dataclass(frozen=True)
class Side:
    """A file before or after: where its content lies, and its path in the repository, beside which specs look for what
    they extend."""

    content: Path
    path: str

    @property
    def exists(self) -> bool:
        """Whether there is such a file at all."""
        return str(self.content) != os.devnull

    def lines(self) -> list[str]:
        """The text, whatever it holds."""
        return self.content.read_text(encoding="utf-8", errors="replace").splitlines() if self.exists else []

    def graph(self) -> Graph:
        """The model. Raises ArchcError for what is none."""
        from archc.graphfile import verified
        from archc.ir.text import parse_graph
        from archc.resolve import load
        from archc.spec import load_spec

        suffix = Path(self.path).suffix
        if suffix in (".yaml", ".yml"):
            return load_spec(self.content.read_text(encoding="utf-8"), file=self.path).graph()
        if suffix == ".ir":
            return verified(Path(self.path), parse_graph(self.content.read_text(encoding="utf-8"), file=self.path))
        return load(self.content)


def run_git_driver(arguments: Sequence[str]) -> None:
    """Answer git; `arguments` are those that it calls a driver with."""
    if len(arguments) == _UNMERGED:
        typer.echo(f"{arguments[0]}: unmerged")
        return
    if len(arguments) not in (_CHANGED, _RENAMED):
        raise typer.BadParameter(f"--git-driver is called by git, with 1, 7 or 9 arguments: got {len(arguments)}")
    path, old, _, _, new, *_ = arguments
    renamed = arguments[_CHANGED] if len(arguments) == _RENAMED else path
    before, after = Side(Path(old), path), Side(Path(new), renamed)
    try:
        typer.echo(f"archc diff a/{path} b/{renamed}")
        _print(before, after)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich exits where a pipe is closed
        # The pager was left early, which git would take for a failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(before: Side, after: Side) -> None:
    try:
        _print_models(before, after)
    except BrokenPipeError:
        raise
    except (ArchcError, OSError, UnicodeDecodeError) as error:
        typer.echo(f"as text: {_why(before, after, error)}")
        _print_text(before, after)


def _why(before: Side, after: Side, error: Exception) -> str:
    """Why archc cannot read a file, in a line."""
    yaml = all(Path(side.path).suffix in (".yaml", ".yml") for side in (before, after))
    if yaml and not any(line.startswith("archc:") for side in (before, after) for line in side.lines()):
        return "no archc spec"
    return f"archc cannot read it: {str(error).strip().splitlines()[0]}"


def _print_models(before: Side, after: Side) -> None:
    graphs = [side.graph() if side.exists else None for side in (before, after)]
    a, b = graphs
    if a is None or b is None:
        for told, graph in zip(("removed", "added"), graphs, strict=True):
            if graph is not None:
                typer.echo(f"{told}: {_summary(graph)}")
        return
    from archc.comparison import diff

    found = diff(a, b)
    if not found:
        changed = before.lines() != after.lines()
        typer.echo("the same model; its text changed:" if changed else "the same model and text")
        _print_text(before, after)
        return
    from archc.diff_table import print_diff

    print_diff(found)


def _summary(graph: Graph) -> str:
    """A model in a line: its layers by kind, and how large it is."""
    kinds = Counter(node.op.kind for node in graph.nodes if node.region and node.op.Fields is not None)
    layers = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{graph.name}: {layers or 'no layers'}; {format_params(graph.cost().params.total)} parameters"


def _print_text(before: Side, after: Side) -> None:
    """The texts' unified diff."""
    old, new = (f"{x}/{side.path}" if side.exists else os.devnull for x, side in (("a", before), ("b", after)))
    for line in difflib.unified_diff(before.lines(), after.lines(), old, new, lineterm=""):
        typer.echo(line)
