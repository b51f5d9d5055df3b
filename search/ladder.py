"""The scoring ladder: candidates climb rungs that cost more and tell more, and each lets only its best go on."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from archc.kernels.errors import ArchcError
from archc.search.choices import Point

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A point that is scored: `passes` make it of the base's weights, `graph` is the hash of what they make.

    `scores` are those of the rungs that it has reached, by name; `failed` says what went wrong on one, by name.
    """

    name: str
    point: Point
    graph: str
    passes: str
    scores: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


Report = Callable[[int, float], None]  # a score on the way, at a step; may raise Pruned


class Pruned(Exception):
    """What has been heard of a candidate on the way is too little: it is not to be scored to the end."""


def unheard(step: int, score: float) -> None:
    """Nobody listens to scores on the way."""


class Scorer(Protocol):
    """Measures candidates; less is better."""

    @property
    def name(self) -> str:
        """What the rung is called."""
        ...

    @property
    def identity(self) -> str:
        """What a score depends on beside the candidate: weights, data, options."""
        ...

    def score(self, candidate: Candidate, report: Report) -> float:
        """The score of a candidate, `report` being told of those on the way, if there are any.

        An ArchcError that it raises, and a score that is no number, fail the candidate."""
        ...


class Cache(Protocol):
    """Scores that are known, by key: a file, a database."""

    def get(self, key: str) -> float | None:
        """The score, or None."""
        ...

    def put(self, key: str, score: float) -> None:
        """Keep a score."""
        ...


@dataclass(frozen=True)
class Rung:
    """A scorer, and how many candidates go on from it."""

    scorer: Scorer
    keep: int


def key(scorer: Scorer, candidate: Candidate) -> str:
    """What a score is cached by: the candidate's graph and passes, the scorer and what it depends on."""
    told = [scorer.name, scorer.identity, candidate.graph, candidate.passes]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def scored(scorer: Scorer, candidate: Candidate, cache: Cache, report: Report = unheard) -> Candidate:
    """The candidate with this rung's score, or with what went wrong. Raises what `report` raises."""
    known = cache.get(key(scorer, candidate))
    if known is None:
        try:
            known = float(scorer.score(candidate, report))
        except Pruned:
            raise
        except ArchcError as error:
            return failed(candidate, scorer.name, str(error))
        except Exception as error:  # whatever a trainer runs into, such as too little memory: others may do
            LOGGER.warning("%s: a candidate cannot be scored", scorer.name, exc_info=True)
            return failed(candidate, scorer.name, f"{type(error).__name__}: {error}")
        if math.isnan(known):
            return failed(candidate, scorer.name, "the score is no number (NaN)")
        cache.put(key(scorer, candidate), known)
    return replace(candidate, scores={**candidate.scores, scorer.name: known})


def failed(candidate: Candidate, rung: str, cause: str) -> Candidate:
    """The candidate with what went wrong on a rung."""
    return replace(candidate, failed={**candidate.failed, rung: cause})


def climb(
    candidates: Sequence[Candidate],
    rungs: Sequence[Rung],
    cache: Cache,
    tell: Callable[[Rung, Candidate], None] = lambda rung, candidate: None,
) -> tuple[Candidate, ...]:
    """Score candidates rung by rung: all on the first, the best `keep` of it on the second, and so on.

    Gives back every candidate, in the order they came, with the scores it has got. `tell` hears of each as it is
    scored."""
    by_name = {c.name: c for c in candidates}
    left = list(by_name)
    for rung in rungs:
        for name in left:
            by_name[name] = scored(rung.scorer, by_name[name], cache)
            tell(rung, by_name[name])
        there = [name for name in left if rung.scorer.name in by_name[name].scores]
        left = sorted(there, key=lambda name: by_name[name].scores[rung.scorer.name])[: rung.keep]
    return tuple(by_name.values())
