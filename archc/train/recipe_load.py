"""Reads a recipe: YAML with places, `key.path=value` on top of it, every error of both at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from archc.kernels.errors import SpecError, quoted
from archc.spec.choice import choose
from archc.spec.fields import record_model
from archc.train.losses.base import registered_losses
from archc.train.optim import optimizer
from archc.train.overrides import overridden
from archc.train.recipe import Data, DataEntry, Recipe
from archc.train.schedule import schedule
from archc.yamlfile import Node, in_order, read_yaml, shown, validate

CHOSEN = ("data", "optimizer", "schedule", "losses")  # fields that registries give
_PARTS = ("train", "held_out")
_BUDGETS = ("steps", "tokens", "minutes")


@dataclass(frozen=True, kw_only=True)
class WrittenRecipe(Recipe):
    """A recipe that was read, and the tree that it was read from."""

    written: Node = field(compare=False, repr=False)

    def error(self, loc: Sequence[str | int], message: str, *, hint: str = "") -> SpecError:
        """An error where a field is written: in the file, or in an argument that was laid over it."""
        node = self.written.find(loc)
        at = node.key_at if isinstance(node.value, dict) else node.at
        return SpecError(at, message, hint=hint)


def load_recipe(source: Path | str, overrides: Sequence[str] = (), *, file: str | None = None) -> Recipe:
    """The recipe of a YAML file (a `Path`) or of YAML text, called `file` in errors, with `key.path=value` on top.

    Raises SpecErrors with everything wrong with it."""
    node, errors = read_yaml(source, file=file)
    node, more = overridden(node, overrides)
    reader = _Reader([*errors, *more])
    recipe = reader.read(node)
    if reader.errors or recipe is None:
        raise in_order(reader.errors)
    return recipe


def is_recipe(path: Path) -> bool:
    """Whether a file is a recipe, and not a spec or another way to name a model."""
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    return any(line.startswith("archc_recipe") for line in path.read_text("utf-8", "replace").splitlines())


def source_classes() -> Mapping[str, type[Any]]:
    """Every kind of data source by name."""
    from archc.train.sources import registered_sources

    return {cls.name: cls for cls in registered_sources()}


def loss_classes() -> Mapping[str, type[Any]]:
    """Every loss by name."""
    return {cls.name: cls for cls in registered_losses()}


@dataclass
class _Reader:
    errors: list[SpecError]

    def read(self, node: Node) -> Recipe | None:
        top = self._checked(node, record_model(Recipe, CHOSEN))
        given = {
            "data": self._data(node.child("data")),
            "losses": self._losses(node.child("losses")),
            "optimizer": self._choice(node.child("optimizer"), "optimizer", optimizer.classes),
            "schedule": self._choice(node.child("schedule"), "schedule", schedule.classes),
        }
        self.errors += _rules(node)
        if top is None or self.errors:
            return None
        names = [f.name for f in dataclasses.fields(Recipe) if f.name not in CHOSEN]
        recipe = WrittenRecipe(
            **{name: getattr(top, name) for name in names},
            **{k: v for k, v in given.items() if v is not None},
            written=node,
        )
        self.errors += _sizes(recipe)
        return recipe

    def _checked(self, node: Node, model: Any) -> Any:
        value, errors = validate(node, model)
        self.errors += errors
        return value

    # -- what registries give ------------------------------------------------------------------------------------------

    def _choice(self, node: Node | None, what: str, classes: Mapping[str, type[Any]], more: Sequence[str] = ()) -> Any:
        """See `archc.spec.choice.choose`."""
        value, errors = (None, []) if node is None else choose(node, what, classes, more)
        self.errors += errors
        return value

    def _losses(self, node: Node | None) -> Any:
        if node is None:
            return None
        if not isinstance(node.value, tuple) or not node.value:
            self.errors.append(node.error(f"`losses`: expected a list of losses, got {shown(node.data)}"))
            return None
        return tuple(self._choice(item, "loss", loss_classes()) for item in node.value)

    def _data(self, node: Node | None) -> Data | None:
        if node is None:
            return None
        self._checked(node, record_model(Data, _PARTS))
        parts = {part: self._entries(node.child(part), part) for part in _PARTS}
        return None if self.errors else Data(**parts)

    def _entries(self, node: Node | None, part: str) -> tuple[DataEntry, ...]:
        if node is None:
            return ()
        if not isinstance(node.value, tuple) or (part == "train" and not node.value):
            self.errors.append(node.error(f"`{part}`: expected a list of sources, got {shown(node.data)}"))
            return ()
        found = (self._entry(item) for item in node.value)
        return tuple(entry for entry in found if entry is not None)

    def _entry(self, node: Node) -> DataEntry | None:
        beside = ("weight", "on_bad")
        source = self._choice(node, "source", source_classes(), beside)
        fields = node.value if isinstance(node.value, dict) else {}
        rest = replace(node, value={**{key: fields[key] for key in beside if key in fields}, "source": node})
        checked = self._checked(rest, record_model(DataEntry, ("source",)))
        if checked is None:
            return None
        if not checked.weight > 0:
            self.errors.append(rest.error(f"`weight` must be above 0: got {checked.weight:g}", loc=("weight",)))
        return DataEntry(source=source, weight=checked.weight, on_bad=checked.on_bad)


# -- rules between fields ----------------------------------------------------------------------------------------------


def _rules(node: Node) -> Iterator[SpecError]:
    """What the file breaks that its fields alone do not show."""
    budget = node.child("budget")
    if budget is not None and isinstance(budget.value, dict):
        given = [name for name in _BUDGETS if (child := budget.child(name)) and child.value not in (None, "none")]
        if len(given) != 1:
            message = f"a budget is one of {', '.join(_BUDGETS)}: got {' and '.join(given) or 'none'}"
            yield SpecError(budget.key_at, message, hint="budget={steps: 1000} replaces it")
    teachers = node.child("teachers")
    names: list[str] = []
    for entry in teachers.value if teachers is not None and isinstance(teachers.value, tuple) else ():
        name = str(entry.find(("name",)).value) if entry.child("name") else "teacher"
        if name in names:
            yield entry.error(f"two teachers are called {quoted(name)}", hint="give each a `name`")
        names.append(name)


def _sizes(recipe: Recipe) -> Iterator[SpecError]:
    """Sizes that do not divide."""
    if recipe.batch_tokens % recipe.sequence:
        message = f"`batch_tokens` must be a multiple of `sequence`: got {recipe.batch_tokens} and {recipe.sequence}"
        yield recipe.error(("batch_tokens",), message)
    elif recipe.sequences % recipe.parallel.dp:
        message = f"`parallel.dp` must divide the {recipe.sequences} sequences of a step: got {recipe.parallel.dp}"
        yield recipe.error(("parallel", "dp"), message)
