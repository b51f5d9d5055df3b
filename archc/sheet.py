"""Costs by name: what `archc.cost` and `archc estimate` do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from archc.hardware import load_hardware
from archc.ir.cost import cost_sheet
from archc.ir.graph import Graph
from archc.ir.hardware import HardwareProfile
from archc.ir.workload import PREFILL_CHUNK
from archc.kernels.errors import UnitError
from archc.resolve import load
from archc.units import parse_count, parse_tokens

if TYPE_CHECKING:
    from archc.ir.cost_sheet import CostSheet
    from archc.ir.cost_train import Recompute, TrainSheet

Model = Graph | str | Path
Hardware = HardwareProfile | str


def cost(
    model: Model,
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
) -> CostSheet:
    """What a model (a graph, or anything that `archc.load` takes) costs under a workload.

    Counts may be written as people do (`128k`). Latency and throughput need `hardware`: a name (`a10g`, `4xh100`), a
    profile file or a profile.

    >>> cost("nemotron-nano-9b-v2", context="128k", batch=1, hardware="a10g", kv_format="fp8").memory.kv_bytes
    1073741824

    Raises UnknownName for a model, hardware or format, and UnsupportedError for a workload that does not add up.
    """
    return cost_sheet(
        load(model),
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
    )


def training_cost(
    model: Model,
    *,
    hardware: Hardware,
    tokens: int | str,
    seq: int | str = 8192,
    batch_tokens: int | str = "4M",
    recompute: Recompute = "block",
    format: str = "bf16",
) -> TrainSheet:
    """What it costs to train a model on so many tokens (`25T`, decimal) on hardware such as `64xh100`."""
    from archc.ir.cost_train import train_sheet

    return train_sheet(
        load(model),
        load_hardware(hardware) if isinstance(hardware, str) else hardware,
        tokens=parse_tokens(tokens),
        seq=parse_count(seq),
        batch_tokens=parse_count(batch_tokens),
        recompute=recompute,
        format=format,
    )


def to_profile(hardware: Hardware | None) -> HardwareProfile | None:
    """The profile that a name, a file or a profile stands for."""
    if hardware is None or isinstance(hardware, HardwareProfile):
        return hardware
    return load_hardware(str(hardware))


def to_count(name: str, value: int | str | None) -> int | None:
    """A count as people write it; an error says which it is."""
    if value is None:
        return None
    try:
        return parse_count(value)
    except UnitError as error:
        raise UnitError(f"`{name}`: {error}") from None
