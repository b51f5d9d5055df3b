"""WeightMap: every new parameter as an expression over old ones.

A pass returns one, a checkpoint import and export are one, and one after the other is one again: composing
substitutes and normalises, so that a pipeline reads only the rows that its result needs. A map travels as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from archc.ir import weight_expr as w
from archc.ir.weight_formats import Shape
from archc.ir.weight_normal import normalise
from archc.kernels.errors import ArchcError, WeightError, suggestion

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class WeightMap:
    """New parameters as expressions over old ones, and the old parameters that are left out on purpose.

    Raises WeightError when a dropped parameter is used. Not hashable (`params` is a dict); its expressions are."""

    params: Mapping[str, w.WeightExpr]
    dropped: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", dict(self.params))
        object.__setattr__(self, "dropped", frozenset(self.dropped))
        both = sorted(self.used & self.dropped)
        if both:
            raise WeightError(f"old parameters both used and dropped: {_listed(both)}")

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def identity(cls, names: Iterable[str]) -> WeightMap:
        """Every parameter as it is."""
        return cls({name: w.Old(name) for name in names})

    @property
    def used(self) -> frozenset[str]:
        """The old parameters that some new one depends on."""
        return frozenset().union(*(w.old_names(e) for e in self.params.values()))

    @staticmethod
    def compose(first: WeightMap, second: WeightMap, shapes: Mapping[str, Shape] | None = None) -> WeightMap:
        """`first`, then `second` (whose old parameters are the new ones of `first`), as one normalised map.

        `shapes` are those of `first`'s old parameters; without them some takes stop short of the leaves, and
        the streaming run, which knows them, moves them on. Raises WeightError when `second` uses a parameter
        that `first` does not make, or loses one that it makes."""
        second.check(first.params)
        made = {name: normalise(substitute(e, first.params), shapes) for name, e in second.params.items()}
        used = frozenset().union(*(w.old_names(e) for e in made.values()))
        return WeightMap(made, (first.used | first.dropped) - used)

    def normalised(self, shapes: Mapping[str, Shape] | None = None) -> WeightMap:
        """The same map in normal form; what the normal form no longer needs is dropped."""
        return WeightMap.compose(self, WeightMap.identity(self.params), shapes)

    def check(self, old_names: Iterable[str]) -> None:
        """Raises one WeightError listing every old parameter neither used nor dropped, and every unknown one."""
        names, told = dict.fromkeys(old_names), self.used | self.dropped
        lost = [n for n in names if n not in told]
        unknown = sorted(told - names.keys())
        problems = [f"neither used nor dropped: {_listed(lost)}"] if lost else []
        problems += [f"no old parameter `{name}`{suggestion(name, names)}" for name in unknown]
        if problems:
            raise WeightError("\n".join(["the weight map does not fit:", *problems]))

    def shapes(self, old_shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shape of every new parameter. Raises one WeightError listing all that do not fit."""
        return self._each(lambda e: w.shape(e, old_shapes))

    def dtypes(self, old_dtypes: Mapping[str, str]) -> dict[str, str]:
        """Storage type of every new parameter. Raises one WeightError listing all that do not fit."""
        return self._each(lambda e: w.dtype(e, old_dtypes))

    def _each(self, infer: Callable[[w.WeightExpr], T]) -> dict[str, T]:
        found, problems = {}, []
        for name, expr in self.params.items():
            try:
                found[name] = infer(expr)
            except ArchcError as e:
                problems.append(f"`{name}`: {e}")
        if problems:
            raise WeightError("\n".join(problems))
        return found

    def apply(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The new parameters from old ones in memory; `archc.hub.stream` does it for checkpoints."""
        from archc.ir.weight_eval import evaluate, reader

        self.check(tensors)
        return {name: evaluate(expr, reader(tensors)) for name, expr in self.params.items()}


def substitute(expr: w.WeightExpr, made: Mapping[str, w.WeightExpr]) -> w.WeightExpr:
    """`expr` with every old parameter replaced by the expression that makes it."""
    if isinstance(expr, w.Old):
        return made[expr.name]
    return expr.with_children(tuple(substitute(c, made) for c in expr.children))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{n}`" for n in names)
