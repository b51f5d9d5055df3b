"""What a search file says, and reading it: YAML with places, every error at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from typing_extensions import Doc

from archc.compress.recipe import read_passes
from archc.compress.sections import read_importance
from archc.importance.files import load_scores
from archc.importance.measuring import Measuring
from archc.ir.graph import Graph
from archc.kernels.errors import SpecError
from archc.passes import Pass
from archc.passes.scores import Scores
from archc.resolve import load
from archc.search.budgets import Budget, Objective
from archc.search.figures import Score
from archc.search.samplers import PRUNERS, SAMPLERS, SINGLE, make_pruner, make_sampler
from archc.search.space import Space
from archc.searching.reading import SWEEP, Reader, beside
from archc.searching.rungs import RungOptions
from archc.searching.space_file import read_space
from archc.spec.fields import record_model
from archc.yamlfile import Node, in_order, read_yaml, validate


@dataclass(frozen=True, kw_only=True)
class SearchFile:
    """A search: a base model, what varies around it, what it may cost and what makes it good."""

    archc_search: Annotated[Literal[1], Doc("version of this form")]
    name: Annotated[str, Doc("name of the search; its candidates are `<name>-1` and so on")]
    base: Annotated[str, Doc("the model that is varied: whatever `archc.load` takes")]
    space: Annotated[Space, Doc("by path (`d_model`, `mlp.d_ff`, `layers.3.mlp.d_ff`; `layers.mlp` counts layers)")]
    passes: Annotated[tuple[Pass, ...], Doc("what every candidate begins with; their options may be searched")] = ()
    ranking: Annotated[
        tuple[int, ...], Doc("positions of layers, the one that goes first before the others; for counts of layers")
    ] = ()
    budgets: Annotated[tuple[Budget, ...], Doc("such as `memory.resident <= 19.66GiB at {context: 128k}`")] = ()
    objectives: Annotated[
        tuple[Objective, ...], Doc("such as `minimize latency.decode at {hardware: a10g}`, or a rung's name")
    ] = ()
    rungs: Annotated[tuple[RungOptions, ...], Doc("what scores candidates that fit, each with how many it keeps")] = ()
    importance: Annotated[Path | Measuring | None, Doc("scores of the base: a file, or how they are measured")] = None
    by: Annotated[str, Doc("the estimator that units are chosen by where there are scores")] = "activation"
    sampler: Annotated[str, Doc("`sweep`, or one of Optuna's: tpe, nsga2, nsga3, gp, cma-es, random, qmc, ...")] = SWEEP
    options: Annotated[Mapping[str, Any], Doc("of the sampler")] = field(default_factory=dict)
    pruner: Annotated[str, Doc("one of Optuna's, which stops trainings early: median, percentile, hyperband, ...")] = ""
    pruner_options: Annotated[Mapping[str, Any], Doc("of the pruner")] = field(default_factory=dict)
    trials: Annotated[int, Gt(0), Doc("of a sampler of Optuna's")] = 100
    storage: Annotated[str, Doc("URL of a database (sqlite:///f.db, postgresql://...); else a journal file")] = ""
    workers: Annotated[int, Gt(0), Doc("processes that run trials side by side")] = 1
    target: Annotated[str | None, Doc("the runtime that must load every candidate: see `archc check`")] = None
    tp: Annotated[int, Gt(0), Doc("tensor-parallel size that the target's rules are taken at")] = 1
    compare: Annotated[tuple[str, ...], Doc("models to be told beside the front: released ones, say")] = ()
    candidates: Annotated[int, Gt(0), Doc("how many are proposed")] = 10_000
    keep: Annotated[
        int, Gt(0), Doc("how many become trials: the front, and then the best by each objective in turn")
    ] = 200
    seed: Annotated[int, Ge(0)] = 0
    source: Annotated[str, Doc("text of the file")] = field(default="", repr=False)
    folder: Annotated[Path, Doc("what the names in it are relative to")] = field(default=Path(), repr=False)


_PLAIN = ("archc_search", "name", "candidates", "keep", "seed", "by", "trials", "workers", "target", "tp")
WALKED = (
    "space", "ranking", "budgets", "objectives", "rungs", "importance", "sampler", "pruner", "passes", "storage",
    "compare",
)  # fmt: skip
UNSAID = ("options", "pruner_options", "source", "folder")  # made of other fields


def load_search(file: Path, *, folder: Path | None = None) -> SearchFile:
    """The search in a YAML file, what it names relative to `folder`, else to the file's.

    Raises SpecErrors with everything that is wrong with it."""
    folder = (folder or file.parent).resolve()  # the same search, from wherever it is named
    node, errors = read_yaml(file)
    checked, more = validate(node, record_model(SearchFile, WALKED, UNSAID))
    top: Any = checked
    if top is None:
        raise in_order([*errors, *more])
    reader = Reader([*errors, *more], folder)
    base = beside(top.base, folder)
    graph = reader.tried(node.child("base") or node, lambda: load(base))
    given: dict[str, Any] = {name: getattr(top, name) for name in _PLAIN}
    given["budgets"] = reader.all(node.child("budgets"), "budgets", reader.budget)
    given["rungs"] = rungs = reader.all(node.child("rungs"), "rungs", reader.rung)
    given["sampler"], given["options"] = reader.sampler(node.child("sampler"))
    given["objectives"] = _objectives(reader, node, rungs, given["sampler"])
    given["pruner"], given["pruner_options"] = reader.pruner(node.child("pruner"), rungs, given["objectives"])
    given["storage"] = reader.storage(node.child("storage"))
    given["compare"] = reader.all(node.child("compare"), "compare", reader.model)
    given["ranking"] = ranking = reader.ranking(node.child("ranking"))
    given["importance"], unread = read_importance(node.child("importance"), folder)
    given["passes"] = passes = _passes(reader, node.child("passes"), folder)
    reader.errors += unread
    if graph is not None:
        reader.check_rungs(node.child("rungs"), rungs, base, scored=given["importance"] is not None)
    reader.target(node.child("target"))
    space = None
    if graph is not None and passes is not None:
        scores = _scores(reader, node, given["importance"], graph)
        space, wrong = read_space(node, graph, ranking, passes, scores)
        reader.errors += wrong
    if space is not None:
        _check_sampler(reader, node, given, space)
    if reader.errors or space is None:
        raise in_order(reader.errors)
    source = file.read_text(encoding="utf-8")
    return SearchFile(**given, base=base, space=space, source=source, folder=folder)


def _check_sampler(reader: Reader, node: Node, given: Mapping[str, Any], space: Space) -> None:
    """Note what the sampler and the pruner do not take, and fields that mean nothing with this sampler."""
    name, at, pruner = given["sampler"], node.child("sampler"), node.child("pruner")
    if name in SAMPLERS and at is not None:
        reader.tried(at, lambda: make_sampler(name, given["options"], space, given["seed"]))
        if name in SINGLE and len(given["objectives"]) > 1:
            reader.errors.append(at.error(f"`{name}` takes one objective, and there are {len(given['objectives'])}"))
    if given["pruner"] in PRUNERS and pruner is not None:
        reader.tried(pruner, lambda: make_pruner(given["pruner"], given["pruner_options"]))
    idle = ("trials", "workers") if name == SWEEP else ("candidates",)
    for field_name in idle:
        if field_name in node.value:
            told = "is of a sampler of Optuna's, and this is a sweep" if name == SWEEP else "is of a sweep"
            reader.errors.append(SpecError(node.value[field_name].key_at, f"`{field_name}` {told}"))


def _objectives(reader: Reader, node: Node, rungs: tuple[RungOptions, ...], sampler: str) -> tuple[Objective, ...]:
    """What makes a candidate good: figures, and scores of rungs."""
    at = node.child("objectives")
    reader.rungs = tuple(rung.name for rung in rungs)
    known = len(reader.errors)
    found = reader.all(at, "objectives", reader.objective)
    proxies = [rung.name for rung in rungs if rung.proxy]
    if sampler == SWEEP and any(isinstance(o.figure, Score) and o.figure.name not in proxies for o in found):
        assert at is not None  # it holds the score
        wanted = "choose a `sampler` such as tpe"
        reader.errors.append(at.error(f"the score of a rung that runs a model is an objective of trials: {wanted}"))
    if not found and len(reader.errors) == known:
        reader.errors.append(node.error("`objectives`: expected at least one, such as `minimize memory.resident`"))
    return found


def _passes(reader: Reader, node: Node | None, folder: Path) -> tuple[Pass, ...] | None:
    """The passes that candidates begin with; None where they cannot be read."""
    if node is None:
        return ()
    pipeline, errors = read_passes(node, folder)
    reader.errors += errors
    return None if errors else pipeline.passes


def _scores(reader: Reader, node: Node, importance: Path | Measuring | None, graph: Graph) -> Scores | None:
    """The scores that a file has; those that are yet to be measured are not known here."""
    at = node.child("importance")
    if not isinstance(importance, Path) or at is None:
        return None
    return reader.tried(at, lambda: load_scores(importance, graph))
