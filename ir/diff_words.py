"""What a diff says, as a person would: `dropped: layers 7-8 (attention, mlp), 48 (mlp)`, `d_model 5120 -> 4480`."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from archc.ir.graph import LAYERS, MTP_LAYERS
from archc.ir.text_line import value_words

Place = int | str  # a layer's position, or the name of what has none
NOUNS = {LAYERS: "layers", MTP_LAYERS: "MTP layers"}
_SHOWN, _LONGEST = 3, 60


def short_words(value: Any) -> str:
    """A field's value, cut where it is long."""
    text = value_words(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def change_words(old: Any, new: Any, *, none: str = "none") -> str:
    """`20480 -> 15680`; `none` says what it means that there is no value."""
    return " -> ".join(none if value is None else short_words(value) for value in (old, new))


def plain(value: Any) -> Any:
    """A field's value for JSON; infinity is the string "inf"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(v) for v in value]
    return "inf" if value == math.inf else value


def places_words(places: Iterable[Place]) -> str:
    """`11, 23, 40-43`: positions in order, runs of them as ranges, then names.

    >>> places_words([40, 11, 41, 42, "x"])
    '11, 40-42, x'
    """
    numbers = sorted(p for p in places if isinstance(p, int))
    runs = [numbers[start:stop] for start, stop in _runs(numbers)]
    shown = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ", ".join([*shown, *(p for p in places if isinstance(p, str))])


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where runs of consecutive numbers start and stop."""
    cuts = [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1]
    if numbers:
        yield from zip([0, *cuts], [*cuts, len(numbers)], strict=True)


def region_words(region: str, places: Sequence[Place]) -> str:
    """`layers 3, 5`, `MTP layer 0`, or names alone of what stands in no region."""
    return f"{_noun(region, len(places))} {places_words(places)}".strip()


def _noun(region: str, count: int) -> str:
    noun = NOUNS.get(region, f"{region} layers" if region else "")
    return noun.removesuffix("s") if count == 1 else noun


def structure_words(
    what: str, region: str, kinds: Mapping[Place, str], slides: Sequence[tuple[Sequence[Place], Sequence[Place]]]
) -> str:
    """`dropped: layers 7 (attention), 20 (mlp)`; of each slide (what was chosen, of what) how many, and an example."""
    open_ = {place for chosen, _ in slides for place in chosen}
    parts = []
    certain = [p for p in kinds if p not in open_]
    if certain:
        parts.append(f"{_noun(region, len(certain))} {', '.join(_with_kinds(certain, kinds))}".strip())
    for chosen, among in slides:
        told = f"{_counted(kinds[p] for p in chosen)}; which of them, structure does not tell"
        parts.append(f"{len(chosen)} of {region_words(region, among)}, such as {places_words(chosen)} ({told})")
    return f"{what}: {'; '.join(parts)}"


def _with_kinds(places: Sequence[Place], kinds: Mapping[Place, str]) -> Iterator[str]:
    """Runs of places, those after one another with equal kinds under one bracket: `11, 23 (attention), 40-43 (mlp)`."""
    numbers = sorted(p for p in places if isinstance(p, int))
    runs: list[list[Place]] = [list(numbers[start:stop]) for start, stop in _runs(numbers)]
    runs += [[p] for p in places if isinstance(p, str)]
    gathered: list[tuple[list[Place], tuple[str, ...]]] = []
    for run in runs:
        names = tuple(dict.fromkeys(kinds[p] for p in run))
        if gathered and gathered[-1][1] == names:
            gathered[-1][0].extend(run)
        else:
            gathered.append((run, names))
    for run, names in gathered:
        yield f"{places_words(run)} ({', '.join(names)})"


def _counted(kinds: Iterable[str]) -> str:
    """`16 attention, 16 mlp`; one kind without its number."""
    counts = Counter(kinds)
    return ", ".join(f"{count} {kind}" if len(counts) > 1 else kind for kind, count in sorted(counts.items()))


def field_words(
    field: str, of: str, region: str, changed: Sequence[tuple[Place, Any, Any]], total: int, *, named: bool
) -> str:
    """`d_ff 20480 -> 15680 in 25 of 25 mlp layers`, or what it became where, if that differs.

    `named` says that `of` is a block of a spec; other ops (norms) are counted, not listed."""
    noun = {LAYERS: " layers", MTP_LAYERS: " MTP layers"}.get(region, "") if named else ""
    where = f"in {len(changed)} of {total} {of}{noun}"
    none = "the model's" if field.endswith(" format") else "none"
    groups: dict[str, list[Place]] = {}
    for place, old, new in changed:
        groups.setdefault(change_words(old, new, none=none), []).append(place)
    if len(groups) == 1:
        ((words, places),) = groups.items()
        listed = f" ({region_words(region, places)})" if named and len(changed) < total else ""
        return f"{field} {words} {where}{listed}".lstrip()
    shown = [f"{words} in {places_words(places)}" for words, places in list(groups.items())[:_SHOWN]]
    more = [f"and {len(groups) - _SHOWN} more ways"] if len(groups) > _SHOWN else []
    return f"{field} {where}: {'; '.join([*shown, *more])}".lstrip()
