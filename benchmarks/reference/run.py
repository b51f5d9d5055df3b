"""The reference experiment: `python benchmarks/reference/run.py --what teachers|students|cached|mtp`.

Trains what a comparison of arms.py asks for with `archc train`, measures it with `archc.evaluate`, adds a line to
`results.jsonl` for every run, and writes the tables of docs/results.md. What is done already is not done again, and a
run that was killed goes on where it was. All arms of a comparison get the same number of tokens.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from arms import COMPARISONS, RECIPE, SCORES, TEACHERS, Arm, Comparison
from results import Result, append, placed, read, section
from searched import EVALUATIONS, Searches, told
from shifted import code_corpus, written

from archc.compress.run import compress
from archc.evaluate.drafts import Drafts
from archc.evaluate.metric import Metric, Setting
from archc.evaluate.ngram import NGramModel
from archc.evaluate.perplexity import Perplexity
from archc.evaluate.report import nested
from archc.evaluate.subject import open_subject
from archc.kernels.errors import ArchcError
from archc.passes import Pipeline
from archc.passes.text import parse_passes
from archc.train.corpus import Corpus, standard_library_corpus

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 256  # tokens of context: as long as training sequences
WEIGHTS = "model.safetensors"


def main() -> None:
    """Run a comparison and write what it says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--what", choices=COMPARISONS, required=True)
    parser.add_argument("--tokens", type=int, help="of every run, instead of what the comparison says")
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS, help="of every search")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of those of the comparison")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs/reference", help="where runs are kept")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/results.md", help="where tables are written")
    parser.add_argument("overrides", nargs="*", metavar="KEY.PATH=VALUE", help="laid over every recipe")
    given = parser.parse_args()
    try:
        experiment = Experiment(given.what, given.folder, tuple(given.overrides), given.evaluations)
        comparison = experiment.comparison
        experiment.run(given.seeds or list(comparison.seeds), tokens=given.tokens)
        experiment.write(given.page)
    except ArchcError as error:
        sys.exit(f"error: {error}")


