"""pydantic's errors in the words of a spec: which field, what was expected, and a suggestion for a near miss.

pydantic's `loc` holds union tags beside the keys of the file, and a union reports every branch; both are
resolved here, against what the file really has.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from archc.kernels.errors import nearest, quoted, suggestion

Path: TypeAlias = tuple[str | int, ...]
Raw: TypeAlias = Mapping[str, Any]

_KEY = "[key]"  # pydantic's mark for an error about a mapping's key

_EXPECTED = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "none_required": "nothing",
}


@dataclass(frozen=True)
class ModelError:
    """One error of a model: `path` in the file, whether it is about the key, and its words."""

    path: Path
    on_key: bool
    text: str  # the whole message, or what was expected when `got` belongs to it
    got: bool
    hint: str = ""

    def message(self, value: str) -> str:
        """The message, with the value that was got where it belongs."""
        if not self.got:
            return self.text
        return _named(self.path, f"expected {self.text}, got {value}")


def _named(path: Path, text: str) -> str:
    """The message after the name of its field, unless it says the name itself."""
    name = next((quoted(part) for part in reversed(path) if isinstance(part, str)), "")
    return f"{name}: {text}" if name and name not in text else text


@dataclass(frozen=True)
class _Found:
    """A pydantic error located in the file: `union` is the path at which its first union tag stood."""

    raw: Raw
    path: Path
    union: Path | None
    branch: str

    @property
    def refused(self) -> bool:
        """Whether a union's branch refused the value as a whole."""
        return self.path == self.union and self.raw["type"] not in ("missing", "extra_forbidden")


def model_errors(raw: Sequence[Raw], model: Any, exists: Callable[[Path, str | int], bool]) -> Iterator[ModelError]:
    """The errors to print; `exists(path, key)` says whether the file has `key` at `path`."""
    found = _without_misspelt([_locate(error, exists) for error in raw], model)
    by_union: dict[Path | None, list[_Found]] = {}
    for one in found:
        by_union.setdefault(one.union, []).append(one)
    for union, group in by_union.items():
        if union is None:
            yield from (_worded(one, model) for one in group)
        else:
            yield from _of_union(union, group, model)


def _locate(error: Raw, exists: Callable[[Path, str | int], bool]) -> _Found:
    loc: list[str | int] = list(error["loc"])
    path: Path = ()
    union, branch = None, ""
    last = loc.pop() if error["type"] in ("missing", "extra_forbidden") else ""
    for part in loc:
        if exists(path, part):
            path = (*path, part)
        elif union is None and part != _KEY:
            union, branch = path, str(part)
    if error["type"] == "extra_forbidden":
        path = (*path, last)
    return _Found(error, path, union, branch)


def _without_misspelt(found: list[_Found], model: Any) -> list[_Found]:
    """Without the `missing` errors of fields that an unknown field beside them is a near miss of."""
    misspelt: set[tuple[Path, str]] = set()
    for one in found:
        if one.raw["type"] == "extra_forbidden":
            near = nearest(str(one.path[-1]), _known(model, one.raw["loc"][:-1]))
            misspelt.update([(one.path[:-1], near)] if near else [])
    return [one for one in found if one.raw["type"] != "missing" or (one.path, one.raw["loc"][-1]) not in misspelt]


def _of_union(union: Path, group: Sequence[_Found], model: Any) -> Iterator[ModelError]:
    """The errors of the branch that fits best; of none when every branch refused, what all of them expected."""
    branches: dict[str, list[_Found]] = {}
    for one in group:
        branches.setdefault(one.branch, []).append(one)
    accepted = [errors for errors in branches.values() if not any(e.refused for e in errors)]
    if accepted:
        yield from (_worded(one, model) for one in min(accepted, key=len))
        return
    wanted = dict.fromkeys(_expected(one.raw) for one in group if one.refused)
    yield ModelError(union, False, " or ".join(wanted), True)


def _worded(one: _Found, model: Any) -> ModelError:
    kind, loc = one.raw["type"], one.raw["loc"]
    if kind == "missing":
        doc = _doc(model, loc[:-1], loc[-1])
        return ModelError(one.path, True, f"missing field `{loc[-1]}`", False, doc)
    if kind == "extra_forbidden":
        name = str(one.path[-1])
        known = suggestion(name, _known(model, loc[:-1]))
        return ModelError(one.path, True, f"unknown field {quoted(name)}{known}", False)
    context = one.raw.get("ctx", {})
    if loc and loc[-1] == _KEY and kind == "literal_error":
        name = str(one.path[-1])
        known = suggestion(name, _options(context["expected"]))
        return ModelError(one.path, True, f"unknown field {quoted(name)}{known}", False)
    if kind in ("value_error", "assertion_error"):
        return ModelError(one.path, False, _named(one.path, str(context["error"])), False)
    hint = str(context.get("hint", ""))
    if kind == "literal_error" and isinstance(one.raw["input"], str):
        near = nearest(one.raw["input"], _options(context["expected"]))
        hint = f"did you mean `{near}`?" if near else hint
    return ModelError(one.path, False, _expected(one.raw), True, hint)


def _expected(raw: Raw) -> str:
    kind, message = raw["type"], str(raw["msg"])
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind == "literal_error":
        return str(raw["ctx"]["expected"]).replace("'", "`")
    if kind.startswith(("greater_than", "less_than")):
        return message.replace("Input should be", "a number")
    return message.replace("Input should be ", "").replace("Value should be ", "")


def _options(expected: str) -> list[str]:
    """The choices of pydantic's `'a', 'b' or 'c'`."""
    return re.findall(r"'([^']*)'", expected)


# -- the model's own fields, for suggestions ---------------------------------------------------------------------------


def _known(model: Any, loc: Sequence[str | int]) -> list[str]:
    return sorted({name for record in _records(model, loc) for name in _fields(record)})


def _doc(model: Any, loc: Sequence[str | int], name: str | int) -> str:
    for record in _records(model, loc):
        info = getattr(record, "model_fields", {}).get(name)
        if info is not None and info.description:
            return str(info.description)
    return ""


def _records(model: Any, loc: Sequence[str | int]) -> list[Any]:
    """The models and dataclasses that may stand at a pydantic `loc`."""
    here = list(_choices(model))
    for part in loc:
        below = [child for choice in here for child in _below(choice, part)]
        here = below or [choice for choice in here if getattr(choice, "__name__", "") == part] or here
    return [choice for choice in here if _fields(choice)]


def _below(choice: Any, part: str | int) -> Iterator[Any]:
    fields = _fields(choice)
    if part in fields:
        yield from _choices(fields[str(part)])
    args = typing.get_args(choice)
    if args and typing.get_origin(choice) not in (typing.Literal, None):
        yield from _choices(args[-1] if isinstance(part, str) else args[0])


def _fields(record: Any) -> dict[str, Any]:
    """Annotation of each field of a pydantic model or dataclass, by the name the file uses."""
    if hasattr(record, "model_fields"):
        return {info.alias or name: info.annotation for name, info in record.model_fields.items()}
    if isinstance(record, type) and dataclasses.is_dataclass(record):
        return dict(typing.get_type_hints(record))
    return {}


def _choices(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation, without `Annotated` and unions."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _choices(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for choice in typing.get_args(annotation):
            yield from _choices(choice)
    else:
        yield annotation
