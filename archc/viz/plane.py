"""Two columns of a search against one another: what a picture and a terminal draw of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archc.viz.curves import marks

Point = tuple[float, float]
_MARGIN = 0.04  # of the range, beside the outermost points
_STRETCH = 2.5  # a base that would make the range so much longer is left out
_UNITS: Mapping[str, Sequence[tuple[float, str]]] = {
    "bytes": ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
    "parameters": ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")),
    "FLOPs": ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP")),
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")),
    "sequences": ((1.0, "sequences"),),
    "tokens/s": ((1.0, "tokens/s"),),
}


@dataclass(frozen=True)
class Axis:
    """One column along an axis, from `low` to `high`; texts are in units of `factor`, by the name `unit`."""

    label: str
    low: float
    high: float
    factor: float
    unit: str
    limits: tuple[float, ...] = ()

    @classmethod
    def of(cls, column: Mapping[str, Any], values: Sequence[float]) -> Axis:
        """The axis that shows all of the values."""
        low, high = min(values, default=0.0), max(values, default=1.0)
        if high == low:
            low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
        margin = (high - low) * _MARGIN
        units = _UNITS.get(column["unit"], ((1.0, ""),))
        factor, unit = next((u for u in units if u[0] <= max(abs(low), abs(high))), units[-1])
        return cls(
            column["label"],
            low - margin,
            high + margin,
            factor,
            unit,
            tuple(limit for _, limit in column.get("limits", ())),
        )

    @property
    def title(self) -> str:
        """Its label and unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def at(self, value: float) -> float:
        """Where a value lies, of the whole."""
        return (value - self.low) / (self.high - self.low)

    @property
    def limited_at(self) -> tuple[float, ...]:
        """Where its limits lie, of the whole, those that are to be seen."""
        return tuple(at for at in map(self.at, self.limits) if 0 <= at <= 1)

    def marks(self) -> Iterator[tuple[float, str]]:
        """Round values, and their texts."""
        for mark in marks(self.low / self.factor, self.high / self.factor):
            yield mark * self.factor, f"{mark:,.10g}"


@dataclass(frozen=True)
class Plane:
    """Points by what they are; `beside` are the base and models that the search is compared with.

    `line` leads along the front where both axes are all the objectives that there are."""

    x: Axis
    y: Axis
    cloud: tuple[Point, ...]
    outside: tuple[Point, ...]
    trials: tuple[tuple[str, Point], ...]
    front: tuple[tuple[str, Point], ...]
    line: tuple[Point, ...]
    beside: tuple[tuple[str, Point], ...]
    left_out: str

    @classmethod
    def of(cls, scene: Mapping[str, Any], x: int, y: int) -> Plane:
        """Columns `x` and `y` of a scene."""
        columns = scene["columns"]
        cloud = _cloud(scene, x, y)
        named = [(c["name"], c["front"], at) for c in scene["candidates"] if (at := _at(c["row"], x, y))]
        shown = [*(at for at, _ in cloud), *(at for *_, at in named)]
        others = [(one["name"], at) for one in beside(scene) if (at := _at(one["row"], x, y))]
        near = [(name, at) for name, at in others if all(_near(at[i], [p[i] for p in shown]) for i in (0, 1))]
        points = [*shown, *(at for _, at in near)]
        axes = [Axis.of(columns[i], [p[n] for p in points]) for n, i in enumerate((x, y))]
        front = tuple((name, at) for name, is_front, at in named if is_front)
        aims = [i for i, column in enumerate(columns) if column["role"] == "objective"]
        corners = _corners([at for _, at in front], columns[y]["aim"]) if sorted((x, y)) == aims else ()
        out = [name for name, _ in others if name not in dict(near)]
        told = f"outside the picture: {', '.join(out)}" if out else ""
        return cls(
            axes[0],
            axes[1],
            tuple(at for at, fits in cloud if fits),
            tuple(at for at, fits in cloud if not fits),
            tuple((name, at) for name, is_front, at in named if not is_front),
            front,
            tuple(corners),
            tuple(near),
            told,
        )


def beside(scene: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Rows of what is no candidate: the base, and models that the search is compared with."""
    yield {"name": "base", **scene["base_row"]}
    yield from scene["compared"]


def _at(row: Sequence[float | None], x: int, y: int) -> Point | None:
    a, b = row[x], row[y]
    return None if a is None or b is None else (float(a), float(b))


def _cloud(scene: Mapping[str, Any], x: int, y: int) -> list[tuple[Point, bool]]:
    """Points of the sample, and whether they are within the budgets."""
    cloud = scene["cloud"]
    values = []
    for i in (x, y):
        column, known = cloud["columns"][i], scene["columns"][i].get("values")
        if column is None:
            return []
        values.append([known[rank] for rank in column] if known else column)
    rows = zip(*values, cloud["fits"], strict=True)
    return [((float(a), float(b)), bool(fits)) for a, b, fits in rows if a is not None and b is not None]


def _near(value: float, others: Sequence[float]) -> bool:
    """Whether a value is no farther from the others than leaves them a good part of the picture."""
    if not others:
        return True
    low, high = min(others), max(others)
    return max(high, value) - min(low, value) <= _STRETCH * (high - low) or high == low


def _corners(front: Sequence[Point], aim: str) -> Iterator[Point]:
    """Steps along a front of two objectives: between two of its candidates one has the worse `y` of both."""
    ordered = sorted(front)
    for i, (x, y) in enumerate(ordered):
        if i:
            before = ordered[i - 1]
            worse = (max if aim == "minimize" else min)(before[1], y)
            yield (before[0], worse) if worse == y else (x, worse)
        yield x, y
