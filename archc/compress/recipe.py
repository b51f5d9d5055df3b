"""What a compression recipe says, and reading it: YAML with places, every error at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from typing_extensions import Doc

from archc.compress.fitting import unfitted
from archc.compress.sections import read_calibration, read_importance
from archc.compress.shorthands import SHORTHANDS, Read
from archc.importance.calibration import Sampling
from archc.importance.measuring import Measuring
from archc.kernels.errors import ParseError, Place, SpecError
from archc.passes import Pipeline, registered_passes
from archc.passes.text import placed_passes
from archc.spec.choice import choose
from archc.spec.fields import record_model
from archc.yamlfile import Node, in_order, read_yaml, shown, validate


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a recipe may say; those that are of any type are read by what they hold."""

    archc_compress: Annotated[Literal[1], Doc("version of this form")]
    name: Annotated[str | None, Doc("name of the new model; else the old one's")] = None
    importance: Annotated[Any, Doc("a file of `archc importance`, or how it is measured (`Measuring`)")] = None
    calibration: Annotated[Any, Doc("the text that passes are fitted on (`Sampling`)")] = None
    requantise: Annotated[bool, Doc("quantise packed weights anew of which other than whole blocks is kept")] = False
    passes: Annotated[Any, Doc("passes in order, each as text or `name: {option: value}`")] = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A compression recipe. Files in it are relative to its own; `at` is where its fields stand."""

    name: str | None = None
    importance: Path | Measuring | None = None
    calibration: Sampling | None = None
    requantise: bool = False
    passes: Pipeline
    at: Mapping[str, Place] = field(default_factory=dict, compare=False)


def load_recipe(file: Path) -> Recipe:
    """The recipe in a YAML file. Raises SpecErrors with everything wrong with it."""
    node, errors = read_yaml(file)
    form, more = validate(node, record_model(Form))
    importance, unread = read_importance(node.child("importance"), file.parent)
    calibration, unusable = read_calibration(node.child("calibration"), file.parent)
    passes, wrong = _listed(node, file.parent)
    errors = [*errors, *more, *unread, *unusable, *wrong]
    if calibration is not None and not wrong and not any(map(unfitted, passes.passes)):
        message = "`calibration`: no pass is fitted on it"
        errors.append(SpecError(node.value["calibration"].key_at, message, hint="replace-linear is, without a `path`"))
    if errors or form is None:
        raise in_order(errors)
    named: Any = form  # a model with the fields of Form
    at = {key: child.key_at for key, child in node.value.items()}
    return Recipe(
        name=named.name,
        importance=importance,
        calibration=calibration,
        requantise=named.requantise,
        passes=passes,
        at=at,
    )


def _listed(node: Node, folder: Path) -> tuple[Pipeline, list[SpecError]]:
    """The passes of the list, and what is wrong with it."""
    listed = node.child("passes")
    if listed is None or not isinstance(listed.value, tuple) or not listed.value:
        at = node if listed is None else listed
        error = at.error(f"`passes`: expected a list of passes, got {shown(at.data) if listed else 'none'}")
        return Pipeline(()), [error]
    return read_passes(listed, folder)


def read_passes(listed: Node, folder: Path) -> tuple[Pipeline, list[SpecError]]:
    """The passes of a list, files in them relative to a folder, and what is wrong with it."""
    if not isinstance(listed.value, tuple):
        return Pipeline(()), [listed.error(f"`passes`: expected a list of passes, got {shown(listed.data)}")]
    entries = [_passes(item, folder) for item in listed.value]
    placed = [one for found, _ in entries for one in found]
    passes, places = tuple(one for one, _ in placed), tuple(at for _, at in placed)
    return Pipeline(passes, places), [error for _, errors in entries for error in errors]


def _passes(node: Node, folder: Path) -> Read:
    """The passes of one entry of the list."""
    classes = {cls.name: cls for cls in registered_passes()}
    if isinstance(node.value, str) and node.value not in classes:
        try:
            return [(one, _inside(node, at)) for one, at in placed_passes(node.value)], []
        except ParseError as error:
            return [], [SpecError(_inside(node, error.at), error.message)]
    named = list(node.value) if isinstance(node.value, dict) else []
    if len(named) == 1 and named[0] in SHORTHANDS:
        return SHORTHANDS[named[0]](node.value[named[0]], folder)
    made, errors = choose(node, "pass", classes)
    return ([] if made is None else [(made, node.at)]), errors


def _inside(node: Node, at: Place) -> Place:
    """Where in the file a place in a node's text is."""
    before = node.value.splitlines(keepends=True)[: at.line - 1]
    return node.inside(sum(map(len, before)) + at.column - 1)
