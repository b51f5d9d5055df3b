"""What of a teacher a student was cut from: which of its layers, and which units of its residual stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from archc.ir import weight_expr as w
from archc.ir.graph import LAYERS, Graph
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError
from archc.train.losses.base import Setting
from archc.train.teachers import Teacher

STREAM = "d_model"


@dataclass(frozen=True)
class Kept:
    """`layers` has the teacher's layer by the student's, by position; `stream` the teacher's unit of each unit of the
    student's residual stream, or None where units do not stand for one another."""

    layers: Mapping[int, int]
    stream: tuple[int, ...] | None


def kept(student: Graph, teacher: Teacher) -> Kept:
    """Read out of the weight map between the two; without one, out of ids where the graphs have a common ancestor."""
    graph = live(teacher)
    if teacher.weight_map is not None:
        return Kept(_mapped_layers(teacher.weight_map), _mapped_stream(student, graph, teacher.weight_map))
    if student.ancestry & graph.ancestry:
        size = student.dims[STREAM].size
        return Kept(_same_ids(student, graph), tuple(range(size)) if size == graph.dims[STREAM].size else None)
    return Kept({}, None)


class Paired(nn.Module):
    """Modules of the student that are matched with modules of the teacher, by path."""

    def __init__(self, pairs: Mapping[str, str]) -> None:
        super().__init__()
        self.pairs = dict(pairs)


def live(teacher: Teacher) -> Graph:
    """The graph of a teacher. Raises ArchcError where only its logits are kept."""
    if teacher.graph is None:
        raise ArchcError("a teacher of which only logits are kept tells nothing of its layers: let it run live")
    return teacher.graph


def layer_pairs(setting: Setting, teacher: Teacher, given: Mapping[str, str], *, option: str) -> dict[str, str]:
    """Student's modules and the teacher's that they are matched with: those given, else layers by what was kept."""
    pairs = given or {f"{LAYERS}.{i}": f"{LAYERS}.{j}" for i, j in kept(setting.student, teacher).layers.items()}
    if not pairs:
        names = f"{setting.student.name} and {live(teacher).name}"
        raise ArchcError(f"nothing tells which layers of {names} stand for one another: name them in `{option}`")
    return dict(pairs)


def check_modules(graph: Graph, paths: Iterable[str]) -> None:
    """Raise ArchcError for paths that are not of modules that give the residual stream, or what is added to it."""
    depth = len(graph.blocks.get(LAYERS, ()))
    known = {"embedding", "norm"} | {f"{LAYERS}.{i}{part}" for i in range(depth) for part in ("", ".norm", ".mixer")}
    wrong = [path for path in paths if path not in known]
    if wrong:
        forms = f"embedding, norm, {LAYERS}.N, {LAYERS}.N.norm and {LAYERS}.N.mixer with N below {depth}"
        raise ArchcError(f"{graph.name} has no module {', '.join(f'`{p}`' for p in wrong)}: there are {forms}")


# -- reading a weight map ----------------------------------------------------------------------------------------------


def _mapped_layers(weight_map: WeightMap) -> dict[int, int]:
    """Layers all of whose weights come from one layer each."""
    origins: dict[int, set[int]] = {}
    for key, expr in weight_map.params.items():
        layer = _layer(key)
        if layer is not None:
            found = {_layer(name) for name in w.old_names(expr)}
            origins.setdefault(layer, set()).update(i for i in found if i is not None)
    return {layer: next(iter(found)) for layer, found in origins.items() if len(found) == 1}


def _layer(key: str) -> int | None:
    region, _, rest = key.partition(".")
    number = rest.partition(".")[0]
    return int(number) if region == LAYERS and number.isdigit() else None


def _mapped_stream(student: Graph, teacher: Graph, weight_map: WeightMap) -> tuple[int, ...] | None:
    """The units that every vector along the residual stream (the gain of a norm) was taken from; they must agree."""
    size = teacher.dims[STREAM].size
    found = set()
    for node, param in student.params():
        if len(param.axes) == 1 and str(param.axes[0]) == STREAM:
            units = _units(weight_map.params[f"{student.scopes[node.id]}.{param.name}"], size)
            if units is not None:
                found.add(tuple(units))
    return found.pop() if len(found) == 1 else None


def _units(expr: w.WeightExpr, size: int) -> Sequence[int] | None:
    """The positions of an old vector that a new one holds; None where it is more than taken."""
    if isinstance(expr, w.Old):
        return range(size)
    if isinstance(expr, w.Cast):
        return _units(expr.x, size)
    if isinstance(expr, w.Take):
        units = _units(expr.x, size)
        return None if units is None else [units[i] for i in expr.index]
    return None


def _same_ids(student: Graph, teacher: Graph) -> dict[int, int]:
    there = {block: j for j, block in enumerate(teacher.blocks.get(LAYERS, ()))}
    return {i: there[block] for i, block in enumerate(student.blocks.get(LAYERS, ())) if block in there}
