"""The teachers of a recipe: live, or the logits of one computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from archc.ir.graph import Graph
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError, SourceError
from archc.train.batch import Batch
from archc.train.losses import Needs, TeacherNeeds
from archc.train.recipe import Recipe, TeacherEntry
from archc.train.stream import Stream
from archc.train.teachers import LiveTeacher, Teacher, TeacherOutputs
from archc.train.topk_cache import cached_teacher

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp64": "float64"}


@dataclass(frozen=True)
class Announced:
    """What is known of a teacher before it is there: losses are asked by it what they will want."""

    vocab: int
    graph: Graph | None
    weight_map: WeightMap | None = None

    def check(self, needs: TeacherNeeds) -> None:
        """Raise ArchcError for what logits that are kept do not tell."""
        if self.graph is None and (needs.hidden or needs.taps):
            raise ArchcError("a teacher of which only logits are kept has no hidden states: let it run live")

    def outputs(self, batch: Batch, needs: TeacherNeeds) -> TeacherOutputs:
        """Nobody runs it."""
        raise NotImplementedError


def teachers_of(
    recipe: Recipe, known: Mapping[str, Announced], needs: Needs, stream: Stream, *, tokenizer: str, device: str
) -> dict[str, Teacher]:
    """The teachers of a recipe by name; logits that are to be kept are computed now, where they are not there yet."""
    found: dict[str, Teacher] = {}
    for entry in recipe.teachers:
        asked = needs.teachers.get(entry.name, TeacherNeeds())
        if entry.cache is not None:
            found[entry.name] = _cached(entry, recipe, stream, asked, tokenizer=tokenizer, device=device)
        else:
            weight_map, dtype = known[entry.name].weight_map, _DTYPES[entry.precision]
            found[entry.name] = LiveTeacher.open(entry.model, dtype=dtype, device=device, weight_map=weight_map)
    return found


def lineage(entry: TeacherEntry, student: Graph) -> WeightMap:
    """How the student's weights were made of the teacher's, from the passes that made it. Raises ArchcError."""
    from archc.passes.pipeline import Pipeline, apply
    from archc.resolve import load

    try:
        pipeline = Pipeline.parse(entry.passes or "")
    except SourceError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise ArchcError(f"{error.message}{hint}, at character {error.at.column}") from error
    made, weight_map = apply(load(entry.model), pipeline)
    if made.weight_shapes() != student.weight_shapes():
        raise ArchcError(f"they do not make {student.name} of {entry.model}")
    return weight_map


def _cached(
    entry: TeacherEntry, recipe: Recipe, stream: Stream, needs: TeacherNeeds, *, tokenizer: str, device: str
) -> Teacher:
    assert entry.cache is not None
    return cached_teacher(
        entry.model,
        stream,
        tokenizer=tokenizer,
        samples=_samples(recipe),
        k=entry.cache.top_k,
        temperatures=sorted(needs.temperatures) or (1.0,),
        dtype=_DTYPES[entry.precision],
        device=device,
    )


def _samples(recipe: Recipe) -> int:
    """How many samples a run draws, those that it may have to go round included."""
    budget = recipe.budget
    steps = budget.steps or -(-(budget.tokens or 0) // recipe.batch_tokens)
    spike = recipe.guard.spike
    rolls = recipe.guard.nan == "rollback" or (spike is not None and spike.action == "rollback")
    return recipe.sequences * (steps + (recipe.guard.rollbacks if rolls else 0))
