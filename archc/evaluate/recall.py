"""Long-range recall with known answers: pairs are told, other text follows, and some pairs are asked for.

This is multi-query associative recall (Arora et al. 2023, "Zoology"), the probe that tells SSMs from attention, written
as plain bytes:

    qk=R vd=C ... told ... <other text> ... vd=C qk=R

A prompt tells `pairs` keys of two letters, each with a capital of its own; `distance` bytes of other words later,
`queries` of the keys are asked for in another order, each told right before the next is asked. A model that knows which
capitals were told, but not where, is right by chance: one in `pairs`, then one in those not yet asked for.
"""

from __future__ import annotations

import math
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from archc.evaluate.metric import Figure, Metric, Setting, metric, needs_positive
from archc.evaluate.scoring import hidden_rows, log_probabilities
from archc.evaluate.subject import Subject
from archc.evaluate.windows import Window, batches
from archc.kernels.errors import ArchcError, UnsupportedError

VALUES = string.ascii_uppercase
_VOWELS, _CONSONANTS = "aeiou", "bcdfghklmnprstvw"


@dataclass(frozen=True)
class Prompt:
    """A text that tells and asks, and where in it each answer stands (characters, which are bytes)."""

    text: str
    answers: tuple[int, ...]


def prompts(*, pairs: int, queries: int, distance: int, count: int, seed: int) -> Iterator[Prompt]:
    """`count` prompts, each a pure function of the numbers given and its own.

    >>> next(prompts(pairs=2, queries=1, distance=16, count=1, seed=0)).text
    'tl=U tb=J sisura ne felug tl=U'
    """
    for number in range(count):
        yield _prompt(random.Random(f"{seed}:{distance}:{number}"), pairs, queries, distance)


def _prompt(draw: random.Random, pairs: int, queries: int, distance: int) -> Prompt:
    keys = draw.sample([a + b for a in _CONSONANTS for b in _CONSONANTS], pairs)
    told = dict(zip(keys, draw.sample(VALUES, pairs), strict=True))
    text = "".join(f"{key}={value} " for key, value in told.items()) + _other(draw, distance)
    answers = []
    for key in draw.sample(keys, queries):
        text += f"{key}={told[key]} "
        answers.append(len(text) - 2)
    return Prompt(text[:-1], tuple(answers))


def _other(draw: random.Random, distance: int) -> str:
    """Words of `distance` characters, in which no key and no capital stands."""
    text = ""
    while len(text) < distance:
        syllables = draw.randint(1, 3)
        text += "".join(draw.choice(_CONSONANTS) + draw.choice(_VOWELS) for _ in range(syllables)) + " "
    return text[: distance - 1] + " " if distance else ""


@metric("recall")
class Recall(Metric):
    """Accuracy of the likeliest among all capitals, at several distances, beside what chance gives."""

    distances: tuple[int, ...] = (64, 256, 1024)
    pairs: int = 8
    queries: int = 4
    prompts: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        needs_positive(self, "pairs", "queries", "prompts")
        if not self.queries <= self.pairs <= len(VALUES):
            raise ArchcError(
                f"recall: needs queries <= pairs <= {len(VALUES)}: got pairs={self.pairs}, queries={self.queries}"
            )
        if not self.distances or min(self.distances) < 0:
            raise ArchcError(f"recall: `distances` must be 0 or more: got {self.distances}")

    @property
    def chance(self) -> float:
        """The accuracy of knowing which capitals were told, and nothing else."""
        return sum(1 / (self.pairs - i) for i in range(self.queries)) / self.queries

    @torch.inference_mode()
    def measure(self, on: Setting) -> tuple[Figure, ...]:
        """Accuracy at each distance, and chance."""
        values = value_tokens(on.model)
        figures = []
        with on.progress("recall", len(self.distances) * self.prompts) as advance:
            for distance in self.distances:
                hits = 0
                for batch in batches(self.windows(on.model, distance), batch_tokens=on.batch_tokens):
                    logs = log_probabilities(on.model, hidden_rows(on.model, batch))[:, values]
                    hits += int((torch.tensor(values)[logs.argmax(-1).cpu()] == batch.targets).sum())
                    advance(len(batch.inputs))
                figures.append(self.figure(distance, hits))
        asked = self.prompts * self.queries
        return (
            *figures,
            Figure("chance", self.chance, "by chance", f"{self.chance:.1%}"),
            Figure("asked", asked, "questions at each distance", f"{asked:,}"),
        )

    def windows(self, subject: Subject, distance: int) -> list[Window]:
        """The prompts of a distance, of which only the answers are scored."""
        size = {"pairs": self.pairs, "queries": self.queries, "distance": distance}
        return [window(prompt, subject) for prompt in prompts(**size, count=self.prompts, seed=self.seed)]

    def figure(self, distance: int, hits: int) -> Figure:
        """The accuracy of `hits` right answers, with its standard error."""
        asked = self.prompts * self.queries
        share = hits / asked
        error = math.sqrt(share * (1 - share) / asked)
        return Figure(f"accuracy.{distance}", share, f"right at {distance} bytes", f"{share:.1%} ± {error:.1%}")


def value_tokens(subject: Subject) -> list[int]:
    """The token of each capital after `=`. Raises UnsupportedError where the tokenizer has none of its own."""
    before = subject.tokenizer.encode("bd=")
    tokens = []
    for value in VALUES:
        whole = subject.tokenizer.encode(f"bd={value}")
        if whole[:-1] != before:
            raise UnsupportedError("recall: this tokenizer has no token of its own for a capital after `=`")
        tokens.append(whole[-1])
    return tokens


def window(prompt: Prompt, subject: Subject) -> Window:
    """A prompt as tokens, of which the answers are scored. Raises UnsupportedError where they are no tokens."""
    before = [subject.tokenizer.begin] if subject.tokenizer.begin is not None else []
    tokens = [*before, *subject.tokenizer.encode(prompt.text)]
    scored = tuple(_place(prompt.text[: answer + 1], before, tokens, subject) for answer in prompt.answers)
    return Window(torch.tensor(tokens), scored)


def _place(text: str, before: list[int], tokens: list[int], subject: Subject) -> int:
    """Where the token is that ends a text, which begins a longer one of these tokens."""
    part = [*before, *subject.tokenizer.encode(text)]
    if tokens[: len(part)] != part:
        raise UnsupportedError("recall: this tokenizer joins a capital with what follows it")
    return len(part) - 1
