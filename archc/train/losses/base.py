"""What a loss is: a small frozen class whose fields are its options in a recipe.

    @loss("z_loss")
    class ZLoss(Loss):
        def count(self, batch, setting): ...  # what the sum is divided by, known before anything runs
        def __call__(self, step): ...         # Value(total, count)

A loss gives sums and counts, not means: the engine adds both up over accumulated batches and ranks and divides once, so
that neither changes the result. `archc.train.losses.combined` runs the losses of a recipe together.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

from typing_extensions import Doc

from archc.kernels.errors import ArchcError, UnknownName, listed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archc.ir.graph import Graph
    from archc.train.batch import Batch
    from archc.train.losses.step import Step
    from archc.train.teachers import Teacher

T = TypeVar("T", bound="Loss")


@dataclass(frozen=True)
class TeacherNeeds:
    """What losses want of one teacher: logits at some temperatures, final hidden states, what modules return (taps)."""

    temperatures: frozenset[float] = frozenset()
    hidden: bool = False
    taps: frozenset[str] = frozenset()

    def __or__(self, other: TeacherNeeds) -> TeacherNeeds:
        temperatures = self.temperatures | other.temperatures
        return TeacherNeeds(temperatures, self.hidden or other.hidden, self.taps | other.taps)


@dataclass(frozen=True)
class Needs:
    """What losses want of one pass: taps of the student (paths of its modules), and of teachers by name."""

    taps: frozenset[str] = frozenset()
    teachers: Mapping[str, TeacherNeeds] = field(default_factory=dict)

    def __or__(self, other: Needs) -> Needs:
        names = {**self.teachers, **other.teachers}
        none = TeacherNeeds()
        teachers = {name: self.teachers.get(name, none) | other.teachers.get(name, none) for name in names}
        return Needs(self.taps | other.taps, teachers)


@dataclass(frozen=True)
class Value:
    """A sum over what was counted, and the count, both scalars; the loss is their quotient once all are added up.

    `told` are further figures for the log, each of them a sum and a count too, without gradients.
    """

    total: Tensor
    count: Tensor
    told: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What is trained: the student's graph, and the teachers by name."""

    student: Graph
    teachers: Mapping[str, Teacher] = field(default_factory=dict)

    def teacher(self, name: str) -> tuple[str, Teacher]:
        """The name and the teacher that a loss means; an empty name means the only one. Raises ArchcError else."""
        if name and name not in self.teachers:
            raise UnknownName("teacher", name, self.teachers)
        if not name and len(self.teachers) != 1:
            found = listed(list(self.teachers))
            raise ArchcError(
                f"`teacher` must name one of {found}" if found else "this loss needs a teacher: none given"
            )
        name = name or next(iter(self.teachers))
        return name, self.teachers[name]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Base of every loss."""

    name: ClassVar[str]

    weight: Annotated[float, Doc("factor in the sum that is minimised")] = 1.0

    def needs(self, setting: Setting) -> Needs:
        """What it wants of a pass. Raises ArchcError where it does not fit what is trained."""
        return Needs()

    def module(self, setting: Setting) -> nn.Module | None:
        """What it owns: trained and checkpointed with the student, not exported; `step.own` when it is called."""
        return None

    def count(self, batch: Batch, setting: Setting) -> Tensor:
        """What its sum is divided by, from the batch alone: the engine adds counts up before it runs anything."""
        raise NotImplementedError

    def __call__(self, step: Step) -> Value:
        """The sum over a batch, with gradients, and `count` of it."""
        raise NotImplementedError


# -- registry ----------------------------------------------------------------------------------------------------------

_LOSSES: dict[str, type[Loss]] = {}
_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
def loss(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: makes the class a frozen dataclass and registers it under the name that recipes use."""

    def register(cls: type[T]) -> type[T]:
        if not _SNAKE.fullmatch(name):
            raise ArchcError(f"a loss has a name such as `next_token`: got `{name}`")
        if name in _LOSSES:
            raise ArchcError(f"loss `{name}` is registered twice: {_LOSSES[name].__module__} and {cls.__module__}")
        cls.name = name
        made = dataclass(frozen=True, kw_only=True)(cls)
        _LOSSES[name] = made
        return made

    return register


def registered_losses() -> tuple[type[Loss], ...]:
    """Every registered loss, in order of registration."""
    import archc.train.losses  # noqa: F401  (registers the built-in losses)

    return tuple(_LOSSES.values())


def loss_class(name: str) -> type[Loss]:
    """The loss registered under `name`; raises UnknownName with a suggestion."""
    by_name = {cls.name: cls for cls in registered_losses()}
    if name not in by_name:
        raise UnknownName("loss", name, by_name)
    return by_name[name]


def options(cls: type[Loss]) -> dict[str, dataclasses.Field[object]]:
    """The options of a loss by name: what a recipe may say of it."""
    return {f.name: f for f in dataclasses.fields(cls)}
