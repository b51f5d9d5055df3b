"""The runs of the reference experiment: what is compared, and how a run is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "recipe.yaml"


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a name, the model, and what is laid over the recipe, `{teacher}` being its folder.

    The model is a spec, or else what `passes` make of the comparison's teacher, `{seed}` in them being the run's, or
    what `search`, one of searched.py, finds of it.
    `teacher` is who it learns from where that is not the comparison's, `tokens` are those of its runs likewise;
    `against` are the arms that it is held against, else the first.
    `drafts` says that its MTP steps are measured as drafts too.
    """

    name: str
    model: str = ""
    overrides: tuple[str, ...] = ()
    passes: str = ""
    search: str = ""
    teacher: str = ""
    tokens: int | None = None
    against: tuple[str, ...] = ()
    drafts: bool = False

    def arguments(self, *, model: str, tokens: int, seed: int, teacher: str) -> list[str]:
        """Arguments of `archc train` after the recipe."""
        fixed = [f"model={model}", f"budget={{tokens: {tokens}}}", f"seed={seed}", f"init_seed={seed}"]
        return [*fixed, *(text.replace("{teacher}", teacher) for text in self.overrides)]

    def passes_of(self, seed: int) -> str:
        """What makes this arm's model of the teacher in a run."""
        return self.passes.replace("{seed}", str(seed))


@dataclass(frozen=True)
class Comparison:
    """Arms that are held against the first, on the same number of tokens each and with the same seeds. `teacher` names
    the run of `teachers` that they learn from, or are made of, if they are. `on_code`: code of the standard library in
    place of its docstrings. Arms whose parameters differ by a larger share than `apart` are not compared."""

    title: str
    arms: tuple[Arm, ...]
    tokens: int
    teacher: str = ""
    on_code: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    apart: float = 0.005


# How the importance of a teacher's units and layers is measured, as arguments of `archc importance` between bars.
_ESTIMATORS = "activation, weight_norm, influence, kl, iterative{measure=kl, remove=6}"
SCORES = f"--data|stdlib|--tokens|16k|--sequence|256|--estimators|{_ESTIMATORS}"

STUDENT = 2**20  # tokens of a student's run: four to six minutes here with its teacher beside it
_FROM_TEACHER = "teachers=[{model: {teacher}}]"
_DISTILLED = ("losses=[logit_kd]", _FROM_TEACHER)

# The teacher cut to hybrid-student.yaml: the layers that matter least of those that leave its pattern, then units.
_SHALLOWER = "drop-layers{layers=(6, 7, 10, 11)}"
_NARROWER = (
    "prune{dim=d_model, to=128}; prune{dim=d_ff, to=512};"
    " prune{dim=n_heads, kind=mamba2, to=4}; prune{dim=n_heads, kind=attention, to=4}"
)
_TO_STUDENT = f"{_SHALLOWER}; {_NARROWER}"

# One axis at a time: its name, and what keeps half or two thirds of it.
_AXES = {
    "d_model": "dim=d_model, to=128",
    "d_ff": "dim=d_ff, to=256",
    "Mamba heads": "dim=n_heads, kind=mamba2, to=4",
    "Mamba channels": "dim=head_dim, kind=mamba2, to=32",
    "d_state": "dim=d_state, to=16",
    "query heads": "dim=n_heads, kind=attention, to=4",
    "attention channels": "dim=head_dim, kind=attention, to=16",
}


def _by_axis() -> Iterator[Arm]:
    """Units kept by activations and at random; layers by what their absence changes and at random."""
    for axis, options in _AXES.items():
        ranked = f"{axis}, ranked"
        yield Arm(ranked, overrides=_DISTILLED, passes=f"prune{{{options}}}", against=(ranked,))
        at_random = f"prune{{{options}, by=random, seed={{seed}}}}"
        yield Arm(f"{axis}, at random", overrides=_DISTILLED, passes=at_random, against=(ranked,))
    across = "; ".join(f"{name}{{dim=n_heads, kind=mamba2, to=4}}" for name in ("regroup", "prune"))
    yield Arm(
        "Mamba heads, ranked across groups", overrides=_DISTILLED, passes=across, against=("Mamba heads, ranked",)
    )
    ranked = "layers, ranked"
    by_kl, at_random = (f"drop-blocks{{count=2, kind=mlp, by={by}}}" for by in ("kl", "random, seed={seed}"))
    yield Arm(ranked, overrides=_DISTILLED, passes=by_kl, against=(ranked,))
    yield Arm("layers, at random", overrides=_DISTILLED, passes=at_random, against=(ranked,))