class Experiment:
    """One comparison, its folder and its results."""

    def __init__(
        self, what: str, folder: Path, overrides: tuple[str, ...] = (), evaluations: int = EVALUATIONS
    ) -> None:
        self.what, self.folder, self.overrides, self.evaluations = what, folder, overrides, evaluations
        self.comparison: Comparison = COMPARISONS[what]
        self.file = folder / "results.jsonl"
        self.corpus: Corpus = code_corpus() if self.comparison.on_code else standard_library_corpus()

    def run(self, seeds: list[int], *, tokens: int | None) -> None:
        """Do every run that is not done, seed by seed, so that a comparison that is stopped has whole seeds."""
        for seed in seeds:
            for arm in self.comparison.arms:
                self.one(arm, seed, tokens or arm.tokens or self.comparison.tokens)

    def teacher(self, name: str) -> Path:
        """The folder of a teacher's run. Raises ArchcError where it is not trained yet."""
        folders = {what: self.folder / what / f"{name}-0" for what in TEACHERS if name in TEACHERS[what]}
        for what, folder in folders.items():
            if not (folder / WEIGHTS).is_file():
                raise ArchcError(f"the teacher is not trained: {Path(__file__).name} --what {what}")
            return folder
        raise ArchcError(f"no comparison trains the teacher `{name}`")

    def one(self, arm: Arm, seed: int, tokens: int) -> None:
        """A run and its measurement, unless its result is there."""
        parent = self.teacher(self.comparison.teacher) if self.comparison.teacher else None
        teacher = self.teacher(arm.teacher) if arm.teacher else parent
        sha = sha256(teacher / WEIGHTS) if teacher else ""
        passes = self.passes(arm, seed)
        cut = f"{sha256(parent / WEIGHTS)} {SCORES} {passes}" if parent and not arm.model else ""
        asked = arm.arguments(model=cut or f"benchmarks/reference/{arm.model}", tokens=tokens, seed=seed, teacher=sha)
        asked += [self.corpus.sha256] if self.comparison.on_code else []
        setting = setting_of([*asked, *self.overrides])
        known = {(r.what, r.arm): r for r in read(self.file) if r.setting == setting}
        if known and (self.what, arm.name) not in known:  # the same run under another arm, or of another comparison
            append(self.file, replace(next(iter(known.values())), what=self.what, arm=arm.name))
        if known:
            return
        name = f"{arm.name.replace(' ', '-').replace(',', '')}-{seed}"
        print(f"{self.what}: {arm.name}, seed {seed}, {tokens:,} tokens", flush=True)
        model, before = f"benchmarks/reference/{arm.model}", None
        if parent and not arm.model:
            made = self.made(parent, passes, self.folder / self.what / f"made-{name}")
            model, before = str(made), self.measured(made, [Perplexity(length=LENGTH)])["perplexity"]["bits_per_byte"]
        folder = self.folder / self.what / name
        began = time.monotonic()
        arguments = arm.arguments(model=model, tokens=tokens, seed=seed, teacher=str(teacher))
        self.train([*arguments, *self.data(), *self.overrides], folder)
        seconds = time.monotonic() - began
        found = self.measured(folder, [Perplexity(length=LENGTH), *([Drafts()] if arm.drafts else [])])
        ended = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
        append(
            self.file,
            Result(
                what=self.what,
                arm=arm.name,
                seed=seed,
                setting=setting,
                bits_per_byte=found["perplexity"]["bits_per_byte"],
                tokens=ended["tokens"],
                seconds=round(seconds, 1),
                parameters=parameters(folder),
                weights_sha256=sha256(folder / WEIGHTS),
                corpus_sha256=self.corpus.sha256,
                teacher_sha256=sha,
                before=before,
                drafts=found.get("drafts", {}),
            ),
        )

    def made(self, parent: Path, passes: str, out: Path) -> Path:
        """What passes make of a teacher, by the scores that SCORES says how to measure; itself where there are none."""
        if not passes:
            return parent
        compress(parent, Pipeline(tuple(parse_passes(passes))), out, scores=self.scores(parent), overwrite=True)
        return out

    def scores(self, parent: Path) -> Path:
        """Importance of a teacher's units and layers, measured unless it is there."""
        scores = self.folder / f"scores-{self.comparison.teacher}.safetensors"
        if not scores.is_file():
            command = [sys.executable, "-m", "archc", "importance", str(parent), *SCORES.split("|")]
            if subprocess.run([*command, "-o", str(scores)], cwd=ROOT, check=False).returncode:
                raise ArchcError("the teacher's importance could not be measured")
        return scores

    @functools.cached_property
    def searches(self) -> Searches | None:
        """The models of a comparison with searches in it, else None."""
        if not any(arm.search for arm in self.comparison.arms):
            return None
        teacher = self.teacher(self.comparison.teacher)
        return Searches(self.folder / self.what, teacher, self.scores(teacher), self.evaluations)

    def passes(self, arm: Arm, seed: int) -> str:
        """What makes an arm's model of the teacher in a run, searched for where the arm says so."""
        return self.searches.found(arm, seed).passes if self.searches else arm.passes_of(seed)

    def data(self) -> list[str]:
        """What is laid over the recipe for the other text."""
        if not self.comparison.on_code:
            return []
        folder = written(self.corpus, self.folder / "code")
        parts = (f"{part}: [{{text: {{files: ['{folder / part}']}}}}]" for part in ("train", "held_out"))
        return [f"data={{{', '.join(parts)}}}"]

    def train(self, arguments: list[str], folder: Path, *options: str) -> None:
        """`archc train`, in a process of its own. Raises ArchcError where it fails."""
        command = [sys.executable, "-m", "archc", "train", str(RECIPE), "-o", str(folder), *options, *arguments]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise ArchcError(f"a run failed: {folder}")

    def measured(self, folder: Path, metrics: list[Metric]) -> dict[str, Any]:
        """What metrics say of a run on the held-out text."""
        setting = Setting(open_subject(str(folder)), self.corpus.held_out)
        return {m.name: nested(m.measure(setting)) for m in metrics}

    def write(self, page: Path) -> None:
        """Put the comparison's table into a page."""
        learnt, held_out = ([d.text.encode() for d in part] for part in (self.corpus.train, self.corpus.held_out))
        baseline = NGramModel.fit(learnt, 5).bits_per_byte(held_out)
        command = f"python benchmarks/reference/run.py --what {self.what}"
        text = section(self.what, read(self.file), baseline=baseline, command=command, before=tuple(self.before()))
        page.parent.mkdir(parents=True, exist_ok=True)
        there = page.read_text(encoding="utf-8") if page.is_file() else "# Results\n"
        page.write_text(placed(there, self.what, text), encoding="utf-8")
        print(text)

    def before(self) -> Iterator[str]:
        """What stands before the table: what searches have found of the runs that are done."""
        if self.searches:
            done = {(r.arm, r.seed) for r in read(self.file) if r.what == self.what}
            arms = {arm.name: arm for arm in self.comparison.arms}
            yield from told(self.comparison, [self.searches.found(arms[name], seed) for name, seed in sorted(done)])


def setting_of(arguments: list[str]) -> str:
    """What identifies a run: its recipe and what is laid over it, a teacher by its weights."""
    return hashlib.sha256("\n".join([RECIPE.read_text(encoding="utf-8"), *arguments]).encode()).hexdigest()[:16]


def parameters(folder: Path) -> int:
    """Parameters of a checkpoint."""
    from archc.hub.weights import weights_of

    return sum(map(math.prod, weights_of(folder).shapes.values()))


def sha256(file: Path) -> str:
    """The sha256 of a file."""
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


if __name__ == "__main__":
    main()
