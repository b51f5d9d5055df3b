"""What a comparison of weights found: plain data, JSON, and the words for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from archc.ir.diff_words import places_words, region_words
from archc.ir.selection import Selection
from archc.ir.weight_index import Index

Status = Literal["same", "sliced", "changed", "resized", "new"]

_LISTED = 8  # as many units or fewer that went are named
_ALL = ""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something of B stands: a position in a region, the id of a node in none, or nothing for all of B."""

    region: str = ""
    position: int | str = _ALL

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"region": self.region, "position": self.position}


@dataclass(frozen=True, kw_only=True)
class ParamChange:
    """What became of a parameter of B.

    `same` as `source` of A (maybe in another of the `dtypes`); `sliced` from it along `dims`, and multiplied
    by `scale` where there is one; `changed` by `norm`
    relative to it, unit by unit; `resized`: of another shape, and no choice of units gives it; `new`: A has none.
    """

    key: str
    status: Status
    kind: str
    param: str
    place: Place
    source: str = ""
    dims: tuple[str, ...] = ()
    norm: float | None = None
    scale: float | None = None
    dtypes: tuple[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data; a norm relative to nothing is `inf`."""
        norm = "inf" if self.norm == math.inf else self.norm
        found = {"key": self.key, "status": self.status, "source": self.source, "dims": list(self.dims), "norm": norm,
                 "scale": self.scale, "dtypes": list(self.dtypes or ())}  # fmt: skip
        kept = {name: value for name, value in found.items() if value not in ("", [], None)}
        return {**kept, "kind": self.kind, "param": self.param, **self.place.to_json()}


@dataclass(frozen=True, kw_only=True)
class Units:
    """The units of a dim of A that the dim `dim` of B has, in the order that B has them in."""

    dim: str
    role: str
    kind: str
    place: Place
    selection: Selection

    @property
    def ascends(self) -> bool:
        """Whether what is kept is in its order."""
        return bool((self.selection.index[:, 1:] > self.selection.index[:, :-1]).all())

    @property
    def gone(self) -> list[int]:
        """The old units that are gone, where all outer units lost the same."""
        size = self.selection.dim.size
        return sorted({*range(size)} - {*self.selection.index[0].tolist()}) if self.selection.uniform else []

    def to_json(self) -> dict[str, Any]:
        """As plain data: `kept` has a row of runs for each outer unit, or one where all are equal."""
        rows = self.selection.index[:1] if self.selection.uniform else self.selection.index
        found = {"dim": self.dim, "from": self.selection.dim.name, "role": self.role, "kind": self.kind}
        size, kept = self.selection.dim.size, [str(Index(row)) for row in rows]
        return {**found, **self.place.to_json(), "size": size, "new_size": self.selection.kept, "kept": kept}


@dataclass(frozen=True)
class WeightsDiff:
    """Every parameter of B in order, the dims that were cut or reordered, and the keys of A that B has nothing of."""

    params: tuple[ParamChange, ...]
    units: tuple[Units, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether B has A's weights and no others."""
        return not self.dropped and all(p.status == "same" and p.dtypes is None for p in self.params)

    def of(self, status: Status) -> tuple[ParamChange, ...]:
        """The parameters of one status."""
        return tuple(p for p in self.params if p.status == status)

    def to_json(self) -> dict[str, Any]:
        """As plain data, with every parameter."""
        counts = {status: len(self.of(status)) for status in get_args(Status)}
        params, units = [p.to_json() for p in self.params], [u.to_json() for u in self.units]
        return {"counts": counts, "units": units, "params": params, "dropped": list(self.dropped)}

    def words(self) -> list[str]:
        """Lines for a person, equal ones of several layers in one."""
        return [*_counts(self), *_units(self.units), *_casts(self.params), *_changes(self.params)]


def _counts(diff: WeightsDiff) -> Iterator[str]:
    parts: list[str] = []
    for status in get_args(Status):
        if found := diff.of(status):
            noun = "" if parts else " parameters" if len(found) > 1 else " parameter"
            parts.append(f"{len(found)}{noun} {status}{_norms(found)}")
    if diff.dropped:
        parts.append(f"{len(diff.dropped)} of A dropped")
    yield ", ".join(parts)


def _norms(params: Sequence[ParamChange]) -> str:
    """` (relative norm 0.012 to 0.3)`, or nothing where there is none."""
    norms = [p.norm for p in params if p.norm is not None]
    if not norms:
        return ""
    low, high = f"{min(norms):.2g}", f"{max(norms):.2g}"
    return f" (relative norm {low})" if low == high else f" (relative norm {low} to {high})"


def _units(units: Iterable[Units]) -> Iterator[str]:
    said: dict[tuple[str, str, str], list[int | str]] = {}
    for one in units:
        said.setdefault((*_what(one), one.place.region), []).append(one.place.position)
    for (what, join, region), positions in said.items():
        where = "" if positions == [_ALL] else region_words(region, positions)
        if not where:
            yield what
        else:
            yield f"{what}{join}{where}" if join else f"{where}: {what}"


def _what(one: Units) -> tuple[str, str]:
    """What became of a dim, and the word that joins its layers to the end; none where they come first."""
    size, kept, gone = one.selection.dim.size, one.selection.kept, one.gone
    of = "" if one.place.position == _ALL else f" of {one.kind}"
    if kept == size:
        return f"{one.role}{of} reordered", ""
    if one.ascends and 0 < len(gone) <= _LISTED:
        return f"{one.role} {places_words(gone)} removed", " from "
    order = "" if one.ascends else ", reordered"
    return f"{one.role} keeps {kept} of {size} units{of}{order}", ""


def _casts(params: Iterable[ParamChange]) -> Iterator[str]:
    casts: dict[tuple[str, str], int] = {}
    for param in params:
        if param.dtypes is not None:
            casts[param.dtypes] = casts.get(param.dtypes, 0) + 1
    yield from (f"cast from {old} to {new}: {count} of them" for (old, new), count in casts.items())


def _changes(params: Iterable[ParamChange]) -> Iterator[str]:
    """A line for each parameter of a kind of op that is neither the same nor just sliced."""
    found: dict[tuple[str, str, str, str], list[ParamChange]] = {}
    for p in params:
        if p.scale is not None or p.status not in ("same", "sliced"):
            what = f"{p.param} of {p.kind if p.place.region else p.place.position}"
            status = p.status if p.scale is None else f"times {p.scale:.4g}"
            found.setdefault((status, what, p.kind, p.place.region), []).append(p)
    for (status, what, _, region), group in found.items():
        where = f" in {region_words(region, [p.place.position for p in group])}" if region else ""
        yield f"{status}: {what}{where}{_norms(group)}"