_THREE_MLPS = {
    "ranked once": "drop-blocks{count=3, kind=mlp, by=kl}",
    "ranked again after each": "drop-blocks{count=3, kind=mlp, by=iterative}",
}

# Models of half the teacher, none larger than the first: widths alike in all layers, and what searches find.
UNIFORM = "fit{params={half}, dims=(n_heads, d_ff)}"
_ALIKE = {
    "heads and d_ff alike": UNIFORM,
    "d_model and d_ff alike": "fit{params={budget}, dims=(d_model, d_ff), multiples=(2, 4)}",
    "d_ff alike, heads whole": "fit{params={budget}, dims=(d_ff,)}",
}
_HELD_AGAINST = ("heads and d_ff alike", "d_ff alike, heads whole")
_SEARCHED = {
    "random": "random",
    "TPE": "tpe",
    "NSGA-II": "nsga2",
    "MIP": "mip",
    "MIP, layers may go": "mip-drop",
}

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
    "pruned": Comparison(
        "Prune and distil, or train the same architecture from scratch? And how many tokens until that catches up",
        (
            Arm("pruned and distilled", overrides=_DISTILLED, passes=_TO_STUDENT),
            Arm("distilled from scratch", "hybrid-student.yaml", _DISTILLED),
            Arm("from scratch", "hybrid-student.yaml"),
            Arm("from scratch, twice the tokens", "hybrid-student.yaml", tokens=STUDENT),
            Arm("from scratch, four times the tokens", "hybrid-student.yaml", tokens=2 * STUDENT),
        ),
        tokens=STUDENT // 2,
        teacher="hybrid",
    ),
    "axes": Comparison(
        "Are ranked units better than random ones? One axis at a time, before and after a short distillation",
        tuple(_by_axis()),
        tokens=STUDENT // 8,
        teacher="hybrid",
        seeds=(0, 1),
    ),
    "depth": Comparison(
        "Width or depth at equal parameters? And layers ranked once, or again after each that goes",
        (
            Arm("width", overrides=_DISTILLED, passes="fit{params=1516936, dims=(d_model, d_ff), multiples=(2, 4)}"),
            Arm("depth, six layers", overrides=_DISTILLED, passes="drop-blocks{count=6, by=kl}"),
            *(
                Arm(f"three MLPs, {name}", overrides=_DISTILLED, passes=passes, against=("three MLPs, ranked once",))
                for name, passes in _THREE_MLPS.items()
            ),
        ),
        tokens=STUDENT // 4,
        teacher="hybrid",
        seeds=(0, 1),
    ),
    "searched": Comparison(
        "A size for each layer by a search, or one width for all? At half the size, before and after distillation",
        (
            *(Arm(name, overrides=_DISTILLED, passes=passes) for name, passes in _ALIKE.items()),
            *(Arm(name, overrides=_DISTILLED, search=how, against=_HELD_AGAINST) for name, how in _SEARCHED.items()),
        ),
        tokens=STUDENT // 8,
        teacher="hybrid",
        apart=0.1,
    ),
    "corrected": Comparison(
        "The teacher on text that it has not learnt: before, and after a short training on it",
        (Arm("hybrid-on-code", overrides=("optimizer={adamw: {lr: 1e-3}}",)),),
        tokens=STUDENT // 2,
        teacher="hybrid",
        on_code=True,
        seeds=(0,),
    ),
    "correction": Comparison(
        "Does correcting the teacher pay, where students learn from text that it has not learnt?",
        (
            Arm("teacher as it is", overrides=_DISTILLED, passes=_TO_STUDENT),
            Arm("teacher corrected", overrides=_DISTILLED, passes=_TO_STUDENT, teacher="hybrid-on-code"),
            Arm("no teacher", passes=_TO_STUDENT),
        ),
        tokens=STUDENT // 4,
        teacher="hybrid",
        seeds=(0, 1),
        on_code=True,
    ),
}
# The comparisons whose runs teach others.
TEACHERS = {what: tuple(arm.name for arm in COMPARISONS[what].arms) for what in ("teachers", "corrected")}
