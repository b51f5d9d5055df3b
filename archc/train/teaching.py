"""The teachers of a recipe: live, or the logits of one computed once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from archc.hub.weights import weights_of
from archc.ir.graph import Graph
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError
from archc.train.batch import Batch
from archc.train.losses import Losses, Setting, TeacherNeeds
from archc.train.recipe import Recipe, TeacherEntry
from archc.train.stream import Stream
from archc.train.teachers import LiveTeacher, Teacher, TeacherOutputs
from archc.train.topk_cache import cached_teacher

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp64": "float64"}


def teachers_of(recipe: Recipe, student: Graph, stream: Stream, *, tokenizer: str, device: str) -> dict[str, Teacher]:
    """The teachers of a recipe by name; logits that are to be kept are computed now, where they are not there yet.

    Raises ArchcError for a teacher that has no weights, or that cannot be cached."""
    entries = {entry.name: entry for entry in recipe.teachers}
    for entry in entries.values():
        if not Path(entry.model).is_dir():
            what = f"expected a folder with weights, got {entry.model}"
            raise ArchcError(f"teacher `{entry.name}`: {what}")
    if not any(entry.cache for entry in entries.values()):
        return {name: _live(entry, student, device) for name, entry in entries.items()}
    needs = _needs(recipe, student, entries.values())
    found: dict[str, Teacher] = {}
    for name, entry in entries.items():
        asked = needs.get(name, TeacherNeeds())
        found[name] = (
            _cached(entry, recipe, stream, asked, tokenizer=tokenizer, device=device)
            if entry.cache
            else _live(entry, student, device)
        )
    return found


def _live(entry: TeacherEntry, student: Graph, device: str) -> LiveTeacher:
    weight_map = None if entry.passes is None else _lineage(entry, student)
    return LiveTeacher.open(entry.model, dtype=_DTYPES[entry.precision], device=device, weight_map=weight_map)


def _lineage(entry: TeacherEntry, student: Graph) -> WeightMap:
    """How the student's weights were made of the teacher's, from the passes that made it."""
    from archc.passes.pipeline import apply
    from archc.resolve import load

    made, weight_map = apply(load(entry.model), entry.passes or "")
    if made.weight_shapes() != student.weight_shapes():
        raise ArchcError(f"teacher `{entry.name}`: its `passes` do not make {student.name} of it")
    return weight_map


def _cached(
    entry: TeacherEntry, recipe: Recipe, stream: Stream, needs: TeacherNeeds, *, tokenizer: str, device: str
) -> Teacher:
    assert entry.cache is not None
    return cached_teacher(
        entry.model,
        stream,
        tokenizer=tokenizer,
        samples=_samples(recipe, entry),
        k=entry.cache.top_k,
        temperatures=sorted(needs.temperatures) or (1.0,),
        dtype=_DTYPES[entry.precision],
        device=device,
    )


def _samples(recipe: Recipe, entry: TeacherEntry) -> int:
    """How many samples a run draws, those that it may have to go round included."""
    budget = recipe.budget
    if budget.minutes is not None:
        raise ArchcError(f"teacher `{entry.name}`: a `cache` needs a budget of steps or of tokens, not of minutes")
    steps = budget.steps or -(-(budget.tokens or 0) // recipe.batch_tokens)
    spike = recipe.guard.spike
    rolls = recipe.guard.nan == "rollback" or (spike is not None and spike.action == "rollback")
    return recipe.sequences * (steps + (recipe.guard.rollbacks if rolls else 0))


# -- what losses will ask ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Absent:
    """Stands for a teacher while losses are asked what they will want of it."""

    vocab: int
    graph: Graph | None
    weight_map: WeightMap | None = None

    def check(self, needs: TeacherNeeds) -> None:
        """Nothing is known to be missing yet."""

    def outputs(self, batch: Batch, needs: TeacherNeeds) -> TeacherOutputs:
        """Nobody runs it."""
        raise NotImplementedError


def _needs(recipe: Recipe, student: Graph, entries: Iterable[TeacherEntry]) -> dict[str, TeacherNeeds]:
    graphs = {entry.name: weights_of(entry.model).graph for entry in entries}
    absent = {name: _Absent(graph.dims["vocab"].size, graph) for name, graph in graphs.items()}
    return dict(Losses(recipe.losses, Setting(student, absent)).needs.teachers)
