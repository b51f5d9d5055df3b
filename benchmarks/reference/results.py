"""Results of the reference experiment: JSON lines, and what they say as tables of docs/results.md."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from arms import COMPARISONS, Comparison

# Two-sided 95 % of Student's t, by degrees of freedom.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Result:
    """One finished run. `setting` identifies what was asked for, so that a run is done once.
    `before` is the bits a byte of a model made of the teacher, before it was trained."""

    what: str
    arm: str
    seed: int
    setting: str
    bits_per_byte: float
    tokens: int
    seconds: float
    parameters: int
    weights_sha256: str
    corpus_sha256: str
    teacher_sha256: str = ""
    before: float | None = None
    drafts: dict[str, Any] = field(default_factory=dict)


def read(file: Path) -> list[Result]:
    """Every result of a file; a last line that was cut off is left out."""
    if not file.is_file():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            found.append(Result(**json.loads(line)))
        except ValueError:
            continue
    return found


def append(file: Path, result: Result) -> None:
    """Add a result, on a line of its own even where the last was cut off."""
    file.parent.mkdir(parents=True, exist_ok=True)
    cut = file.is_file() and file.read_bytes()[-1:] not in (b"", b"\n")
    with file.open("a", encoding="utf-8") as out:
        out.write(("\n" if cut else "") + json.dumps(asdict(result)) + "\n")


# -- statistics --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, and half the width of its 95 % confidence interval (None for a single pair)."""

    mean: float
    half: float | None

    def __str__(self) -> str:
        if self.half is None:
            return f"{self.mean:+.4f} (one seed: no spread)"
        noise = "within noise" if abs(self.mean) <= self.half else "beyond noise"
        return f"{self.mean:+.4f} ± {self.half:.4f} ({noise})"


def difference(first: Sequence[Result], other: Sequence[Result]) -> Difference | None:
    """The other arm's bits a byte less the first's, by seeds that both have; None where there are none."""
    base = {r.seed: r.bits_per_byte for r in first}
    pairs = [r.bits_per_byte - base[r.seed] for r in other if r.seed in base]
    if not pairs:
        return None
    if len(pairs) == 1:
        return Difference(pairs[0], None)
    t = T95[min(len(pairs) - 1, len(T95)) - 1]
    return Difference(statistics.fmean(pairs), t * statistics.stdev(pairs) / math.sqrt(len(pairs)))


# -- tables ------------------------------------------------------------------------------------------------------------


def section(what: str, found: Iterable[Result], *, baseline: float, command: str, before: Iterable[str] = ()) -> str:
    """A section of docs/results.md: the table of a comparison, its differences, and how to do it again; `before` are
    lines that stand before it."""
    comparison = COMPARISONS[what]
    mine = [r for r in found if r.what == what]
    first = [*before, ""] if before else []
    lines = [f"## {comparison.title}", "", *first, *table(comparison, mine, baseline=baseline), ""]
    corpus = _short(r.corpus_sha256 for r in mine)
    teacher = _short(r.teacher_sha256 for r in mine) if comparison.teacher else ""
    made = f"; weights {', '.join(f'{r.arm} {_short([r.weights_sha256])}' for r in mine)}" if what == "teachers" else ""
    lines += [f"Corpus {corpus}{f', teacher {teacher}' if teacher else ''}{made}. Again with `{command}`."]
    return "\n".join(lines) + "\n"


def _short(hashes: Iterable[str]) -> str:
    return ", ".join(sorted({h[:12] for h in hashes}))


def table(comparison: Comparison, found: Sequence[Result], *, baseline: float) -> Iterator[str]:
    """The lines of a comparison's table, and of what differs from its first arm."""
    before = any(r.before is not None for r in found)
    yield f"| | parameters | tokens | seeds |{' before |' if before else ''} bits a byte | spread (SD) | seconds |"
    yield f"|---|---|---|---|{'---|' if before else ''}---|---|---|"
    by_arm = {arm.name: [r for r in found if r.arm == arm.name] for arm in comparison.arms}
    for name, runs in by_arm.items():
        if runs:
            yield _row(name, runs, before=before)
    yield f"| 5-gram, Kneser-Ney | | | |{' |' if before else ''} {baseline:.4f} | | |"
    told = [
        f"- {arm.name} less {other}: {d} bits a byte"
        for arm in comparison.arms
        for other in arm.against or (comparison.arms[0].name,)
        if other != arm.name and _alike(by_arm[other], by_arm[arm.name], comparison.apart)
        if (d := difference(by_arm[other], by_arm[arm.name]))
    ]
    told += [f"- {r.arm}, seed {r.seed}, drafts: {_drafts(r.drafts)}" for r in found if r.drafts]
    if told:
        yield ""
        yield from told


def _alike(first: Sequence[Result], other: Sequence[Result], apart: float) -> bool:
    """Whether both have as many parameters, give or take a share: else their difference says little."""
    if not first or not other:
        return False
    base = first[0].parameters
    return all(abs(r.parameters - base) <= apart * base for r in other)


def _row(name: str, runs: Sequence[Result], *, before: bool) -> str:
    bits = [r.bits_per_byte for r in runs]
    spread = f"{statistics.stdev(bits):.4f}" if len(bits) > 1 else "-"
    seeds = ", ".join(str(r.seed) for r in sorted(runs, key=lambda r: r.seed))
    tokens = "-".join(f"{n:,}" for n in sorted({min(r.tokens for r in runs), max(r.tokens for r in runs)}))
    sizes = "-".join(sorted({f"{n / 1e6:.2f}" for n in (f([r.parameters for r in runs]) for f in (min, max))}))
    seconds = f"{statistics.fmean(r.seconds for r in runs):.0f}"
    untrained = [r.before for r in runs if r.before is not None]
    cell = f" {f'{statistics.fmean(untrained):.4f}' if untrained else '-'} |" if before else ""
    return f"| {name} | {sizes}M | {tokens} | {seeds} |{cell} {statistics.fmean(bits):.4f} | {spread} | {seconds} |"


def _drafts(drafts: dict[str, Any]) -> str:
    accepted, agreed = (", ".join(f"{x:.1%}" for x in drafts[name].values()) for name in ("acceptance", "agreement"))
    passes = f"{drafts['tokens_per_pass']:.2f} tokens a pass"
    return f"steps accepted {accepted}, {passes}; on the held-out text itself they agree {agreed}"


def placed(page: str, what: str, text: str) -> str:
    """A page with the section of `what` put in its place, or at the end."""
    begin, end = f"<!-- reference {what} -->\n", f"<!-- end of reference {what} -->\n"
    if begin not in page:
        return f"{page.rstrip()}\n\n{begin}{text}{end}".lstrip()
    before, rest = page.split(begin, 1)
    return before + begin + text + end + rest.split(end, 1)[1]
