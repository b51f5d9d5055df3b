"""A search file with `sampler: mip`: a variant for each layer of a base with weights, instead of a space around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from typing_extensions import Doc

from archc.compress.sections import read_calibration, read_importance
from archc.importance.calibration import Sampling
from archc.importance.measuring import Measuring
from archc.ir.graph import Graph
from archc.kernels.errors import ArchcError, SpecErrors
from archc.resolve import load
from archc.search.budgets import Budget
from archc.search.library import Library
from archc.search.node_sums import node_sum
from archc.searching.reading import MIP, Reader, beside
from archc.searching.variants import read_library
from archc.spec.choice import read_record
from archc.spec.fields import record_model
from archc.yamlfile import Node, in_order, read_yaml, validate

Metric = Literal["kl", "loss", "hidden_mse", "logit_mse"]


@dataclass(frozen=True, kw_only=True)
class MipOptions:
    """Options of the sampler `mip`."""

    solutions: Annotated[int, Gt(0), Doc("how many combinations are measured, the best sum of scores first")] = 4
    distance: Annotated[int, Gt(0), Doc("in how many layers any two of them differ at least")] = 2
    gap: Annotated[float, Ge(0), Doc("share of its loss by which a solution may miss the optimum")] = 1e-3
    limit_s: Annotated[float, Gt(0), Doc("seconds that one solution may take")] = 60.0
    metric: Annotated[Metric, Doc("what a replacement is scored by, and a combination is measured by")] = "kl"
    evaluations: Annotated[int, Ge(0), Doc("combinations that a local search around the best may measure")] = 0


@dataclass(frozen=True, kw_only=True)
class MipFile:
    """A search for the best variant of each layer of a base."""

    archc_search: Annotated[Literal[1], Doc("version of this form")]
    name: Annotated[str, Doc("name of the search; its candidates are `<name>-1` and so on")]
    base: Annotated[str, Doc("the model whose layers are replaced: a folder with weights")]
    library: Annotated[Library, Doc("variants by kind of layer (`mlp: [keep, drop, linear]`) or `layers.3`")]
    budgets: Annotated[tuple[Budget, ...], Doc("on figures that are sums over layers")]
    sampler: Annotated[MipOptions, Doc("`mip`, with its options")] = field(default_factory=MipOptions)
    calibration: Annotated[Sampling, Doc("the text that replacements are measured and fitted on")] = field(
        default_factory=Sampling
    )
    importance: Annotated[Path | Measuring | None, Doc("scores that units are kept by; else they are measured")] = None
    target: Annotated[str | None, Doc("the runtime that must load every candidate: see `archc check`")] = None
    tp: Annotated[int, Doc("tensor-parallel size that the target's rules are taken at")] = 1
    source: Annotated[str, Doc("text of the file")] = field(default="", repr=False)
    folder: Annotated[Path, Doc("what the names in it are relative to")] = field(default=Path(), repr=False)


WALKED = ("library", "budgets", "sampler", "calibration", "importance", "folder")


def is_mip(file: Path) -> bool:
    """Whether a search file names the sampler `mip`; one that cannot be read is none."""
    try:
        node, _ = read_yaml(file)
    except SpecErrors:
        return False
    sampler = node.child("sampler")
    return sampler is not None and (sampler.value == MIP or (isinstance(sampler.value, dict) and MIP in sampler.value))


def load_mip(file: Path, *, folder: Path | None = None) -> MipFile:
    """The search in a YAML file, what it names relative to `folder`, else to the file's.

    Raises SpecErrors with everything that is wrong with it."""
    folder = folder or file.parent
    node, errors = read_yaml(file)
    checked, more = validate(node, record_model(MipFile, WALKED))
    top: Any = checked
    errors = [*errors, *more]
    if top is None:
        raise in_order(errors)
    reader = Reader(errors, folder)
    base, at = beside(top.base, folder), node.child("base") or node
    graph = reader.tried(at, lambda: _measurable(base))
    library, wrong = read_library(node.child("library"), graph) if graph is not None else (None, [])
    calibration, unread = read_calibration(node.child("calibration"), folder)
    importance, unscored = read_importance(node.child("importance"), folder)
    errors += [*wrong, *unread, *unscored]
    budgets = tuple(_budgets(reader, node.child("budgets"), graph))
    if not budgets and not (node.child("budgets") and errors):
        errors.append(node.error("`budgets`: expected at least one: without any every layer stays"))
    options = _options(reader, node.value["sampler"])
    reader.target(node.child("target"))
    if errors or library is None or options is None:
        raise in_order(errors)
    return MipFile(
        archc_search=1,
        name=top.name,
        base=base,
        library=library,
        budgets=budgets,
        sampler=options,
        calibration=calibration or Sampling(),
        importance=importance,
        target=top.target,
        tp=top.tp,
        source=file.read_text(encoding="utf-8"),
        folder=folder.resolve(),
    )


def _measurable(base: str) -> Graph:
    """The graph of a base. Raises ArchcError for one without weights, or whose units cannot be taken out."""
    from archc.hub.checkpoint_dir import packed_weights
    from archc.hub.weights import weights_of

    if not Path(base).is_dir():
        wanted = "expected the folder of a model with weights"
        raise ArchcError(f"`mip` measures replacements of layers: {wanted}, got `{load(base).name}`")
    graph = weights_of(base).graph
    if packed_weights(graph):
        raise ArchcError(f"`{graph.name}` has weights that are stored in blocks, of which units cannot be taken out")
    return graph


def _budgets(reader: Reader, node: Node | None, graph: Graph | None) -> Iterator[Budget]:
    """The budgets, each a sum over layers."""
    nodes = node.value if node is not None and isinstance(node.value, tuple) else ()
    for at, budget in zip(nodes, reader.each(node, "budgets", reader.budget), strict=True):
        if budget is not None and _is_sum(reader, at, budget, graph):
            yield budget


def _is_sum(reader: Reader, at: Node, budget: Budget, graph: Graph | None) -> bool:
    known = len(reader.errors)
    if graph is not None:
        reader.tried(at, lambda: node_sum(budget.figure, graph))
    return len(reader.errors) == known


def _options(reader: Reader, node: Node) -> MipOptions | None:
    """`mip`, or `mip: {solutions: 4, ...}`."""
    body = node.value[MIP] if isinstance(node.value, dict) else None
    if body is None or body.value is None:
        return MipOptions()
    made, errors = read_record(body, MipOptions)
    if isinstance(node.value, dict) and len(node.value) > 1:
        errors = [*errors, node.error(f"`sampler`: expected one, got {', '.join(node.value)}")]
    reader.errors += errors
    return made if not errors else None
