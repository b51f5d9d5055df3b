"""What a compression recipe says, and reading it: YAML with places, every error at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from typing_extensions import Doc

from archc.kernels.errors import ParseError, SpecError
from archc.passes import Pass, Pipeline, registered_passes
from archc.passes.prune import Prune
from archc.passes.text import parse_passes
from archc.spec.choice import choose
from archc.spec.fields import record_model
from archc.yamlfile import Node, in_order, read_yaml, shown, validate

TARGETS = "targets"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A compression recipe. `importance` is a file of scores, relative to the recipe."""

    archc_compress: Annotated[Literal[1], Doc("version of this form")]
    name: Annotated[str | None, Doc("name of the new model; else the old one's")] = None
    importance: Annotated[str | None, Doc("scores that `archc importance` has measured; relative to the recipe")] = None
    passes: Annotated[Pipeline, Doc("passes in order, each as text or `name: {option: value}`")] = field(
        default_factory=lambda: Pipeline(())
    )


def load_recipe(file: Path) -> Recipe:
    """The recipe in a YAML file. Raises SpecErrors with everything wrong with it."""
    node, errors = read_yaml(file)
    checked, more = validate(node, record_model(Recipe, ("passes",)))
    top: Any = checked  # a model with the fields of Recipe
    errors = [*errors, *more]
    listed = node.child("passes")
    passes: list[Pass] = []
    if listed is None or not isinstance(listed.value, tuple) or not listed.value:
        at = node if listed is None else listed
        errors.append(at.error(f"`passes`: expected a list of passes, got {shown(at.data) if listed else 'none'}"))
    else:
        for item in listed.value:
            found, wrong = _passes(item)
            passes += found
            errors += wrong
    if errors or top is None:
        raise in_order(errors)
    importance = None if top.importance is None else str(file.parent / top.importance)
    return Recipe(archc_compress=1, name=top.name, importance=importance, passes=Pipeline(tuple(passes)))


def _passes(node: Node) -> tuple[list[Pass], list[SpecError]]:
    """The passes of one entry of the list."""
    classes = {cls.name: cls for cls in registered_passes()}
    if isinstance(node.value, str) and node.value not in classes:
        try:
            return list(parse_passes(node.value)), []
        except ParseError as error:
            return [], [SpecError(node.inside(error.at.column - 1), error.message)]
    if isinstance(node.value, dict) and list(node.value) == [TARGETS]:
        return _targets(node.value[TARGETS])
    made, errors = choose(node, "pass", classes)
    return ([] if made is None else [made]), errors


def _targets(node: Node) -> tuple[list[Pass], list[SpecError]]:
    """`{d_model: 3072, mlp.d_ff: 0.75}`: a `prune` for each, to a size or a share, by activations."""
    if not isinstance(node.value, dict) or not node.value:
        return [], [node.error(f"`targets`: expected sizes by dim, got {shown(node.data)}")]
    passes: list[Pass] = []
    errors: list[SpecError] = []
    for key, value in node.value.items():
        options = dict(_sized(value))
        if not options:
            errors.append(value.error(f"`{key}`: expected a size or a share below 1, got {shown(value.data)}"))
            continue
        kind, _, dim = key.rpartition(".")
        passes.append(Prune(dim=dim, kind=kind, **options))
    return passes, errors


def _sized(node: Node) -> Iterator[tuple[str, Any]]:
    size = node.data
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        yield "to", size
    elif isinstance(size, float) and 0 < size < 1:
        yield "keep", size
