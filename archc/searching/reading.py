"""Reading parts of a search file that are no plain fields: budgets, objectives, rungs, samplers; errors collected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from archc.hardware import load_hardware
from archc.ir.formats import get_format
from archc.ir.workload import FormatChoice, Workload
from archc.kernels.errors import (
    ArchcError,
    SearchError,
    SpecError,
    SpecErrors,
    UnitError,
    UnknownName,
    quoted,
    suggestion,
)
from archc.resolve import load
from archc.search.budgets import Budget, Objective
from archc.search.figures import FIGURES, Figure, Score, Setting
from archc.search.samplers import PRUNERS, SAMPLERS
from archc.searching.rungs import RUNGS, RungOptions
from archc.searching.space_file import read_values
from archc.spec.choice import choose
from archc.targets import TARGETS
from archc.units import parse_count, parse_params, parse_size
from archc.yamlfile import Node, load_yaml, shown

T = TypeVar("T")

_BUDGET = re.compile(r"(?P<figure>[\w.]+)\s*(?P<sense><=|>=)\s*(?P<limit>.+?)(?:\s+at\s+(?P<at>\{.*\}))?")
_OBJECTIVE = re.compile(r"(?P<sense>minimize|maximize)\s+(?P<figure>[\w.]+)(?:\s+at\s+(?P<at>\{.*\}))?")
_UNEQUAL = re.compile(r"[\w.]+\s*(<|>|=|==|=<|=>)\s*[^<>=].*")
_TIME = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_COUNTS = ("context", "input", "output", "batch", "prefill_chunk")
SWEEP, MIP = "sweep", "mip"
DIALECTS = ("sqlite", "postgresql")
_FORMATS = {"format": "weights", "kv_format": "kv", "ssm_format": "ssm", "conv_format": "conv"}


def beside(name: str, folder: Path) -> str:
    """A file beside the search file, or what the name is anywhere."""
    beside = folder / name
    return str(beside) if beside.exists() else name


class Reader:
    """Collects errors while it reads the parts that are no plain fields."""

    def __init__(self, errors: list[SpecError], folder: Path) -> None:
        self.errors, self.folder = errors, folder
        self.rungs: tuple[str, ...] = ()

    def tried(self, node: Node, make: Callable[[], T]) -> T | None:
        """What `make` gives, or None, its error noted at the node."""
        try:
            return make()
        except SpecErrors as errors:  # of another file, which they name
            self.errors += [error for error in errors.errors if isinstance(error, SpecError)]
        except SpecError as error:  # that has a place already
            self.errors.append(error)
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

    def all(self, node: Node | None, what: str, read: Callable[[Node], T | None]) -> tuple[T, ...]:
        """The items of a list that can be read."""
        return tuple(one for one in self.each(node, what, read) if one is not None)

    def ranking(self, node: Node | None) -> tuple[int, ...]:
        """Positions of layers, each once: a list, or `{from:, to:}`."""
        if node is None:
            return ()
        data = node.data
        if isinstance(data, dict):
            return self.tried(node, lambda: read_values("ranking", node)) or ()
        if not isinstance(data, list) or not all(type(i) is int and i >= 0 for i in data):
            self.errors.append(node.error(f"`ranking`: expected positions of layers from 0, got {shown(data)}"))
            return ()
        twice = [(i, place) for i, place in enumerate(data) if place in data[:i]]
        self.errors += [node.error(f"`ranking`: position {place} stands twice", loc=(i,)) for i, place in twice]
        return () if twice else tuple(data)

    def model(self, node: Node) -> str | None:
        """A model that `archc.load` takes, by its name or beside the search file."""
        name = node.value if isinstance(node.value, str) else ""
        return self.tried(node, lambda: (load(beside(name, self.folder)), beside(name, self.folder))[1])

    # -- budgets and objectives ----------------------------------------------------------------------------------------

    def budget(self, node: Node) -> Budget | None:
        """`figure <= limit at {...}`."""
        match = _BUDGET.fullmatch(node.value.strip()) if isinstance(node.value, str) else None
        if match is None:
            wanted = '"memory.resident <= 19.66GiB at {context: 128k, batch: 1}" (in quotes)'
            near = isinstance(node.value, str) and _UNEQUAL.fullmatch(node.value.strip())
            message = f"a budget: expected {wanted}, got {shown(node.data)}"
            self.errors.append(node.error(message, hint="use <= or >=" if near else ""))
            return None
        return self.tried(node, lambda: self._budget(node, match))

    def target(self, node: Node | None) -> None:
        """The runtime that must load what is searched: one that `archc check` knows."""
        if node is not None and isinstance(node.value, str) and node.value not in TARGETS:
            self.errors.append(node.error(f"unknown target {quoted(node.value)}{suggestion(node.value, TARGETS)}"))

    def rung(self, node: Node) -> RungOptions | None:
        """`zero_shot: {tokens: 64k, keep: 8}`."""
        made, errors = choose(node, "rung", RUNGS)
        self.errors += errors
        return None if made is None else made.below(self.folder)

    def check_rungs(self, node: Node | None, rungs: Sequence[RungOptions], base: str, *, scored: bool) -> None:
        """Note what rungs say they cannot do with a base, where all could be read."""
        nodes = node.value if node is not None else ()
        if len(nodes) == len(rungs):
            for i, (at, rung) in enumerate(zip(nodes, rungs, strict=True)):
                self.tried(at, lambda i=i, rung=rung: rung.check(base, rungs[:i], scored=scored))  # type: ignore[misc]

    def sampler(self, node: Node | None) -> tuple[str, Mapping[str, Any]]:
        """A name, or a name with options."""
        if node is None:
            return SWEEP, {}
        return self._named(node, "sampler", (SWEEP, *SAMPLERS, MIP))

    def pruner(
        self, node: Node | None, rungs: Sequence[RungOptions], objectives: Sequence[Objective]
    ) -> tuple[str, Mapping[str, Any]]:
        """A name, or a name with options, where the score of a rung that trains is the only objective."""
        if node is None:
            return "", {}
        name, options = self._named(node, "pruner", PRUNERS)
        trained = [rung.name for rung in rungs if rung.trains]
        if name in PRUNERS and (len(objectives) != 1 or objectives[0].figure.name not in trained):
            wanted = f"expected `minimize {trained[0]}`" if trained else "no rung trains: `distil` does"
            message = f"`pruner` stops trainings by their score, the only objective: {wanted}"
            self.errors.append(node.error(message))
        return name, options

    def storage(self, node: Node | None) -> str:
        """The URL of a database; empty for a journal file in the run's folder."""
        if node is None:
            return ""
        if not isinstance(node.value, str) or not re.match(r"[a-z][a-z0-9+]*://", node.value):
            wanted = "a URL such as sqlite:///study.db or postgresql://user@host/name"
            self.errors.append(node.error(f"`storage`: expected {wanted}, got {shown(node.data)}"))
            return ""
        dialect = re.split(r"[+:]", node.value)[0]
        if dialect not in DIALECTS:
            wanted = f"expected {' or '.join(DIALECTS)}{suggestion(dialect, DIALECTS)}"
            self.errors.append(node.error(f"`storage`: unknown kind of database {quoted(dialect)}: {wanted}"))
            return ""
        return node.value

    def _named(self, node: Node, what: str, known: Iterable[str]) -> tuple[str, Mapping[str, Any]]:
        """`name`, or `name: {option: value}`."""
        given = node.data
        name: Any = given if isinstance(given, str) else None
        options: Any = {}
        if isinstance(given, dict) and len(given) == 1:
            ((name, options),) = given.items()
        if name not in known or not isinstance(options or {}, dict):
            hint = suggestion(name, known) if isinstance(name, str) else ""
            wanted = f"expected one of {', '.join(known)}, or `name: {{option: value}}`"
            self.errors.append(node.error(f"`{what}`: {wanted}{hint}"))
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
        if match["figure"] in RUNGS:
            name = match["figure"]
            told = f"less is better: `minimize {name}`" if name in self.rungs else "it is a rung: add it to `rungs`"
            self.errors.append(node.error(f"`{name}`: {told}"))
            return None
        return self.tried(node, lambda: Objective(self._figure(node, match), sense, match[0]))

    def _budget(self, node: Node, match: re.Match[str]) -> Budget:
        if match["figure"] in RUNGS:
            wanted = "it is a rung: add it to `rungs`, and its score is an objective, not a budget"
            raise SearchError(f"`{match['figure']}`: {wanted}")
        figure = self._figure(node, match)
        sense: Any = match["sense"]
        return Budget(figure, sense, _limit(figure, match["limit"].strip()), match[0])

    def _figure(self, node: Node, match: re.Match[str]) -> Figure:
        """The figure of a line. Raises SpecError for what is wrong in its `at`, UnknownName, SearchError."""
        if match["at"] is None:
            return Figure(match["figure"], Setting(Workload.of()))
        before = len(node.value) - len(node.value.lstrip())
        return Figure(match["figure"], _setting(match["at"], node, before + match.start("at")))


