"""Differences by name: what `archc.diff` and `archc diff` do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from archc.ir.workload import PREFILL_CHUNK
from archc.resolve import load
from archc.sheet import Hardware, Model, to_count, to_profile

if TYPE_CHECKING:
    from archc.hub.compare import WeightsDiff
    from archc.hub.weights import Weights
    from archc.ir.diff import Diff
    from archc.ir.graph import Graph


def diff(
    a: Model,
    b: Model,
    *,
    hardware: Hardware | None = None,
    context: int | str | None = None,
    batch: int | str | None = None,
    input: int | str | None = None,
    output: int | str | None = None,
    format: str | None = None,
    kv_format: str | None = None,
    ssm_format: str | None = None,
    conv_format: str | None = None,
    prefill_chunk: int | str = PREFILL_CHUNK,
    mtp: bool = True,
    evidence: Mapping[str, str] | None = None,
) -> Diff:
    """What differs between two models (graphs, or anything that `archc.load` takes), and what that costs or saves.

    The options are those of `archc.cost`; times need `hardware`. `evidence` has blocks of A, by id, that are certain to
    be the blocks of B that it gives (`Weighed.evidence`).

    >>> found = diff("llama-3.1-8b", "llama-3.1-minitron-4b-width")
    >>> [change.words for change in found.changes]
    ['d_model 4096 -> 3072 everywhere', 'd_ff 14336 -> 9216 in 32 of 32 mlp layers']
    >>> [stage.added["params"] for stage in found.effect.stages]
    [-2007565312, -1509949440]

    Raises UnknownName for a model, hardware or format, and UnsupportedError for a workload that does not add up.
    """
    from archc.ir.diff import diff as diff_graphs

    return diff_graphs(
        *_told_apart(a, b),
        to_profile(hardware),
        context=to_count("context", context),
        batch=to_count("batch", batch),
        input=to_count("input", input),
        output=to_count("output", output),
        format=format,
        kv_format=kv_format,
        ssm_format=ssm_format,
        conv_format=conv_format,
        prefill_chunk=to_count("prefill_chunk", prefill_chunk) or PREFILL_CHUNK,
        mtp=mtp,
        evidence=evidence,
    )


def _told_apart(a: Model, b: Model) -> tuple[Graph, Graph]:
    """Both graphs; where their names are one and the same, called by where they come from."""
    ours, theirs = load(a), load(b)
    given = [str(model) for model in (a, b) if isinstance(model, str | Path)]
    if ours.name == theirs.name and len(set(given)) == 2:
        return replace(ours, name=given[0]), replace(theirs, name=given[1])
    return ours, theirs


@dataclass(frozen=True)
class Weighed:
    """The weights of two models, to be compared once their graphs are."""

    a: Weights
    b: Weights

    def evidence(self) -> Mapping[str, str] | None:
        """Blocks that are equal weight by weight; not asked for where the graphs' lineage tells."""
        from archc.hub.compare import evidence

        return None if self.a.graph.ancestry & self.b.graph.ancestry else evidence(self.a, self.b)

    def compared(self, found: Diff) -> WeightsDiff:
        """What became of every parameter, the graphs being paired as `found` has them. Shows its progress."""
        from archc.hub.compare import compare_weights

        pairs = {s.b.id: None if s.a is None else s.a.id for s in found.paired.slots if s.b is not None}
        return compare_weights(self.a, self.b, pairs)


def without_weights(*models: str) -> tuple[str, ...]:
    """Those of some models that have no weights."""
    return tuple(model for model in models if not (Path(model).is_dir() and any(Path(model).glob("*.safetensors"))))


def weighed(a: Path | str, b: Path | str) -> Weighed:
    """The weights of two models. Raises WeightError where there are none, or for files that are wrong."""
    from archc.hub.weights import weights_of

    return Weighed(weights_of(a), weights_of(b))
