"""What a search for variants has found, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from archc.searching.mip_found import Combination, FoundMip
from archc.terminal import console, plain_table
from archc.viz.search_scene import written


def print_mip(found: FoundMip, folder: Path) -> None:
    """What was measured, the combinations with what was predicted beside what is, and what to do next."""
    out, search = console(), found.search
    out.print(f"{search.name}: a variant for each layer of {search.base}")
    for line in found.notes():
        out.print(line)
    metric, budgets = search.sampler.metric, search.budgets
    heads = [f"{metric} predicted", "measured", *(b.figure.name for b in budgets)]
    table = plain_table("", *heads, numbers=tuple(heads))
    for name, one in rows(found):
        figures = (written(b.figure.unit, v) for b, v in zip(budgets, one.figures, strict=True))
        measured = "failed" if one.measured.failed else f"{one.measured.loss:.4g}"
        table.add_row(name, f"{one.predicted:.4g}", measured, *figures)
    out.print(table)
    best = next(one for one in found.combinations if one.name == found.best)
    for line in described(found, best):
        out.print(line)
    out.print(f"[dim]archc best {folder} --pick best --recipe recipe.yaml[/dim]")


def rows(found: FoundMip) -> Iterator[tuple[str, Combination]]:
    """The base and every combination."""
    yield f"base ({found.search.base})", found.base
    for one in found.combinations:
        yield f"{one.name}{' (best)' if one.name == found.best else ''}", one


def described(found: FoundMip, one: Combination) -> Iterator[str]:
    """Which layers have which variant."""
    positions: dict[str, list[int]] = {}
    for layer, variant in enumerate(one.variants):
        positions.setdefault(variant, []).append(layer)
    for variant, layers in positions.items():
        yield f"{one.name}: {variant}: layer{'s' if len(layers) > 1 else ''} {ranges(layers)}"


def ranges(numbers: list[int]) -> str:
    """Numbers in order, runs of them short.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1][1:] = [n]
        else:
            runs.append([n])
    return ", ".join("-".join(map(str, run)) for run in runs)
