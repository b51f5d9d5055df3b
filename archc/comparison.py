"""Differences by name: what `archc.diff` and `archc diff` do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.ir.workload import PREFILL_CHUNK
from archc.resolve import load
from archc.sheet import Hardware, Model, to_count, to_profile
from archc.units import parse_count

if TYPE_CHECKING:
    from archc.ir.diff import Diff


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
) -> Diff:
    """What differs between two models (graphs, or anything that `archc.load` takes), and what that costs or saves.

    The options are those of `archc.cost`; times need `hardware`.

    >>> found = diff("llama-3.1-8b", "llama-3.1-minitron-4b-width")
    >>> [change.words for change in found.changes]
    ['d_model 4096 -> 3072 everywhere', 'd_ff 14336 -> 9216 in 32 of 32 mlp layers']
    >>> [stage.added["params"] for stage in found.effect.stages]
    [-2007565312, -1509949440]

    Raises UnknownName for a model, hardware or format, and UnsupportedError for a workload that does not add up.
    """
    from archc.ir.diff import diff as diff_graphs

    return diff_graphs(
        load(a),
        load(b),
        to_profile(hardware),
        context=to_count(context),
        batch=to_count(batch),
        input=to_count(input),
        output=to_count(output),
        format=format,
        kv_format=kv_format,
        ssm_format=ssm_format,
        conv_format=conv_format,
        prefill_chunk=parse_count(prefill_chunk),
        mtp=mtp,
    )
