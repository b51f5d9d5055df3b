"""What a search file says, and reading it: YAML with places, every error at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from typing_extensions import Doc

from archc.compress.sections import read_importance
from archc.hardware import load_hardware
from archc.importance.measuring import Measuring
from archc.ir.graph import LAYERS
from archc.ir.workload import FormatChoice, Workload
from archc.kernels.errors import ArchcError, SpecError, UnitError, quoted, suggestion
from archc.resolve import load
from archc.search.budgets import Budget, Objective
from archc.search.choices import Choice, Space, count, size
from archc.search.figures import FIGURES, Figure, Score, Setting
from archc.search.samplers import SAMPLERS
from archc.searching.rungs import RUNGS, RungOptions
from archc.spec.choice import choose
from archc.spec.fields import record_model
from archc.targets import TARGETS
from archc.units import parse_count, parse_params, parse_size
from archc.yamlfile import Node, in_order, load_yaml, read_yaml, shown, validate

T = TypeVar("T")

_BUDGET = re.compile(r"(?P<figure>[\w.]+)\s*(?P<sense><=|>=)\s*(?P<limit>.+?)(?:\s+at\s+(?P<at>\{.*\}))?")
_OBJECTIVE = re.compile(r"(?P<sense>minimize|maximize)\s+(?P<figure>[\w.]+)(?:\s+at\s+(?P<at>\{.*\}))?")
_TIME = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_COUNTS = ("context", "input", "output", "batch", "prefill_chunk")
_FORMATS = {"format": "weights", "kv_format": "kv", "ssm_format": "ssm", "conv_format": "conv"}
_MOST_VALUES = 100_000
SWEEP = "sweep"


@dataclass(frozen=True, kw_only=True)
class SearchFile:
    """A search: a base model, what varies around it, what it may cost and what makes it good."""

    archc_search: Annotated[Literal[1], Doc("version of this form")]
    name: Annotated[str, Doc("name of the search; its candidates are `<name>-1` and so on")]
    base: Annotated[str, Doc("the model that is varied: whatever `archc.load` takes")]
    space: Annotated[Space, Doc("by path (`d_model`, `mlp.d_ff`, `layers.3.mlp.d_ff`; `layers.mlp` counts layers)")]
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
    trials: Annotated[int, Doc("of a sampler of Optuna's")] = 100
    target: Annotated[str | None, Doc("the runtime that must load every candidate: see `archc check`")] = None
    tp: Annotated[int, Doc("tensor-parallel size that the target's rules are taken at")] = 1
    candidates: Annotated[int, Doc("how many are proposed")] = 10_000
    keep: Annotated[int, Doc("how many become trials: the front, and then the best by each objective in turn")] = 200
    seed: int = 0
    source: Annotated[str, Doc("text of the file")] = field(default="", repr=False)
    folder: Annotated[Path, Doc("what the names in it are relative to")] = field(default=Path(), repr=False)


_WALKED = ("space", "ranking", "budgets", "objectives", "rungs", "importance", "sampler", "folder")


def load_search(file: Path, *, folder: Path | None = None) -> SearchFile:
    """The search in a YAML file, what it names relative to `folder`, else to the file's.

    Raises SpecErrors with everything that is wrong with it."""
    folder = folder or file.parent
    node, errors = read_yaml(file)
    checked, more = validate(node, record_model(SearchFile, _WALKED))
    top: Any = checked
    errors = [*errors, *more]
    if top is None:
        raise in_order(errors)
    reader = _Reader(errors, folder)
    graph = reader.tried(node.child("base") or node, lambda: load(_model(top.base, folder)))
    ranking = reader.ranking(node.child("ranking"))
    budgets = tuple(b for b in reader.each(node.child("budgets"), "budgets", reader.budget) if b is not None)
    rungs = tuple(r for r in reader.each(node.child("rungs"), "rungs", reader.rung) if r is not None)
    reader.rungs = tuple(rung.name for rung in rungs)
    listed = reader.each(node.child("objectives"), "objectives", reader.objective)
    objectives = tuple(objective for objective in listed if objective is not None)
    importance, unread = read_importance(node.child("importance"), folder)
    reader.errors += unread
    sampler, options = reader.sampler(node.child("sampler"))
    if sampler == SWEEP and any(isinstance(o.figure, Score) for o in objectives):
        at = node.child("objectives") or node
        reader.errors.append(at.error("a rung's score is an objective of trials: choose a `sampler` such as tpe"))
    space = reader.space(node, graph, ranking) if graph is not None else None
    if not objectives and not any(e for e in errors if "objective" in str(e)):
        errors.append(node.error("`objectives`: expected at least one, such as `minimize memory.resident`"))
    if top.target is not None and top.target not in TARGETS:
        at = node.child("target") or node
        errors.append(at.error(f"unknown target {quoted(top.target)}{suggestion(top.target, TARGETS)}"))
    if errors or space is None:
        raise in_order(errors)
    known: dict[str, Any] = {k: getattr(top, k) for k in ("archc_search", "name", "candidates", "keep", "seed")}
    known |= {k: getattr(top, k) for k in ("by", "trials", "target", "tp")}
    known |= {"ranking": ranking, "budgets": budgets, "objectives": objectives, "space": space, "rungs": rungs}
    known |= {"importance": importance, "sampler": sampler, "options": options, "base": _model(top.base, folder)}
    return SearchFile(**known, source=file.read_text(encoding="utf-8"), folder=folder.resolve())


def _model(name: str, folder: Path) -> str:
    """A file beside the search file, or what the name is anywhere."""
    beside = folder / name
    return str(beside) if beside.exists() else name


class _Reader:
    """Collects errors while it reads the parts that are no plain fields."""

    def __init__(self, errors: list[SpecError], folder: Path) -> None:
        self.errors, self.folder = errors, folder
        self.rungs: tuple[str, ...] = ()

    def tried(self, node: Node, make: Callable[[], T]) -> T | None:
        """What `make` gives, or None, its error noted at the node."""
        try:
            return make()
        except ArchcError as error:
            self.errors.append(node.error(str(error)))
        return None

    def each(self, node: Node | None, what: str, read: Callable[[Node], T]) -> Iterator[T]:
        if node is None:
            return
        if not isinstance(node.value, tuple):
            self.errors.append(node.error(f"`{what}`: expected a list, got {shown(node.data)}"))
            return
        yield from map(read, node.value)

    # -- space ---------------------------------------------------------------------------------------------------------

    def space(self, node: Node, graph: Any, ranking: tuple[int, ...]) -> Space | None:
        listed = node.child("space")
        if listed is None or not isinstance(listed.value, dict) or not listed.value:
            at = node if listed is None else listed
            self.errors.append(
                at.error("`space`: expected values by path, such as `mlp.d_ff: {from: 8192, to: 16384}`")
            )
            return None
        found: list[Choice] = []
        for path, value in listed.value.items():
            values = self.values(path, value)
            if values:
                made = self.tried(value, lambda path=path, values=values: _choice(graph, path, values, ranking))  # type: ignore[misc]
                found += [] if made is None else [made]
        return self.tried(listed, lambda: Space(graph, tuple(found))) if len(found) == len(listed.value) else None

    def values(self, path: str, node: Node) -> tuple[int, ...]:
        """The values of `{from:, to:, step:}`, of a list, or of one number, in order."""
        data = node.data
        if isinstance(data, dict) and {"from", "to"} <= data.keys() <= {"from", "to", "step"}:
            bounds = [n for n in map(_whole, (data["from"], data["to"], data.get("step", 1))) if n is not None]
            if len(bounds) == 3 and 0 <= bounds[0] <= bounds[1] and bounds[2] > 0:
                found = range(bounds[0], bounds[1] + 1, bounds[2])
                if len(found) < _MOST_VALUES:
                    return tuple(found)
        listed = data if isinstance(data, list | tuple) else [data]
        numbers = [_whole(one) for one in listed]
        if numbers and all(n is not None and n >= 0 for n in numbers):
            return tuple(sorted({n for n in numbers if n is not None}))
        self.errors.append(
            node.error(f"`{path}`: expected {{from:, to:, step:}} or a list of sizes, got {shown(data)}")
        )
        return ()

    def ranking(self, node: Node | None) -> tuple[int, ...]:
        """Positions, each once."""
        if node is None:
            return ()
        data = node.data
        if isinstance(data, dict):
            return self.values("ranking", node)
        listed = isinstance(data, list | tuple) and all(isinstance(i, int) and i >= 0 for i in data)
        if listed and len(set(data)) == len(data):
            return tuple(data)
        self.errors.append(node.error(f"`ranking`: expected positions of layers, none twice, got {shown(data)}"))
        return ()

    # -- budgets and objectives ----------------------------------------------------------------------------------------

    def budget(self, node: Node) -> Budget | None:
        """`figure <= limit at {...}`."""
        match = _BUDGET.fullmatch(node.value.strip()) if isinstance(node.value, str) else None
        if match is None:
            wanted = '"memory.resident <= 19.66GiB at {context: 128k, batch: 1}" (in quotes)'
            self.errors.append(node.error(f"a budget: expected {wanted}, got {shown(node.data)}"))
            return None
        return self.tried(node, lambda: self._budget(match))

    def rung(self, node: Node) -> RungOptions | None:
        """`zero_shot: {tokens: 64k, keep: 8}`."""
        made, errors = choose(node, "rung", RUNGS)
        self.errors += errors
        return None if made is None else made.below(self.folder)

    def sampler(self, node: Node | None) -> tuple[str, Mapping[str, Any]]:
        """A name, or a name with options."""
        if node is None:
            return SWEEP, {}
        given = node.data
        name: Any = given if isinstance(given, str) else None
        options: Any = {}
        if isinstance(given, dict) and len(given) == 1:
            ((name, options),) = given.items()
        if name not in (SWEEP, *SAMPLERS) or not isinstance(options or {}, dict):
            known = ", ".join((SWEEP, *SAMPLERS))
            self.errors.append(node.error(f"`sampler`: expected one of {known}, or `name: {{option: value}}`"))
        return str(name), options or {}

    def objective(self, node: Node) -> Objective | None:
        """`minimize figure at {...}`, or `minimize rung`."""
        if isinstance(node.value, str) and node.value.removeprefix("minimize ").strip() in self.rungs:
            name = node.value.removeprefix("minimize ").strip()
            return Objective(Score(name), "minimize", f"minimize {name}")
        match = _OBJECTIVE.fullmatch(node.value.strip()) if isinstance(node.value, str) else None
        if match is None:
            wanted = '"minimize latency.decode at {hardware: a10g}" (in quotes), or maximize'
            self.errors.append(node.error(f"an objective: expected {wanted}, got {shown(node.data)}"))
            return None
        sense: Any = match["sense"]
        return self.tried(node, lambda: Objective(Figure(match["figure"], self._setting(match["at"])), sense, match[0]))

    def _budget(self, match: re.Match[str]) -> Budget:
        figure = Figure(match["figure"], self._setting(match["at"]))
        sense: Any = match["sense"]
        return Budget(figure, sense, _limit(figure, match["limit"].strip()), match[0])

    def _setting(self, text: str | None) -> Setting:
        given: Mapping[str, Any] = load_yaml(text, file="at").data if text else {}
        known = ("hardware", *_COUNTS, *_FORMATS)
        for key in given:
            if key not in known:
                raise ArchcError(f"`at`: unknown field `{key}`: known are {', '.join(known)}")
        counts = {key: parse_count(given[key]) for key in _COUNTS if key in given}
        formats = {_FORMATS[key]: str(given[key]) for key in _FORMATS if key in given}
        hardware = load_hardware(str(given["hardware"])) if "hardware" in given else None
        return Setting(Workload.of(**counts), FormatChoice(**formats), hardware)


def _choice(graph: Any, path: str, values: tuple[int, ...], ranking: tuple[int, ...]) -> Choice:
    head, _, kind = path.partition(".")
    if head == LAYERS and kind and "." not in kind:
        return count(graph, kind, values, ranking)
    return size(graph, path, values)


def _whole(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool | float) or value is None else parse_count(value)
    except UnitError:
        return None


def _limit(figure: Figure, text: str) -> float:
    """A limit in the figure's base unit. Raises UnitError."""
    unit = FIGURES[figure.name][0]
    if unit == "bytes":
        return float(parse_size(text))
    if unit in ("parameters", "FLOPs"):
        return float(parse_params(text))
    if unit == "s":
        match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(us|ms|s)", text)
        if match is None:
            raise UnitError(f"expected a time such as 25ms or 1.5s: got `{text}`")
        return float(match[1]) * _TIME[match[2]]
    if re.fullmatch(r"[0-9]*\.?[0-9]+", text) is None:
        raise UnitError(f"expected a number ({unit}): got `{text}`")
    return float(text)
