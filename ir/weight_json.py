"""The JSON form of a WeightMap, which travels with the checkpoint and parses back to an equal map.

A bare string is an old parameter; any other expression is an object with its `op` and its fields. Indices stand as
ranges (`"0:8,12,16:32:2"`) in a table of their own, since the tensors of a layer share them, and takes number them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archc.ir import weight_expr as w
from archc.ir.weight_index import Index
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError, UnknownName, WeightError

VERSION = 1

NODES: Mapping[str, type[w.WeightExpr]] = {
    cls.__name__.lower(): cls
    for cls in (
        w.Const, w.Init, w.File, w.Take, w.Transpose, w.Reshape, w.Concat, w.Stack,
        w.Linear, w.Affine, w.Scale, w.MatMul, w.Cast, w.Quantise, w.Dequantise,
    )
}  # fmt: skip


def to_json(weight_map: WeightMap) -> str:
    """The map as JSON text; the same map gives the same text."""
    indices: dict[Index, int] = {}
    document = {
        "archc_weight_map": VERSION,
        "params": {name: _encode(expr, indices) for name, expr in weight_map.params.items()},
        "dropped": sorted(weight_map.dropped),
        "indices": [str(index) for index in indices],
    }
    return json.dumps(document, indent=1, allow_nan=False)


def from_json(text: str) -> WeightMap:
    """Inverse of `to_json`. Raises WeightError for anything else, naming every parameter that is wrong."""
    document = _document(text)
    indices = [Index.parse(index) for index in document["indices"]]
    params, problems = {}, []
    for name, value in document["params"].items():
        try:
            params[name] = _decode(value, indices)
        except ArchcError as e:
            problems.append(f"`{name}`: {e}")
        except RecursionError:
            problems.append(f"`{name}`: nested too deeply")
    if problems:
        raise WeightError("\n".join(["not a weight map:", *problems]))
    return WeightMap(params, frozenset(document["dropped"]))


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise WeightError(f"not a weight map: {e}") from None
    if not isinstance(document, dict) or document.get("archc_weight_map") != VERSION:
        raise WeightError(f"not a weight map: expected an object with `archc_weight_map: {VERSION}`")
    if not isinstance(document.get("params"), dict):
        raise WeightError("not a weight map: `params` is an object")
    for name in ("dropped", "indices"):
        if not isinstance(document.get(name), list) or not all(isinstance(text, str) for text in document[name]):
            raise WeightError(f"not a weight map: `{name}` is a list of strings")
    return document


def _encode(expr: w.WeightExpr, indices: dict[Index, int]) -> Any:
    """The JSON value of an expression; indices that are new are numbered."""
    if isinstance(expr, w.Old):
        return expr.name
    fields = {f.name: getattr(expr, f.name) for f in dataclasses.fields(expr)}  # type: ignore[arg-type]
    return {"op": type(expr).__name__.lower(), **{name: _plain(value, indices) for name, value in fields.items()}}


def _plain(value: Any, indices: dict[Index, int]) -> Any:
    if isinstance(value, w.WeightExpr):
        return _encode(value, indices)
    if isinstance(value, tuple):
        return [_plain(v, indices) for v in value]
    return indices.setdefault(value, len(indices)) if isinstance(value, Index) else value


def _decode(value: Any, indices: Sequence[Index]) -> w.WeightExpr:
    if isinstance(value, str):
        return w.Old(value)
    if not isinstance(value, dict):
        raise WeightError(f"expected a name or an object with `op`: got {_short(value)}")
    op = value.get("op")
    if not isinstance(op, str) or op not in NODES:
        raise UnknownName("weight expression", str(op), NODES)
    fields = {f.name: f for f in dataclasses.fields(NODES[op])}  # type: ignore[arg-type]
    wrong = sorted((fields.keys() | {"op"}) ^ value.keys())
    if wrong:
        raise WeightError(f"{op} has the fields {', '.join(fields)}: missing or unknown {', '.join(wrong)}")
    return NODES[op](**{name: _field(f"{op}.{name}", str(f.type), value[name], indices) for name, f in fields.items()})


def _field(where: str, kind: str, value: Any, indices: Sequence[Index]) -> Any:
    """A field's value from JSON, by the annotation of the field."""
    if kind in _ELEMENTS:
        if not isinstance(value, list):
            raise WeightError(f"{where} is a list: got {_short(value)}")
        return tuple(_field(where, _ELEMENTS[kind], v, indices) for v in value)
    if kind == "WeightExpr":
        return _decode(value, indices)
    if kind == "Index":
        if not _is_int(value) or not 0 <= value < len(indices):
            raise WeightError(f"{where} numbers one of the {len(indices)} indices: got {_short(value)}")
        return indices[value]
    if not _SCALARS[kind](value):
        raise WeightError(f"{where} is of type {kind}: got {_short(value)}")
    return value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_number(value: Any) -> bool:
    return _is_int(value) or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_ELEMENTS = {"Children": "WeightExpr", "Shape": "int", "tuple[int, ...]": "int", "tuple[float, ...]": "float"}
_SCALARS: Mapping[str, Callable[[Any], bool]] = {"int": _is_int, "float": _is_number, "str": _is_text}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."
