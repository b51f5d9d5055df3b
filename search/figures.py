"""Figures of the cost sheet for many candidates at once, by the names that budgets and objectives use."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from archc.ir.cost_program import CostProgram, cost_program
from archc.ir.hardware import HardwareProfile
from archc.ir.workload import FormatChoice, Workload
from archc.kernels.errors import SearchError, UnknownName
from archc.search.choices import Points, Size
from archc.search.space import Space

Values = npt.NDArray[np.float64]  # [candidates]
Unit = Literal["parameters", "bytes", "FLOPs", "s", "sequences", "tokens/s", "score"]

# A key of the cost sheet without its unit: what it counts, and the figure of a cost program, if it is one.
FIGURES: Mapping[str, tuple[Unit, str]] = {
    "params.total": ("parameters", "params_total"),
    "params.active": ("parameters", "params_active"),
    "params.active_without_embedding": ("parameters", "params_active_without_embedding"),
    "memory.weights": ("bytes", "weights_bytes"),
    "memory.kv": ("bytes", "kv_bytes"),
    "memory.ssm": ("bytes", "ssm_bytes"),
    "memory.conv": ("bytes", "conv_bytes"),
    "memory.resident": ("bytes", "resident_bytes"),
    "memory.activation": ("bytes", "activation_bytes"),
    "memory.peak": ("bytes", "peak_bytes"),
    "flops.prefill": ("FLOPs", "prefill_flops"),
    "flops.decode": ("FLOPs", "decode_flops"),
    "latency.prefill": ("s", "prefill_s"),
    "latency.decode": ("s", "decode_s"),
    "throughput.max_batch": ("sequences", ""),
    "throughput.output_tokens": ("tokens/s", ""),
}
TIMED = ("latency.prefill", "latency.decode", "throughput.max_batch", "throughput.output_tokens")
_MOST = 2**20  # sequences of a batch that nothing else bounds


@dataclass(frozen=True)
class Setting:
    """At what a figure is taken: a workload, formats, and hardware where there is any."""

    workload: Workload
    formats: FormatChoice = field(default_factory=FormatChoice)
    hardware: HardwareProfile | None = None

    def __str__(self) -> str:
        w, parts = self.workload, []
        parts += [self.hardware.name] if self.hardware else []
        parts += [f"input {w.input}, output {w.output}" if w.output else f"context {w.context}"]
        parts += [f"batch {w.batch}" if w.batch else "largest batch"]
        chosen = vars(self.formats).items()
        return ", ".join([*parts, *(f"{name} {fmt}" for name, fmt in chosen if fmt)])


@dataclass(frozen=True)
class Figure:
    """A figure of the cost sheet at a setting. Raises UnknownName for one that there is not, SearchError for a time
    without hardware."""

    name: str
    setting: Setting

    def __post_init__(self) -> None:
        if self.name not in FIGURES:
            raise UnknownName("figure", self.name, FIGURES)
        if self.name in TIMED and self.setting.hardware is None:
            raise SearchError(f"`{self.name}` needs `hardware`")

    @property
    def unit(self) -> Unit:
        """What it counts."""
        return FIGURES[self.name][0]

    def __str__(self) -> str:
        return f"{self.name} at {self.setting}"


@dataclass(frozen=True)
class Score:
    """What a rung of the ladder measures, by the rung's name; less is better."""

    name: str
    unit: Unit = "score"

    def __str__(self) -> str:
        return self.name


class Meter:
    """Takes figures of candidates of a space; one cost program a setting, compiled once.

    `proxies` give the scores of rungs that need no model, by name."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._programs: dict[Setting, CostProgram] = {}
        self._single: dict[tuple[Setting, str], CostProgram] = {}
        self._under: dict[int, Meter] = {}
        self.proxies: dict[str, Callable[[Points], Values]] = {}

    def score(self, name: str, points: Points) -> Values:
        """The score of every point on a rung that scores by arithmetic; NaN on any other."""
        if name in self.proxies:
            return self.proxies[name](points)
        return np.full(len(next(iter(points.values()))), np.nan)

    def take(self, figure: Figure, points: Points) -> Values:
        """The figure of every point."""
        if self.space.has_options:
            return self._by_options(figure, points)
        symbols = self.space.symbols(points)
        count = len(next(iter(points.values()))) if points else 1
        ask = functools.partial(self._ask, figure.setting, symbols, count)
        known = FIGURES[figure.name][1]
        if known:
            return ask(known)
        setting = figure.setting
        hardware = setting.hardware
        assert hardware is not None  # Figure has seen to it
        largest = _max_batch(ask, hardware.total_memory_bytes, count)
        if figure.name == "throughput.max_batch":
            return largest
        batch = np.full(count, float(setting.workload.batch)) if setting.workload.batch else largest
        return _output_rate(ask, setting.workload, batch)

    def _by_options(self, figure: Figure, points: Points) -> Values:
        """The figure of every point, those of the same options together."""
        found = np.empty(len(next(iter(points.values()))))
        for at, within in self.space.groups(points):
            meter = self._under.setdefault(id(within), Meter(within))
            found[at] = meter.take(figure, {name: points[name][at] for name in points})
        return found

    def _program(self, setting: Setting) -> CostProgram:
        if setting not in self._programs:
            self._programs[setting] = cost_program(
                self.space.graph,
                workload=setting.workload,
                varying=_shared(self.space),
                droppable=self.space.droppable,
                profile=setting.hardware,
                formats=setting.formats,
            )
        return self._programs[setting]

    def _ask(self, setting: Setting, symbols: Mapping[str, Any], count: int, name: str, **more: Any) -> Values:
        """One figure of a program for every candidate."""
        key = (setting, name)
        if key not in self._single:
            program = self._program(setting)
            self._single[key] = CostProgram({name: program.figures[name]}, program.defaults)
        program = self._single[key]
        known = {**symbols, **more}
        given = {name: known[name] for name in program.symbols if name in known}
        return np.broadcast_to(np.asarray(program(given)[name], dtype=np.float64), (count,))


def _shared(space: Space) -> dict[str, str]:
    """Dims whose sizes change, each with the one whose symbol stands for all that a choice sizes alike."""
    first: dict[tuple[str, int], str] = {}
    sizes = (c for c in space.choices if isinstance(c, Size))
    return {name: first.setdefault((c.name, each), name) for c in sizes for name, each in c.dims}


def _max_batch(ask: Any, room: int, count: int) -> Values:
    """The largest batch whose peak fits, 0 where none does: found by halving, since a peak grows with the batch."""
    low, high = np.zeros(count), np.full(count, float(_MOST))
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        fits = ask("peak_bytes", batch=np.maximum(middle, 1)) <= room
        low, high = np.where(fits, middle, low), np.where(fits, high, np.maximum(middle, low + 1))
    return low


def _output_rate(ask: Any, workload: Workload, batch: Values) -> Values:
    """Output tokens a second of a batch that is prefilled and then decoded: as `archc.ir.cost` has it."""
    some = np.maximum(batch, 1.0)
    if not workload.output:
        rate = some / ask("decode_s", batch=some, context=workload.context)
    else:
        mean = workload.input + (workload.output + 1) / 2
        decode = ask("decode_s", batch=some, context=mean)
        rate = some * workload.output / (ask("prefill_s", batch=some) + workload.output * decode)
    return np.where(batch > 0, rate, 0.0)
