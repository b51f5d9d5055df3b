"""The library of a search for variants of layers as plain data that is drawn: what each loses alone, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def library_map(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is drawn of a library; None for a search that has none.

    `layers` are positions and `variants` names, as they first come. `cells` are `[place in layers, place in variants,
    loss, why there is none]`, of what the library has. `picks` has a row for each recorded candidate, and `base` one:
    the place in `variants` of what each layer is, -1 for what is not in the library.
    """
    library = results.get("library")
    if not library:
        return None
    rows = [row for layer in library for row in layer]
    names = {name: i for i, name in enumerate(dict.fromkeys(row["variant"] for row in rows))}
    return {
        "metric": results["metric"],
        "layers": [layer[0]["layer"] for layer in library],
        "variants": list(names),
        "cells": [
            [i, names[row["variant"]], row["loss"], row["failed"]] for i, layer in enumerate(library) for row in layer
        ],
        "picks": [_places(names, candidate) for candidate in results["candidates"]],
        "base": _places(names, results["base_figures"]),
    }


def _places(names: Mapping[str, int], candidate: Mapping[str, Any]) -> Sequence[int]:
    return [names.get(variant, -1) for variant in candidate["variants"]]
