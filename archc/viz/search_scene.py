"""A finished search as plain data that is drawn: columns, candidates as rows of them, and what they are beside.

A column is a figure (an objective, what a budget limits, a score of a rung) or a choice. A figure that is an objective
and limited, or limited twice, is one column. Everything that is drawn of a search, on a terminal, as a picture or on a
page, is drawn from here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from archc.units import format_params, format_size
from archc.viz.search_library import library_map

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_BY_ITSELF = ("hardware", "format")  # of a setting: what its value alone says
_SHIFT = 0.05  # of a choice's range, by which budgets move its mean
OBJECTIVE, BUDGET, SCORE, CHOICE = "objective", "budget", "score", "choice"


def search_scene(results: Mapping[str, Any], run: str) -> dict[str, Any]:
    """The scene of the results that a search has written into the folder `run`."""
    report = results["report"]
    aims = {o["name"] for o in report["objectives"] if o["unit"] == SCORE}
    scored = dict.fromkeys(name for c in results["candidates"] for name in c.get("scores", {}))
    scores = [name for name in scored if name not in aims]
    owners = _owners(results)
    limited = _own(owners, len(report["objectives"]))
    columns = [
        *_figures(report, owners),
        *({"label": name, "text": name, "unit": "", "role": SCORE} for name in scores),
    ]
    _tell_apart(columns)
    columns += [{"label": c["name"], "text": c["name"], "unit": "", "role": CHOICE, **c} for c in report["choices"]]
    rows = _Rows(report, limited, scores)
    objectives = len(report["objectives"])
    kept = [*range(objectives), *(objectives + i for i in limited)]
    return {
        "name": results["name"],
        "base": results["base"],
        "run": run,
        "knee": results["knee"],
        "best": results.get("best", results["knee"]),
        "told": list(told(results)),
        "proposed": results["proposed"],
        "columns": columns,
        "axes": _axes(columns),
        "candidates": [{"name": c["name"], "front": c["front"], **rows.row(c)} for c in results["candidates"]],
        "base_row": rows.row(results["base_figures"]),
        "compared": [{"name": c["name"], **rows.row(c)} for c in results.get("compared", ())],
        "cloud": rows.cloud(report["cloud"], len(columns)),
        "importance": [report["importance"][i] for i in kept],
        "by_chance": report["by_chance"],
        "history": report["history"],
        "library": library_map(results),
        "budgets": [
            {key: b[key] for key in ("text", "unit", "limit", "broken", "alone", "slack")} for b in report["budgets"]
        ],
    }


def told(results: Mapping[str, Any]) -> Iterator[str]:
    """What was proposed, what fits, what the front is, in lines; then what the search notes itself.

    A search for variants of layers (`sampler: mip`) proposes nothing, and has its notes alone."""
    if results.get("sampler") == "mip":
        yield from results["notes"]
        return
    proposed, at_once = results["proposed"], results["feasible_at_once"]
    how = "all there are" if results["whole"] else f"of {results['space']:,}"
    yield f"{proposed:,} candidates ({how}), {results['seconds']:.1f} s"
    moved = "" if results["whole"] else f", {results['feasible']:,} after moving the others into the budgets"
    beside = f"; {results['refined']:,} neighbours of the front beside them" if results.get("refined") else ""
    yield f"within the budgets: {at_once:,} ({at_once / max(proposed, 1):.0%}){moved}{beside}"
    over = [
        b for b, v in zip(results["budgets"], results["base_figures"]["violations"], strict=True) if v is None or v > 0
    ]
    if over:
        yield f"the base itself is not: {'; '.join(over)}"
    if results.get("target"):
        yield f"`{results['target']}` loads every candidate; left out for that: {len(results.get('excluded', ())):,}"
    yield f"on the front: {sum(c['front'] for c in results['candidates']):,}; knee {results['knee']}"
    yield from _preferred(results["report"])
    yield from (_beside(model, results) for model in results.get("compared", ()))
    yield from results.get("notes", ())


def _preferred(report: Mapping[str, Any]) -> Iterator[str]:
    """What the budgets alone prefer, where they do: the largest shift of its range first."""
    shifts = []
    for choice, means in zip(report["choices"], report.get("leaning") or (), strict=False):
        width = choice["values"][-1] - choice["values"][0]
        if means and width and abs(means["within"] - means["whole"]) > _SHIFT * width:
            shifts.append((abs(means["within"] - means["whole"]) / width, choice["name"], means))
    parts = [
        f"{'fewer' if m['within'] < m['whole'] else 'more'} {name} "
        f"({m['within']:.4g} on average, {m['whole']:.4g} in the whole space)"
        for _, name, m in sorted(shifts, key=lambda one: -one[0])
    ]
    if parts:
        yield f"the budgets alone prefer {', '.join(parts)}"


def _beside(model: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Where a model stands that the search is compared with, and what is better than it."""
    fits = "within the budgets" if _fits(model["violations"]) else "outside the budgets"
    better = model["beaten_by"]
    if not better:
        return f"{model['name']}: {fits}; no candidate is better in every objective: it would be on the front"
    one = next(c for c in results["candidates"] if c["name"] == better[len(better) // 2])
    units = [objective["unit"] for objective in results["report"]["objectives"]]
    figures = ", ".join(written(unit, value) for unit, value in zip(units, one["values"], strict=True))
    columns = [{**choice, "role": CHOICE} for choice in results["report"]["choices"]]
    choices = ", ".join(f"{column_text(c, one['point'][c['name']])} {c['name']}" for c in columns)
    most = f"{len(better):,} candidates are as good in every objective and better in one"
    return f"{model['name']}: {fits}; {most}, such as {one['name']} ({figures}: {choices})"


def column_text(column: Mapping[str, Any], value: float | None) -> str:
    """A value of a column as people read it: of a choice, what it stands for.

    >>> column_text({"role": "choice", "values": [0, 1], "shown": ["none", "rope"]}, 1)
    'rope'
    """
    if column["role"] != CHOICE or value is None:
        return written(column["unit"], value) if column["role"] != CHOICE else "-"
    if "shown" in column:
        return str(dict(zip(column["values"], column["shown"], strict=True)).get(value, "-"))
    return str(value)


def written(unit: str, value: float | None) -> str:
    """A value of a column as people read it.

    >>> written("bytes", 2.5 * 2**30), written("s", 0.0123), written("tokens/s", 1234.5), written("", 2.3456789)
    ('2.50 GiB', '12.30 ms', '1,234.5 tokens/s', '2.346')

    No tokens at all are those of a model that does not fit.
    """
    if value is None or (unit == "tokens/s" and value == 0):
        return "-"
    if unit == "bytes":
        return format_size(value)
    if unit in ("parameters", "FLOPs"):
        return format_params(value)
    if unit == "s":
        factor, unit = next(scale for scale in _SECONDS if value >= scale[0] or scale[0] == 1e-6)
        return f"{value / factor:.2f} {unit}"
    if unit not in ("", SCORE):
        return f"{value:,.1f} {unit}"
    return str(round(value)) if value == round(value) else f"{value:.4g}"


def _figures(report: Mapping[str, Any], owners: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Columns of objectives and of the other budgets, each with the limits that there are of it: all as
    `[sense, limit]`, and the first by itself."""
    count = len(report["objectives"])
    for place, o in enumerate(report["objectives"]):
        made = {"label": o["name"], "text": o["text"], "unit": o["unit"], "role": OBJECTIVE, "aim": o["sense"]}
        yield made | _limits([b for b, owner in zip(report["budgets"], owners, strict=True) if owner == place])
    for i in _own(owners, count):
        mine = [b for b, owner in zip(report["budgets"], owners, strict=True) if owner == count + i]
        text = "; ".join(b["text"] for b in mine)
        yield {"label": mine[0]["name"], "text": text, "unit": mine[0]["unit"], "role": BUDGET, **_limits(mine)}


def _limits(budgets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not budgets:
        return {}
    limits = [[b["sense"], b["limit"]] for b in budgets]
    return {"sense": limits[0][0], "limit": limits[0][1], "limits": limits}


def _owners(results: Mapping[str, Any]) -> list[int]:
    """For each budget the place, among objectives and then budgets, of the column that shows its figure: that of the
    first of the same name which is the same for every candidate."""
    report, owners = results["report"], list[int]()
    everything = [results["base_figures"], *results["candidates"], *results.get("compared", ())]
    shown = [(o["name"], [c["values"][j] for c in everything]) for j, o in enumerate(report["objectives"])]
    for i, b in enumerate(report["budgets"]):
        shown.append((b["name"], [_limited(b, c["violations"][i]) for c in everything]))
        owners.append(next(j for j, one in enumerate(shown) if one[0] == b["name"] and _same(one[1], shown[-1][1])))
    return owners


def _own(owners: Sequence[int], objectives: int) -> list[int]:
    """Which budgets have a column of their own."""
    return [i for i, owner in enumerate(owners) if owner == objectives + i]


def _same(some: Sequence[float | None], others: Sequence[float | None]) -> bool:
    """Whether figures are the same but for last digits, which sums and differences do not agree on."""
    pairs = zip(some, others, strict=True)
    return all(a == b if a is None or b is None else math.isclose(a, b, rel_tol=1e-9) for a, b in pairs)


def _tell_apart(columns: Sequence[dict[str, Any]]) -> None:
    """Give columns of one label what differs between their settings, then their role, then a number."""
    for label in dict.fromkeys(column["label"] for column in columns):
        same = [column for column in columns if column["label"] == label]
        settings = [_setting(column["text"]) for column in same]
        differ = [k for k in dict.fromkeys(k for s in settings for k in s) if len({s.get(k) for s in settings}) > 1]
        for column, setting in zip(same, settings, strict=True):
            told = (setting[k] if k in _BY_ITSELF else f"{k} {setting[k]}" for k in differ if k in setting)
            column["label"] = " ".join([label, *told])
    labels = [column["label"] for column in columns]
    for column in columns:
        if labels.count(column["label"]) > 1:
            column["label"] += _role(column)
    seen: list[str] = []
    for column in columns:
        seen.append(column["label"])
        if seen.count(column["label"]) > 1:
            column["label"] += f" {seen.count(column['label'])}"


def _setting(text: str) -> dict[str, str]:
    """What the `at {...}` of a line says, of the first where there are several.

    >>> _setting("minimize latency.decode at {hardware: h100, context: 4k}")
    {'hardware': 'h100', 'context': '4k'}
    """
    found = re.search(r" at \{([^{}]*)\}", text)
    pairs = (part.split(":", 1) for part in found[1].split(",")) if found else ()
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}


def _role(column: Mapping[str, Any]) -> str:
    return f" ({column['role']})"


def _axes(columns: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """What is drawn first: two objectives, or the only one over what is limited, scored or chosen."""
    first = [i for i, column in enumerate(columns) if column["role"] == OBJECTIVE][:2]
    return (first[0], first[1]) if len(first) > 1 else (min(1, len(columns) - 1), 0)


class _Rows:
    """Makes rows of columns: figures, scores, choices."""

    def __init__(self, report: Mapping[str, Any], limited: Sequence[int], scores: Sequence[str]) -> None:
        self.budgets = [(i, report["budgets"][i]) for i in limited]
        self.choices, self.scores = report["choices"], scores

    def row(self, candidate: Mapping[str, Any]) -> dict[str, Any]:
        """The row of a candidate, whether it is within the budgets, and what failed of it."""
        limited = [_limited(b, candidate["violations"][i]) for i, b in self.budgets]
        scored = [candidate.get("scores", {}).get(name) for name in self.scores]
        point = candidate.get("point", {})
        known = {name: value for name, value in point.items() if value >= 0}  # below: none of those that are searched
        chosen = [known.get(c["name"]) if self._means(c, point) else None for c in self.choices]
        row = {"row": [*candidate["values"], *limited, *scored, *chosen], "fits": _fits(candidate["violations"])}
        failed = candidate.get("failed")
        return {**row, "failed": failed} if failed else row

    def _means(self, choice: Mapping[str, Any], point: Mapping[str, int]) -> bool:
        """Whether a choice means something for a candidate."""
        if "when" not in choice or not point:
            return True
        on, values = choice["when"]
        other = next(c for c in self.choices if c["name"] == on)
        return point[on] in values and self._means(other, point)

    def cloud(self, cloud: Mapping[str, Any], columns: int) -> dict[str, Any]:
        """The sample by columns, choices as positions in their values; None for a score, which it has none of."""
        limited = [[_limited(b, v) for v in cloud["violations"][i]] for i, b in self.budgets]
        made = [*cloud["values"], *limited, *(None for _ in self.scores), *cloud["ranks"]]
        assert len(made) == columns
        fits = [int(_fits(row)) for row in zip(*cloud["violations"], strict=True)] or [1] * len(cloud["order"])
        return {"of": cloud["of"], "order": cloud["order"], "columns": made, "fits": fits}


def _limited(budget: Mapping[str, Any], violation: float | None) -> float | None:
    """The figure that breaks a budget by so much."""
    if violation is None:
        return None
    return _short(budget["limit"] + (violation if budget["sense"] == "<=" else -violation))


def _short(value: float | None) -> float | None:
    """A figure without the last digits, which sums and differences do not agree on."""
    return None if value is None else float(f"{value:.10g}")


def _fits(violations: Sequence[float | None]) -> bool:
    return all(v is not None and v <= 0 for v in violations)
