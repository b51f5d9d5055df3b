"""What a recipe names, found and held against one another before data is read or anything written.

`parts_of` tells every misfit at once, each where the recipe says it: in the file, or in an argument laid over it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from archc.hub.checkpoint_dir import VOCABULARY_FILES
from archc.hub.weights import Weights, weights_of
from archc.ir.graph import Graph
from archc.kernels.errors import ArchcError, MissingPackage, SourceError, SpecErrors, UnknownName
from archc.resolve import load
from archc.train.losses import Loss, Needs, Setting
from archc.train.losses.base import options
from archc.train.parallel import Plan, plan
from archc.train.recipe import Recipe, TeacherEntry
from archc.train.report import check_tensorboard
from archc.train.teaching import Announced, lineage
from archc.train.tokenizers import BYTES_NAME, Tokenizer, find_tokenizer
from archc.units import format_size
from archc.yamlfile import in_order

T = TypeVar("T")
Loc: TypeAlias = tuple[str | int, ...]

_OPTIMISED_BYTES = {"fp32": 16, "bf16": 18, "fp64": 32}  # of a parameter: itself, its gradient, two moments, a copy


@dataclass(frozen=True)
class Parts:
    """The model's graph, how it is cut over processes and its weights (or the seed of fresh ones), the tokenizer,
    teachers by name, and what losses will want of them."""

    graph: Graph
    cut: Plan
    weights: Weights | int
    tokenizer: Tokenizer
    teachers: Mapping[str, Announced]
    needs: Needs


def parts_of(recipe: Recipe) -> Parts:
    """The parts of a recipe. Raises SpecErrors with everything that is not there or does not fit."""
    if recipe.tensorboard == "on":
        check_tensorboard()
    faults = _Faults(recipe)
    graph = faults.tried(("model",), lambda: load(recipe.model))
    tokenizer = faults.tried(("tokenizer",), lambda: find_tokenizer(_tokenizer(recipe)))
    for loc, check in _source_checks(recipe):
        faults.tried(loc, check)
    weights, cut, teachers, needs = None, None, dict[str, Announced](), Needs()
    if graph is not None:
        weights = faults.tried(("model",), lambda: _first_weights(recipe))
        cut = _cut(recipe, graph, tokenizer, faults)
        teachers = _teachers(recipe, graph, faults)
        needs = _needs(recipe, Setting(graph, teachers), faults)
    if faults.errors:
        raise in_order(faults.errors)
    assert graph is not None and cut is not None and weights is not None and tokenizer is not None
    return Parts(graph, cut, weights, tokenizer, teachers, needs)


@dataclass
class _Faults:
    """Collects what is wrong; of errors that have a place of their own (in a spec, say) the place is kept."""

    recipe: Recipe
    errors: list[SourceError] = field(default_factory=list)

    def tried(self, loc: Loc, make: Callable[[], T]) -> T | None:
        """What `make` gives, or None with its error noted at a field of the recipe."""
        try:
            return make()
        except MissingPackage:
            raise
        except SpecErrors as error:
            self.errors += error.errors
        except SourceError as error:
            self.errors.append(error)
        except ArchcError as error:
            self.add(loc, str(error))
        return None

    def add(self, loc: Loc, message: str) -> None:
        """Note an error at a field, which the message then names."""
        named = message if f"`{loc[-1]}`" in message else f"`{loc[-1]}`: {message}"
        self.errors.append(self.recipe.error(loc, named))


# -- model and tokenizer -----------------------------------------------------------------------------------------------


def _cut(recipe: Recipe, graph: Graph, tokenizer: Tokenizer | None, faults: _Faults) -> Plan | None:
    """How the model is cut, and whether it fits the machine and the tokenizer."""
    message = too_large(graph, recipe.precision)
    if message:
        faults.add(("model",), message)
    size, needed = graph.dims["vocab"].size, 0 if tokenizer is None else tokenizer.vocab_size
    if size < needed:
        said = "model" if recipe.tokenizer in (None, BYTES_NAME) else "tokenizer"
        message = f"the tokenizer {_tokenizer(recipe)} needs a vocabulary of at least {needed}: {graph.name} has {size}"
        faults.add((said,), message)
    degrees = recipe.parallel
    return faults.tried(("parallel",), lambda: plan(graph, tp=degrees.tp, ep=degrees.ep))


def _tokenizer(recipe: Recipe) -> str:
    """The name of the recipe's tokenizer, else the model's own: its weights know no other ids."""
    place = Path(recipe.model)
    carried = place.is_dir() and any((place / name).is_file() for name in VOCABULARY_FILES)
    return recipe.tokenizer or (recipe.model if carried else BYTES_NAME)


def _first_weights(recipe: Recipe) -> Weights | int:
    """Those that the recipe's model has, or else the seed of fresh ones."""
    place = Path(recipe.model)
    return weights_of(place) if place.is_dir() and any(place.glob("*.safetensors")) else recipe.init_seed


