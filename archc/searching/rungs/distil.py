"""distil: the held-out loss of a candidate after a short training, its parent the teacher."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Self

from typing_extensions import Doc

from archc.kernels.errors import ArchcError
from archc.outfile import write_whole
from archc.search.ladder import Candidate, Report, Scorer, key
from archc.searching.base import Base
from archc.searching.rungs.base import RungOptions, rung
from archc.spec import spec_from_graph

HELD_OUT = "held_out/loss"


@rung("distil")
@dataclass(frozen=True, kw_only=True)
class Distil(RungOptions):
    """Trained as a recipe says, `model` being the candidate and `{base}` in overrides the base's folder."""

    trains: ClassVar[bool] = True

    recipe: Annotated[str, Doc("a training recipe; relative to the search file")]
    overrides: Annotated[tuple[str, ...], Doc("laid over the recipe, such as `budget={tokens: 1M}`")] = ()

    def below(self, folder: Path) -> Self:
        return replace(self, recipe=str(folder / self.recipe))

    def check(self, base: str, before: Sequence[RungOptions], *, scored: bool) -> None:
        from archc.train.recipe_load import load_recipe

        load_recipe(Path(self.recipe), [f"model={base}", *self.laid_over(base)])

    def laid_over(self, base: str) -> list[str]:
        """The overrides, the base's folder in them."""
        return [text.replace("{base}", base) for text in self.overrides]

    def scorer(self, base: Base, folder: Path, before: Scorer | None) -> Scorer:
        return DistilScorer(self, base, folder / "trained")


@dataclass(frozen=True, eq=False)
class DistilScorer:
    """Trains candidates in folders of their own, which are runs of `archc train` and go on where they stopped."""

    options: Distil
    base: Base
    folder: Path
    name: str = Distil.name

    @property
    def identity(self) -> str:
        return repr((self.base.identity, Path(self.options.recipe).read_text(encoding="utf-8"), self.options.overrides))

    def place(self, candidate: Candidate) -> Path:
        """The folder of a candidate's run."""
        return self.folder / key(self, candidate)[:16]

    def score(self, candidate: Candidate, report: Report) -> float:
        from rich.console import Console

        from archc.train.recipe_load import load_recipe
        from archc.train.record import Record
        from archc.train.run import train

        run = self.place(candidate)
        model = self._inherited(candidate, run) if self.base.path.is_dir() else self._new(candidate, run)
        overrides = self.options.laid_over(str(self.base.path))
        recipe = load_recipe(Path(self.options.recipe), [f"model={model}", *overrides])

        def told(record: Record) -> None:
            if HELD_OUT in record.figures and 0 < record.progress < 1:
                report(record.step, float(record.figures[HELD_OUT]))

        if train(recipe, run, console=Console(quiet=True), told=[told]).interrupted:
            raise KeyboardInterrupt
        return _last_loss(run)

    def _inherited(self, candidate: Candidate, run: Path) -> Path:
        """The candidate with the weights that the base leaves it."""
        from archc.compress.run import compress

        pruned = self.folder / f"{run.name}-pruned"
        compress(self.base.path, self.base.pipeline(candidate), pruned, scores=self.base.scores_file, overwrite=True)
        return pruned

    def _new(self, candidate: Candidate, run: Path) -> Path:
        """The candidate's spec: one of a base without weights begins with weights of its own."""
        spec = self.folder / f"{run.name}.yaml"
        self.folder.mkdir(parents=True, exist_ok=True)
        graph = replace(self.base.space.build(candidate.point), name=run.name)
        write_whole(spec, spec_from_graph(graph).to_yaml())
        return spec


def _last_loss(run: Path) -> float:
    """The held-out loss at the end of a run. Raises ArchcError where its recipe measures none."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [found[HELD_OUT] for line in lines if HELD_OUT in (found := json.loads(line))]
    if not losses:
        raise ArchcError(f"{run}: the recipe measures no held-out loss: give it `data.held_out`")
    return float(losses[-1])
