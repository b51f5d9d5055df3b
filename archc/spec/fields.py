"""From an op's `Fields` dataclass to a pydantic type, so that ops declare their fields once.

Integers are strict but accept sizes as people write them (`128k`), nothing is coerced, an optional field takes
the word `none`, a float is finite unless its type says otherwise, and an unknown field is an error. Validation yields
the dataclass itself.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, Unit
from pydantic import AfterValidator, AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Field, Strict, create_model
from typing_extensions import Doc

from archc.units import parse_count, parse_params

MAX_SIZE = 2**40
MAX_NUMBER = 1e12

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


def _count(value: Any) -> Any:
    return parse_count(value) if isinstance(value, str) else value


def _params(value: Any) -> Any:
    return parse_params(value) if isinstance(value, str) else value


def _or_none(value: Any) -> Any:
    return None if value == "none" else value


_Written = Annotated[int, Lt(MAX_SIZE)] | Annotated[str, Field(pattern=r"^\s*[0-9._]+\s*[kKmM]?\s*$")]
Whole = Annotated[int, Strict(), Lt(MAX_SIZE), BeforeValidator(_count, json_schema_input_type=_Written)]
Size = Annotated[Whole, Gt(0)]
Parameters = Annotated[int, Strict(), BeforeValidator(_params, json_schema_input_type=int | str)]  # `4.0B`: decimal


@functools.cache
def record_type(cls: Any) -> Any:
    """The pydantic type that validates a mapping and yields the frozen dataclass `cls`."""
    names = [f.name for f in dataclasses.fields(cls)]
    return Annotated[record_model(cls), AfterValidator(lambda m: cls(**{name: getattr(m, name) for name in names}))]


@functools.cache
def record_model(cls: Any, given: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> type[BaseModel]:
    """The pydantic model with the fields of a dataclass, and nothing else; those `given` take anything, and those it is
    `without` are no field of it."""
    hints = typing.get_type_hints(cls, include_extras=True) | dict.fromkeys(given, Any)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name in without:
            continue
        about = _doc(hints[field.name])
        if field.default_factory is not dataclasses.MISSING:
            info = Field(default_factory=field.default_factory, description=about)
        else:
            kept = field.default is not dataclasses.MISSING
            info = Field(default=field.default if kept else ..., description=about)
        fields[field.name] = (_strict(hints[field.name]), info)
    return create_model(cls.__qualname__.replace(".", ""), __config__=STRICT, __doc__=cls.__doc__, **fields)


def _doc(annotation: Any) -> str | None:
    """The `Doc` of an `Annotated` type."""
    notes = [note for note in getattr(annotation, "__metadata__", ()) if isinstance(note, Doc)]
    return notes[0].documentation if notes else None


def _strict(annotation: Any) -> Any:
    """The annotation with records turned to models, numbers made strict and `none` allowed where None is."""
    if annotation is int:
        return Whole
    if annotation is float:
        return _number(())
    if annotation in (bool, str):
        return Annotated[annotation, Strict()]
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return record_type(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    rebuild = _REBUILD.get(origin)
    return rebuild(args) if rebuild else annotation


def _number(bounds: tuple[Any, ...]) -> Any:
    """A float within its bounds or else MAX_NUMBER: infinite only where a bound says so."""
    if Le(math.inf) in bounds:
        return Annotated[(float, Strict(), *(bound for bound in bounds if bound != Le(math.inf)))]
    low = () if any(isinstance(bound, Ge | Gt) for bound in bounds) else (Ge(-MAX_NUMBER),)
    high = () if any(isinstance(bound, Le | Lt) for bound in bounds) else (Le(MAX_NUMBER),)
    return Annotated[(float, Strict(), AllowInfNan(False), *low, *high, *bounds)]


def _annotated(args: tuple[Any, ...]) -> Any:
    if args[0] is int and Unit("parameters") in args[1:]:
        return Parameters
    return _number(args[1:]) if args[0] is float else Annotated[(_strict(args[0]), *args[1:])]


def _tuple(args: tuple[Any, ...]) -> Any:
    inner = tuple(arg if arg is Ellipsis else _strict(arg) for arg in args)
    return Annotated[tuple[inner], Strict(False)]  # type: ignore[valid-type]


def _union(args: tuple[Any, ...]) -> Any:
    choices: Any = functools.reduce(operator.or_, (_strict(arg) for arg in args))
    if type(None) not in args:
        return choices
    return Annotated[choices, BeforeValidator(_or_none, json_schema_input_type=choices | Literal["none"])]


_REBUILD: dict[Any, Callable[[tuple[Any, ...]], Any]] = {
    Annotated: _annotated,
    tuple: _tuple,
    typing.Union: _union,
    types.UnionType: _union,
}