def too_large(graph: Graph, precision: str) -> str:
    """Why the machine would kill the run, if it would: weights, gradients and AdamW's two moments must fit. Of many
    machines each holds its processes' share."""
    mine = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) / int(os.environ.get("WORLD_SIZE", "1"))
    needed = int(_OPTIMISED_BYTES[precision] * mine * sum(map(math.prod, graph.weight_shapes().values())))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed <= there:
        return ""
    what = f"training {graph.name} takes {format_size(needed)} for weights, gradients and AdamW"
    return f"{what}: this machine has {format_size(there)}"


# -- data --------------------------------------------------------------------------------------------------------------


def _source_checks(recipe: Recipe) -> Iterator[tuple[Loc, Callable[[], object]]]:
    """What sources look for before they read, and the options that say where."""
    for part in ("train", "held_out"):
        for i, entry in enumerate(getattr(recipe.data, part)):
            for option, check in entry.source.checks().items():
                yield ("data", part, i, entry.source.name, option), check


# -- teachers and losses -----------------------------------------------------------------------------------------------


def _teachers(recipe: Recipe, student: Graph, faults: _Faults) -> dict[str, Announced]:
    """The teachers that are there and fit, by name."""
    found = {}
    for i, entry in enumerate(recipe.teachers):
        at, before = ("teachers", i), len(faults.errors)
        graph = faults.tried((*at, "model"), partial(_teacher_graph, entry))
        if graph is None:
            continue
        vocab, weight_map = graph.dims["vocab"].size, None
        if entry.cache is not None:
            if entry.cache.top_k >= vocab:
                message = f"must be below the teacher's vocabulary of {vocab}: got {entry.cache.top_k}"
                faults.add((*at, "cache", "top_k"), message)
            if recipe.budget.minutes is not None:
                faults.add((*at, "cache"), "it needs a budget of steps or of tokens, not of minutes")
        elif entry.passes is not None:
            weight_map = faults.tried((*at, "passes"), partial(lineage, entry, student))
        if len(faults.errors) == before:
            found[entry.name] = Announced(vocab, None if entry.cache else graph, weight_map)
    return found


def _teacher_graph(entry: TeacherEntry) -> Graph:
    return weights_of(entry.model).graph


def _needs(recipe: Recipe, setting: Setting, faults: _Faults) -> Needs:
    """What losses will want; a loss of a teacher that is at fault itself is not asked."""
    needs, failed = Needs(), {entry.name for entry in recipe.teachers} - setting.teachers.keys()
    for i, one in enumerate(recipe.losses):
        if failed and getattr(one, "teacher", None) in ("", *failed):
            continue
        try:
            needs |= _needs_of(one, setting)
        except ArchcError as error:
            faults.add(("losses", i, one.name, *_option(one, error)), str(error))
    return needs


def _needs_of(one: Loss, setting: Setting) -> Needs:
    needs = one.needs(setting)
    for name, wanted in needs.teachers.items():
        setting.teachers[name].check(wanted)
    return needs


def _option(one: Loss, error: ArchcError) -> tuple[str, ...]:
    """The option of a loss that an error is about, where it names one."""
    named = [error.kind] if isinstance(error, UnknownName) else re.findall(r"`(\w+)`", str(error))
    return next(((name,) for name in named if name in options(type(one))), ())
