"""What a pass is: a small frozen class whose fields are its options, text in, text out.

    @register_pass("drop-layers")
    class DropLayers(Pass):
        layers: tuple[int, ...]

        def apply(self, graph, ctx): ...

`str(DropLayers(layers=(3, 5)))` is `drop-layers{layers=(3, 5)}`, and `archc.passes.text` parses it back. A pass is
pure: it gives a new graph and the WeightMap that carries the old graph's weights into it.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from archc.ir.graph import Graph
from archc.ir.text_line import print_value
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import PassError, UnknownName
from archc.passes.scores import Scores

T = TypeVar("T", bound="Pass")


@dataclass(frozen=True)
class Context:
    """What a pass is handed beside the graph: the facts that hold of it (`sorted:d_ff`), scores of its units, and the
    storage types of its weights where there are weights."""

    holds: frozenset[str] = frozenset()
    scores: Scores | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Base of every pass.

    `requires` are facts that must hold before it, `provides` those that hold after it, `breaks` those that no longer
    do; the pipeline checks them before anything runs. `approximate` passes have no exact counterpart in the old model
    (they average, or start anew). `Examples` are options that the pass contract runs on the zoo's `tiny-hybrid`;
    `everywhere` gives more for any graph, `idle` those with which the pass changes nothing.
    """

    name: ClassVar[str]
    approximate: ClassVar[bool] = False
    Examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)

    @classmethod
    def everywhere(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        """Options for every part of `graph` that the pass can touch, such as each dim: the contract runs them all."""
        yield from ()

    @classmethod
    def idle(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        """Options with which everything is kept: the contract holds the result to be the same model."""
        yield from ()

    @property
    def requires(self) -> frozenset[str]:
        """Facts that must hold before it; the pipeline checks them before anything runs."""
        return frozenset()

    @property
    def provides(self) -> frozenset[str]:
        """Facts that hold after it."""
        return frozenset()

    @property
    def breaks(self) -> frozenset[str]:
        """Facts that no longer hold after it."""
        return frozenset()

    @property
    def tokens(self) -> Sequence[int] | None:
        """The tokens that stay, the old id by the new one, where ids change: the tokenizer follows."""
        return None

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The new graph, and every weight of it over the old graph's. Raises PassError where it cannot apply."""
        raise NotImplementedError

    def scores_after(self, graph: Graph, ctx: Context) -> Scores | None:
        """The scores that `ctx` has of `graph`, as they hold of what the pass makes of it."""
        return ctx.scores

    def error(self, message: str) -> PassError:
        """A PassError that names this pass."""
        return PassError(f"{self}: {message}")

    def __str__(self) -> str:
        options = ", ".join(f"{name}={print_value(value)}" for name, value in self._options())
        return f"{self.name}{{{options}}}" if options else self.name

    def _options(self) -> Iterator[tuple[str, Any]]:
        """The options that differ from their defaults."""
        given = ((f.name, f.default, getattr(self, f.name)) for f in dataclasses.fields(self))
        return ((name, value) for name, default, value in given if value != default)


# -- registry ----------------------------------------------------------------------------------------------------------

_PASSES: dict[str, type[Pass]] = {}
_KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
def register_pass(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: makes the class a frozen dataclass and registers it under a kebab-case name."""

    def register(cls: type[T]) -> type[T]:
        if not _KEBAB.fullmatch(name):
            raise PassError(f"a pass has a kebab-case name: got `{name}`")
        if name in _PASSES:
            raise PassError(f"pass `{name}` is registered twice: {_PASSES[name].__module__} and {cls.__module__}")
        cls.name = name
        # eq comes with dataclass; repr is left to __str__, so that an error shows what one would write.
        made = dataclass(frozen=True, kw_only=True, repr=False)(cls)
        made.__repr__ = Pass.__str__  # type: ignore[method-assign,assignment]
        _PASSES[name] = made
        return made

    return register


def registered_passes() -> tuple[type[Pass], ...]:
    """Every registered pass, in order of registration."""
    import archc.passes  # noqa: F401  (registers the built-in passes)

    return tuple(_PASSES.values())


def pass_class(name: str) -> type[Pass]:
    """The pass registered under `name`; raises UnknownName with a suggestion."""
    by_name = {cls.name: cls for cls in registered_passes()}
    if name not in by_name:
        raise UnknownName("pass", name, by_name)
    return by_name[name]
