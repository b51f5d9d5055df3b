"""The runtime that must load what is searched: values and candidates that it cannot load are left out, and told."""

from __future__ import annotations

from dataclasses import dataclass, replace

from archc.kernels.errors import SearchError
from archc.search.choices import Choice, Point
from archc.search.space import Space
from archc.targets import check


@dataclass(frozen=True)
class Excluded:
    """A value of a choice, or a candidate, that the runtime cannot load, and the first reason."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


def restricted(space: Space, target: str, tp: int) -> tuple[Space, tuple[Excluded, ...]]:
    """The space without values that bring a violation of their own, all other choices as near to the base as can be.

    What only breaks a rule together with others is found by `refused`. Raises SearchError where nothing is left."""
    near = {one.name: _nearest(one) for one in space.choices}
    before = set(_violations(space, near, target, tp))
    choices: list[Choice] = []
    out: list[Excluded] = []
    for choice in space.choices:
        kept = []
        for value in choice.values:
            new = [v for v in _violations(space, {**near, choice.name: value}, target, tp) if v not in before]
            if new:
                out.append(Excluded(f"{choice.name} {value}", new[0]))
            else:
                kept.append(value)
        if not kept:
            raise SearchError(f"`{target}` loads no value of `{choice.name}`: {out[-1].why}")
        choices.append(replace(choice, values=tuple(kept)))
    return replace(space, choices=tuple(choices)), tuple(out)


def refused(space: Space, point: Point, target: str, tp: int) -> str:
    """Why the runtime does not load a candidate; empty where it does."""
    return next(iter(_violations(space, point, target, tp)), "")


def _violations(space: Space, point: Point, target: str, tp: int) -> list[str]:
    return [str(v) for v in check(space.build(point), target, tp)]


def _nearest(choice: Choice) -> int:
    return min(choice.values, key=lambda value: abs(value - choice.base))
