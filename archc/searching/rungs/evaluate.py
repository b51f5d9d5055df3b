"""evaluate: bits a byte of held-out text, of a candidate as it was last trained."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from typing_extensions import Doc

from archc.search.ladder import Candidate, Report, Scorer, key
from archc.searching.base import Base
from archc.searching.rungs.base import RungOptions, check_weights, rung
from archc.searching.rungs.distil import DistilScorer
from archc.train.corpus import standard_library_corpus

if TYPE_CHECKING:
    from archc.evaluate.metric import Setting


@rung("evaluate")
@dataclass(frozen=True, kw_only=True)
class Evaluate(RungOptions):
    """Perplexity's bits a byte on the docstrings held out of training, or on text files."""

    text: Annotated[tuple[str, ...], Doc("text files; the docstrings unless told")] = ()
    length: Annotated[int, Doc("tokens of context")] = 512

    def below(self, folder: Path) -> Self:
        return replace(self, text=tuple(str(folder / place) for place in self.text))

    def check(self, base: str, before: Sequence[RungOptions], *, scored: bool) -> None:
        if not any(one.trains for one in before):
            check_weights(self.name, base)

    def scorer(self, base: Base, folder: Path, before: Scorer | None) -> Scorer:
        return _Evaluate(self, base, folder / "pruned", before)


@dataclass(frozen=True, eq=False)
class _Evaluate:
    options: Evaluate
    base: Base
    folder: Path
    before: Scorer | None
    name: str = Evaluate.name

    @functools.cached_property
    def texts(self) -> Setting:
        from archc.evaluate.metric import Setting
        from archc.evaluate.texts import read_texts

        texts = read_texts(map(Path, self.options.text)) if self.options.text else standard_library_corpus().held_out
        return Setting(texts=texts)

    @property
    def identity(self) -> str:
        told = hashlib.sha256("".join(d.text for d in self.texts.texts).encode("utf-8", "surrogatepass"))
        trained = self.before.identity if self.before else ""
        return repr((self.base.identity, told.hexdigest(), self.options.length, trained))

    def score(self, candidate: Candidate, report: Report) -> float:
        from archc.compress.run import compress
        from archc.evaluate.perplexity import Perplexity
        from archc.evaluate.subject import open_subject

        if isinstance(self.before, DistilScorer):
            place = self.before.place(candidate)
        else:
            place = self.folder / key(self, candidate)[:16]
            pipeline = self.base.pipeline(candidate)
            compress(self.base.path, pipeline, place, scores=self.base.scores_file, overwrite=True)
        setting = replace(self.texts, subject=open_subject(str(place)))
        found = Perplexity(length=self.options.length).measure(setting)
        return float(next(f.value for f in found if f.key == "bits_per_byte"))
