"""How long one call of an op takes on a hardware profile: a roofline, as an expression.

    time = max(products / rate, bytes / bandwidth) + all-reduce

On a machine that `archc profile` has measured, a kind of op has a law of its own instead: an overhead, more of it for
each constant table, and seconds for each FLOP and byte.

Several devices work together on every call (tensor parallel): rates and bandwidth are theirs together, and an op that
sums over a dim of its own, which they share out, adds their results up. That is one all-reduce of its output, a
reduce-scatter and an all-gather: 2 (n-1)/n of the bytes over each device's link, and twice the link's latency.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archc.ir.cost_op import FORMAT_CLASSES, OpCost, bytes_sym
from archc.ir.expr import Expr, Num, Sym, maximum, total
from archc.ir.formats import FORMATS
from archc.ir.hardware import HardwareProfile, OpTiming
from archc.ir.op import BATCH_SYM, TOKENS_SYM

BANDWIDTH = Sym("bandwidth")
TIMED = ("weight_flops", "value_flops", "weights_moved", "state_moved", "activations_moved", "tables")
LINK_S_PER_BYTE, LINK_LATENCY = Sym("link_s_per_byte"), Sym("link_latency_s")


def memory_s(cost: OpCost) -> Expr:
    """Seconds to move what one call of an op moves."""
    return cost.bytes_moved / BANDWIDTH


def reduce_s(cost: OpCost) -> Expr:
    """Seconds in which several devices add up the output of one call."""
    if not cost.reduces:
        return Num(0)
    moved = BATCH_SYM * TOKENS_SYM * cost.output * bytes_sym("activations")
    return moved * LINK_S_PER_BYTE + LINK_LATENCY


def roofline_s(cost: OpCost) -> Expr:
    """Seconds of one call of an op by what bounds it."""
    return maximum(cost.compute_s, memory_s(cost)) + reduce_s(cost)


def measured_s(cost: OpCost, timing: OpTiming) -> Expr:
    """Seconds of one call of an op by a measured law."""
    return total(time_parts(cost, timing).values())


def time_parts(cost: OpCost, timing: OpTiming | None = None) -> dict[str, Expr]:
    """What a call's time is made of, or bounded by: compute, memory and (measured) overhead."""
    if timing is None:
        return {"compute": cost.compute_s, "memory": memory_s(cost)}
    each = {name: getattr(timing, name) * per_call(cost, name) for name in TIMED}
    return {
        "overhead": timing.overhead_s + each["tables"],
        "compute": total(part for name, part in each.items() if name.endswith("flops")),
        "memory": total(part for name, part in each.items() if name.endswith("moved")),
    }


def per_call(cost: OpCost, name: str) -> Expr:
    """What one call on the whole batch does of one of `TIMED`: FLOPs, bytes moved, or tables applied."""
    each: Expr = getattr(cost, name)
    return BATCH_SYM * each if name.endswith("flops") else each


def call_s(cost: OpCost, timing: OpTiming | None = None) -> Expr:
    """Seconds of one call of an op: by its measured law if there is one, else by the roofline."""
    return roofline_s(cost) if timing is None else measured_s(cost, timing)


def hardware_env(profile: HardwareProfile, formats: Mapping[str, str]) -> dict[str, Any]:
    """What the symbols of a call's time stand for on a profile, by format class and by format."""
    n = profile.devices
    rates = {f"rate.{name}": profile.flops_per_s(name) * n for name in FORMATS}
    shared = 2 * (n - 1) / n
    return {
        **rates,
        **{f"rate.{name}": rates[f"rate.{formats[name]}"] for name in FORMAT_CLASSES},
        BANDWIDTH.name: profile.bytes_per_s * n,
        LINK_S_PER_BYTE.name: shared / profile.link_bytes_s if n > 1 else 0.0,
        LINK_LATENCY.name: 2 * profile.link_latency_s if n > 1 else 0.0,
    }
