"""`archc show CHECKPOINT --stats`: what the values of every tensor are like, read one tensor at a time."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from archc.ir.graph import Graph, Node
from archc.ir.op import Param
from archc.terminal import console, plain_table
from archc.viz.block import chosen
from archc.viz.layers import node_letter

if TYPE_CHECKING:
    from torch import Tensor

    from archc.hub.weights import Weights

# Values are counted in fp64 in pieces of so many elements.
_PIECE = 2**22


@dataclass(frozen=True)
class Moments:
    """Of the finite values of a tensor: how many, mean, sum of squared deviations, greatest magnitude; then how many
    of all values are zero, NaN and infinite."""

    finite: int = 0
    mean: float = 0.0
    squares: float = 0.0
    abs_max: float = 0.0
    zeros: int = 0
    nans: int = 0
    infs: int = 0

    def __add__(self, other: Moments) -> Moments:
        """Those of both together (Chan et al. 1979), which does not lose a small deviation beside a large mean."""
        finite = self.finite + other.finite
        apart, share = other.mean - self.mean, other.finite / finite if finite else 0.0
        return Moments(
            finite,
            self.mean + apart * share,
            self.squares + other.squares + apart * apart * self.finite * share,
            max(self.abs_max, other.abs_max),
            self.zeros + other.zeros,
            self.nans + other.nans,
            self.infs + other.infs,
        )


@dataclass(frozen=True)
class Statistics:
    """One tensor: mean, standard deviation and greatest magnitude of its finite values (None where there are none), the
    share of zeros, and how many values are NaN and infinite."""

    tensor: str
    kind: str
    param: str
    shape: tuple[int, ...]
    dtype: str
    mean: float | None
    std: float | None
    abs_max: float | None
    zeros: float
    nans: int
    infs: int


def show_statistics(model: str, *, layer: int | None = None, op: str | None = None, as_json: bool = False) -> None:
    """Print the statistics of a model's tensors, or those of a layer or op.

    Raises WeightError for a model without weights."""
    from archc.hub.weights import weights_of

    weights = weights_of(model)
    whole = layer is None and op is None
    nodes = weights.graph.nodes if whole else chosen(weights.graph, layer=layer, op=op)
    found = list(statistics(weights, nodes))
    if as_json:
        data = {"model": weights.graph.name, "tensors": [dataclasses.asdict(one) for one in found]}
        typer.echo(json.dumps(data, indent=2, allow_nan=False))
        return
    print_statistics(weights.graph.name, found, each=not whole)


def statistics(weights: Weights, nodes: Iterable[Node]) -> Iterator[Statistics]:
    """Statistics of the parameters that nodes use, each once, with a bar on a terminal when it takes long."""
    from archc.progress import bar

    wanted = list(_params(weights.graph, nodes))
    with bar("weights", sum(weights.nbytes(key) for key, _, _ in wanted), unit="bytes") as advance:
        for key, node, param in wanted:
            moments = moments_of(weights.read(key))
            yield _statistics(key, node, param, weights.dtypes[key], moments)
            advance(weights.nbytes(key))


def _params(graph: Graph, nodes: Iterable[Node]) -> Iterator[tuple[str, Node, Param]]:
    """Key, owner and parameter of everything that nodes use, in the graph's order."""
    used = {node.owner or node.id for node in nodes}
    for node, param in graph.params():
        if node.id in used:
            yield f"{graph.scopes[node.id]}.{param.name}", node, param


def moments_of(tensor: Tensor) -> Moments:
    """The moments of a tensor."""
    flat = tensor.reshape(-1)
    return sum((_moments(flat[at : at + _PIECE]) for at in range(0, flat.numel(), _PIECE)), Moments())


def _moments(piece: Tensor) -> Moments:
    values = piece.double()
    finite = values[values.isfinite()]
    nans, zeros = int(values.isnan().sum()), int((values == 0).sum())
    bad = dict(zeros=zeros, nans=nans, infs=values.numel() - finite.numel() - nans)
    if not finite.numel():
        return Moments(**bad)
    mean = finite.mean()
    squares = float((finite - mean).square().sum())
    return Moments(finite.numel(), float(mean), squares, float(finite.abs().max()), **bad)


def _statistics(key: str, node: Node, param: Param, dtype: str, of: Moments) -> Statistics:
    letter = node_letter(node)
    return Statistics(
        tensor=key,
        kind=f"{letter} {node.op.kind}" if letter else node.op.kind,
        param=param.name,
        shape=param.shape,
        dtype=dtype,
        mean=of.mean if of.finite else None,
        std=math.sqrt(of.squares / of.finite) if of.finite else None,
        abs_max=of.abs_max if of.finite else None,
        zeros=of.zeros / max(math.prod(param.shape), 1),
        nans=of.nans,
        infs=of.infs,
    )


# -- on a terminal -----------------------------------------------------------------------------------------------------


def print_statistics(name: str, found: Sequence[Statistics], *, each: bool) -> None:
    """A row for `each` tensor, or one for each kind and parameter over all layers, and what is not finite."""
    out = console()
    out.print(Text.assemble((name, "bold"), f"  {len(found)} tensors"))
    out.print()
    out.print(_table(((s.tensor, [s]) for s in found), "type") if each else _table(_grouped(found), "count"))
    out.print()
    _print_not_finite(out, found)


def _grouped(found: Sequence[Statistics]) -> Iterator[tuple[str, list[Statistics]]]:
    groups: dict[tuple[str, str], list[Statistics]] = {}
    for one in found:
        groups.setdefault((one.kind, one.param), []).append(one)
    return ((f"{kind} {param}", of) for (kind, param), of in groups.items())


def _table(rows: Iterable[tuple[str, list[Statistics]]], second: str) -> Table:
    numbers = ("count", "mean", "std", "|max|", "zeros")
    table = plain_table("tensor", second, "mean", "std", "|max|", "zeros", numbers=numbers, whole=(second, "zeros"))
    for name, of in rows:
        spans = (_span([getattr(s, field) for s in of]) for field in ("mean", "std", "abs_max"))
        held = of[0].dtype if second == "type" else str(len(of))
        table.add_row(Text(name), held, *spans, f"{sum(s.zeros for s in of) / len(of):.1%}")
    return table


def _span(values: Sequence[float | None]) -> str:
    """`least to greatest` of those that are there, one number where they look the same."""
    there = [value for value in values if value is not None]
    if not there:
        return "-"
    least, greatest = f"{min(there):.2g}", f"{max(there):.2g}"
    return least if least == greatest else f"{least} to {greatest}"


def _print_not_finite(out: Console, found: Sequence[Statistics]) -> None:
    bad = [one for one in found if one.nans or one.infs]
    if not bad:
        out.print("no NaN, no infinity")
    for one in bad:
        out.print(Text(f"{one.tensor}: {one.nans} NaN, {one.infs} infinite", "bold red"))
