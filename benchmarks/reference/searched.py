"""Searches of the reference experiment: a variant for each layer of the teacher, as small as the uniform width is.

All samplers have the same variants to choose from, the same text, the same number of evaluations and the same scores
to keep units by. What one has found is told by its loss on that text above the teacher's, measured apart from the
search itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from arms import UNIFORM, Arm, Comparison

from archc.hub.stream import file_sha256
from archc.importance.calibration import Sampling
from archc.importance.files import load_scores
from archc.importance.measuring import in_memory
from archc.ir.execute import execute
from archc.ir.graph import LAYERS, Graph
from archc.kernels.errors import ArchcError
from archc.outfile import write_whole
from archc.passes import Context, Pipeline, apply
from archc.passes.importance.targets import next_token_loss
from archc.passes.ranking import dims_of
from archc.passes.text import parse_passes
from archc.yamlfile import load_yaml

ROOT = Path(__file__).resolve().parents[2]
EVALUATIONS = 60  # models, or models with one layer replaced, that a search may measure
TOKENS, SEQUENCE = 8 * 1024, 256  # of the text that it measures them on, drawn by the seed

# What of a layer is varied, and to which shares of the teacher's: each layer by itself.
_HEADS = ("n_heads", ("1/3", "2/3", "1"))
SHARES = {"mlp": ("d_ff", ("1/16", "1/8", "1/4", "1/2", "3/4", "1")), "mamba2": _HEADS, "attention": _HEADS}
MIP, MIP_DROP = "mip", "mip-drop"
# With layers that may go the library has as many variants to measure alone, so one size fewer of the MLPs.
_LEFT_OUT = {"mlp": "3/4"}


@dataclass(frozen=True)
class Found:
    """What an arm's model is in a run, and what it loses on the calibration text of the seed, in bits a token.

    `evaluations` are those of the search, `alone` of them models with one layer replaced, `distinct` of the others
    different ones."""

    arm: str
    seed: int
    passes: str
    parameters: int
    loss: float
    teacher: float
    evaluations: int = 0
    alone: int = 0
    distinct: int = 0
    seconds: float = 0.0


class Searches:
    """The models of a comparison: those that searches find, and those that are held against them."""

    def __init__(self, folder: Path, teacher: Path, scores: Path, evaluations: int = EVALUATIONS) -> None:
        self.folder, self.teacher, self.scores, self.evaluations = folder, teacher, scores, evaluations

    def found(self, arm: Arm, seed: int) -> Found:
        """The model of an arm in a run, searched for unless that is done."""
        asked = self._asked(arm, seed)
        name = f"{arm.name.replace(' ', '-').replace(',', '')}-{seed}-{self._setting(asked, seed)}"
        file = self.folder / f"found-{name}.json"
        if file.is_file():
            return Found(**json.loads(file.read_text(encoding="utf-8")))
        self.folder.mkdir(parents=True, exist_ok=True)
        if isinstance(asked, str):
            made = self._told(arm, seed, asked)
        else:
            began = time.monotonic()
            passes, counts = self._searched(asked, self.folder / f"search-{name}")
            made = self._told(arm, seed, passes, seconds=round(time.monotonic() - began, 1), **counts)
        write_whole(file, json.dumps(asdict(made), indent=1))
        return made

    def _asked(self, arm: Arm, seed: int) -> dict[str, Any] | str:
        """The search of an arm, or its passes, `{half}` and `{budget}` in them being numbers of parameters."""
        graph = self._weights.graph
        if arm.search:
            more = {"base": self.teacher, "scores": self.scores}
            return search_of(arm.search, seed, graph, **more, evaluations=self.evaluations)
        passes = arm.passes_of(seed).replace("{half}", str(half(graph)))
        return passes.replace("{budget}", str(budget(graph)))

    def _setting(self, asked: Mapping[str, Any] | str, seed: int) -> str:
        """What identifies a search, wherever it lies."""
        kept = asked if isinstance(asked, str) else {k: v for k, v in asked.items() if k not in ("base", "importance")}
        files = [file_sha256(file) for file in (self.teacher / "model.safetensors", self.scores)]
        return hashlib.sha256(json.dumps([kept, *files, TOKENS, SEQUENCE, seed]).encode()).hexdigest()[:8]

    def _searched(self, asked: Mapping[str, Any], run: Path) -> tuple[str, dict[str, int]]:
        """The passes of the best that a search finds, and how many evaluations it took."""
        file, recipe = run.with_suffix(".yaml"), run.with_suffix(".recipe.yaml")
        write_whole(file, "".join(f"{key}: {json.dumps(value)}\n" for key, value in asked.items()))
        self._archc("search", file, "-o", run)
        self._archc("best", run, "--pick", "best", "--recipe", recipe, "-o", run.with_suffix(".spec.yaml"))
        told: Any = load_yaml(recipe.read_text(encoding="utf-8"), file=str(recipe)).data
        results = json.loads((run / "results.json").read_text(encoding="utf-8"))
        alone, together = variants(asked), results["proposed"]
        distinct = together if alone else len(results["candidates"])
        return "; ".join(told["passes"]), {"evaluations": alone + together, "alone": alone, "distinct": distinct}

    def _archc(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "archc", *map(str, arguments)]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise ArchcError(f"a search failed: {' '.join(command)}")

    # -- measured apart from the search --------------------------------------------------------------------------------

    def _told(self, arm: Arm, seed: int, passes: str, **more: Any) -> Found:
        loss, parameters = self._measured(passes, seed)
        whole, _ = self._measured("", seed)
        return Found(arm.name, seed, passes, parameters, loss, whole, **more)

    def _measured(self, passes: str, seed: int) -> tuple[float, int]:
        """Bits a token of what passes make of the teacher on the calibration text of a seed, and its parameters."""
        import torch

        text = Sampling(tokens=TOKENS, sequence=SEQUENCE, seed=seed).text(self.teacher, self._weights.graph)
        context = Context(scores=load_scores(self.scores, self._weights.graph))
        graph, taken = apply(self._weights.graph, Pipeline(tuple(parse_passes(passes))), context)
        weights, total, count = taken.apply(self._held), 0.0, 0
        with torch.no_grad():
            for batch in text:
                logits = execute(graph, weights, batch.inputs, outputs=("logits",))["logits"]
                loss, here = next_token_loss(logits, batch)
                total, count = total + float(loss), count + here
        return total / count / math.log(2), graph.cost().params.total

    @cached_property
    def _weights(self) -> Any:
        from archc.hub.weights import weights_of

        return weights_of(self.teacher)

    @cached_property
    def _held(self) -> Mapping[str, Any]:
        return in_memory(self._weights, "float32")


# -- search files ------------------------------------------------------------------------------------------------------


def half(graph: Graph) -> int:
    """Half of a model's parameters."""
    return int(graph.cost().params.total) // 2