def _setting(text: str, node: Node, offset: int) -> Setting:
    """The `at` of a line, which begins at a character of it. Raises SpecError at the entry that is wrong."""
    try:
        at = load_yaml(text, file="at")
    except SpecErrors as errors:
        raise SpecError(node.inside(offset), f"`at`: {errors.errors[0].message}") from None
    known = ("hardware", *_COUNTS, *_FORMATS)
    given: dict[str, Any] = {}
    for key, child in at.value.items():
        if key not in known:
            wrong = UnknownName("field of `at`", key, known)
            raise SpecError(node.inside(offset + child.key_at.column - 1), str(wrong))
        try:
            given[key] = _setting_value(key, child.data)
        except ArchcError as error:
            raise SpecError(node.inside(offset + child.at.column - 1), f"`{key}`: {error}") from None
    counts = {key: given[key] for key in _COUNTS if key in given}
    formats = {_FORMATS[key]: given[key] for key in _FORMATS if key in given}
    return Setting(Workload.of(**counts), FormatChoice(**formats), given.get("hardware"))


def _setting_value(key: str, value: Any) -> Any:
    """A value of `at`: a profile, a count, or the name of a format that there is. Raises ArchcError."""
    if key == "hardware":
        return load_hardware(str(value))
    if key in _COUNTS:
        return parse_count(value)
    get_format(str(value))  # of an alias the name that was given stays: results say it
    return str(value)


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
