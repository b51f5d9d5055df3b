"""A registry of small frozen classes by name: schedules and optimisers, each chosen in a recipe as `name` or
`{name: {option: value}}`. The fields of a class are its options; other packages register theirs the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from archc.kernels.errors import ArchcError, UnknownName

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """Classes of one kind by name; a name that is registered twice raises.

    Type checkers see the fields as arguments where the base class of the kind is marked so:
    `@typing.dataclass_transform(kw_only_default=True, frozen_default=True)`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._classes: dict[str, type[T]] = {}

    def __call__(self, name: str) -> Callable[[C], C]:
        """Class decorator: makes the class a frozen dataclass and registers it under `name`."""

        def register(cls: Any) -> Any:
            if name in self._classes:
                raise ArchcError(f"{self.kind} `{name}` is registered twice: {self._classes[name]} and {cls}")
            cls.name = name
            self._classes[name] = dataclass(frozen=True, kw_only=True)(cls)
            return self._classes[name]

        return register

    @property
    def classes(self) -> Mapping[str, type[T]]:
        """Every class by name, in order of registration."""
        return dict(self._classes)

    def get(self, name: str) -> type[T]:
        """The class of a name; raises UnknownName with a suggestion."""
        if name not in self._classes:
            raise UnknownName(self.kind, name, self._classes)
        return self._classes[name]
