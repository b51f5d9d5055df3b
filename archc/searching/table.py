"""What a search has found, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from archc.search.figures import Unit
from archc.searching.run import Candidate, Found
from archc.terminal import console, plain_table
from archc.units import format_params, format_size

SHOWN = 12


def print_found(found: Found, folder: Path) -> None:
    """How many fit, the front with the knee marked, and what to do next."""
    out = console()
    for line in summary(found):
        out.print(line)
    search, table = (
        found.search,
        plain_table("", *found.search.space.names, *(o.figure.name for o in found.search.objectives)),
    )
    for name, one in rows(found):
        point = [str(one.point[n]) for n in search.space.names]
        table.add_row(
            name, *point, *(_value(o.figure.unit, v) for o, v in zip(search.objectives, one.values, strict=True))
        )
    out.print(table)
    out.print(f"[dim]archc best {folder} --pick knee -o best.yaml[/dim]")


def summary(found: Found) -> Iterator[str]:
    """What was proposed, what fits, what the front is."""
    swept, front = found.swept, [c for c in found.candidates if c.on_front]
    how = "all there are" if swept.whole else f"of {found.search.space.size:,}"
    yield f"{found.search.name}: {swept.proposed:,} candidates ({how}), {found.seconds:.1f} s"
    moved = "" if swept.whole else f", {swept.feasible:,} after moving the others into the budgets"
    yield f"within the budgets: {swept.feasible_at_once:,} ({swept.feasible_at_once / swept.proposed:.0%}){moved}"
    if any(v > 0 for v in found.base.violations):
        over = ", ".join(str(b) for b, v in zip(found.search.budgets, found.base.violations, strict=True) if v > 0)
        yield f"the base itself is not: {over}"
    if found.search.target:
        first = f", such as {found.excluded[0]}" if found.excluded else ""
        yield f"`{found.search.target}` loads them; left out: {len(found.excluded)}{first}"
    yield f"on the front: {len(front):,}; knee {found.knee}"


def rows(found: Found) -> Iterator[tuple[str, Candidate]]:
    """The base, some of the front evenly apart, the knee among them."""
    yield f"base ({found.search.base})", found.base
    front = [c for c in found.candidates if c.on_front]
    steps = max(-(-len(front) // SHOWN), 1)
    for i, one in enumerate(front):
        if i % steps == 0 or i == len(front) - 1 or one.name == found.knee:
            yield f"{one.name}{' (knee)' if one.name == found.knee else ''}", one


def _value(unit: Unit, value: float) -> str:
    """A figure as people read it."""
    if unit == "bytes":
        return format_size(value)
    if unit in ("parameters", "FLOPs"):
        return format_params(value)
    if unit == "score":
        return f"{value:.4f}"
    return f"{value * 1e3:.2f} ms" if unit == "s" else f"{value:,.1f} {unit}"
