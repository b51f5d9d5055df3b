"""The runs of the reference experiment: what is compared, and how a run is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "recipe.yaml"


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a name, the model, and what is laid over the recipe, `{teacher}` being its folder.

    `drafts` says that its MTP steps are measured as drafts too.
    """

    name: str
    model: str
    overrides: tuple[str, ...] = ()
    drafts: bool = False

    def arguments(self, *, budget: str, seed: int, teacher: str) -> list[str]:
        """Arguments of `archc train` after the recipe."""
        fixed = [f"model=benchmarks/reference/{self.model}", f"budget={budget}", f"seed={seed}", f"init_seed={seed}"]
        return [*fixed, *(text.replace("{teacher}", teacher) for text in self.overrides)]


@dataclass(frozen=True)
class Comparison:
    """Arms that are held against the first, on the same number of tokens each and with the same seeds. `teacher` names
    the run of `teachers` that they learn from, if they do."""

    title: str
    arms: tuple[Arm, ...]
    tokens: int
    teacher: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)


STUDENT = 2**20  # tokens of a student's run: four to six minutes here with its teacher beside it
_FROM_TEACHER = "teachers=[{model: {teacher}}]"
_DISTILLED = ("losses=[logit_kd]", _FROM_TEACHER)

COMPARISONS = {
    "teachers": Comparison(
        "Teachers, and what they have to beat",
        (Arm("hybrid", "hybrid.yaml"), Arm("moe", "moe.yaml", ("losses=[next_token, mtp]",), drafts=True)),
        tokens=3 * 2**21,
        seeds=(0,),
    ),
    "students": Comparison(
        "Does distillation pay? The same student on the same number of tokens",
        (Arm("from scratch", "hybrid-student.yaml"), Arm("distilled", "hybrid-student.yaml", _DISTILLED)),
        tokens=STUDENT,
        teacher="hybrid",
    ),
    "cached": Comparison(
        "Cached top-k logits against live ones: the same result for less time?",
        (
            Arm("live", "hybrid-student.yaml", _DISTILLED),
            Arm("cached, top 32", "hybrid-student.yaml", (*_DISTILLED, "teachers.0.cache={top_k: 32}")),
        ),
        tokens=STUDENT,
        teacher="hybrid",
    ),
    "mtp": Comparison(
        "Multi-token prediction as an auxiliary loss",
        (
            Arm("next token", "moe-student.yaml"),
            Arm("next token and MTP", "moe-student.yaml", ("losses=[next_token, mtp]",), drafts=True),
        ),
        tokens=STUDENT,
    ),
}