def budget(graph: Graph) -> int:
    """What every model of the comparison may have: exactly the parameters of the uniform one."""
    passes = UNIFORM.replace("{half}", str(half(graph))).replace("}", ", by=first}")
    return int(apply(graph, Pipeline(tuple(parse_passes(passes))))[0].cost().params.total)


def search_of(
    search: str, seed: int, graph: Graph, *, base: Path, scores: Path, evaluations: int = EVALUATIONS
) -> dict[str, Any]:
    """A search file, as data. `mip-drop` is `mip` with layers that may go."""
    said = {
        "archc_search": 1,
        "name": f"{search}-{seed}",
        "base": str(base.resolve()),
        "importance": str(scores.resolve()),
        "budgets": [f"params.total <= {budget(graph)}"],
    }
    text = {"tokens": TOKENS, "sequence": SEQUENCE, "seed": seed}
    if not search.startswith(MIP):
        space = {f"{LAYERS}.{i}.{kind}.{role}": values for i, kind, role, values in _sizes(graph)}
        rungs = {"rungs": [{"zero_shot": {**text, "keep": 1}}], "objectives": ["minimize zero_shot"]}
        return {**said, "space": space, **rungs, "sampler": search, "trials": evaluations, "seed": seed}
    library = {f"{LAYERS}.{i}": _variants(kind, role, values, search) for i, kind, role, values in _sizes(graph)}
    left = evaluations - variants({"library": library})
    if left < 1:
        raise ArchcError(f"{search}: the library alone takes {evaluations - left} of {evaluations} evaluations")
    solutions = -(-left // 3)
    # Three layers apart, so that no solution is a neighbour of the best, which the local search would count twice.
    options = {"metric": "loss", "solutions": solutions, "distance": 3, "evaluations": left - solutions}
    return {**said, "library": library, "calibration": text, "sampler": {MIP: options}}


def _sizes(graph: Graph) -> Iterator[tuple[int, str, str, list[int]]]:
    """Of each layer: its position, its kind, what of it is varied, and the values, the teacher's the last."""
    for i, block in enumerate(graph.blocks[LAYERS]):
        kind = graph.node(f"{block}.mixer").op.kind
        role, shares = SHARES[kind]
        ((dim, each),) = dims_of(graph, role, kind, (i,)).values()
        yield i, kind, role, [int(dim.size * each * Fraction(share)) for share in shares]


def _variants(kind: str, role: str, values: Sequence[int], search: str) -> list[Any]:
    """The variants of a layer: the same sizes as the samplers have, or the layer may go too."""
    left_out = int(values[-1] * Fraction(_LEFT_OUT[kind])) if search == MIP_DROP and kind in _LEFT_OUT else None
    smaller = [value for value in values[:-1] if value != left_out]
    return ["keep", {"prune": {"dim": role, "to": smaller}}, *(["drop"] if search == MIP_DROP else [])]


def variants(asked: Mapping[str, Any]) -> int:
    """How many variants of a search file are measured alone: all of a library but the layers as they are."""
    options = [one for listed in asked.get("library", {}).values() for one in listed if one != "keep"]
    return sum(1 if isinstance(one, str) else len(one["prune"]["to"]) for one in options)


# -- what they have found ----------------------------------------------------------------------------------------------


def told(comparison: Comparison, found: Iterable[Found]) -> Iterator[str]:
    """The table of what the searches found, before any of it was trained."""
    by_arm = {arm.name: [f for f in found if f.arm == arm.name] for arm in comparison.arms}
    yield f"None has more parameters than the first. A search may measure {EVALUATIONS} models on {TOKENS:,} tokens"
    yield "of text that the teacher has learnt, drawn by its seed; those that MIP measures first have one layer"
    yield "replaced, and the second MIP knows them. Bits a byte above the teacher's on that text, as found:"
    yield ""
    yield "| | parameters | evaluations | of one layer | distinct | above the teacher | spread (SD) | best | seconds |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, runs in by_arm.items():
        if runs:
            rises = [run.loss - run.teacher for run in runs]
            spread = f"{statistics.stdev(rises):.4f}" if len(rises) > 1 else "-"
            size = _range([f"{run.parameters / 1e6:.3f}" for run in runs])
            counts = [_range([str(getattr(r, part)) for r in runs]) for part in ("evaluations", "alone", "distinct")]
            cells = counts if runs[0].evaluations else ["-"] * 3
            seconds = f"{statistics.fmean(run.seconds for run in runs):.0f}" if runs[0].evaluations else "-"
            yield (
                f"| {name} | {size}M | {' | '.join(cells)} | {statistics.fmean(rises):+.4f} | {spread} |"
                f" {min(rises):+.4f} | {seconds} |"
            )


def _range(texts: Sequence[str]) -> str:
    return "-".join(dict.fromkeys((min(texts), max(texts))))
