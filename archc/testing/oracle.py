"""The oracle of selections: the parent itself, executed with the removed units zeroed.

It shares nothing with slicing but the expansion of a Selection into an axis. Units are masked where the maths declares
them; rows of projections that make removed channels of queries and keys are zeroed; norms take their statistics over
the kept units, which are those whose weight is a number: the weights of the others are NaN here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from archc.ir.execute import execute
from archc.ir.graph import Graph, Node
from archc.ir.op import Param
from archc.ir.selection import Selections

NORMS = frozenset({"norm", "q_norm", "k_norm", "embed_norm", "hidden_norm"})  # of ops that have more than a norm
NORM_OPS = frozenset({"rms_norm", "layer_norm"})
HEADS = frozenset({"q_proj", "q_bias", "k_proj", "k_bias"})


def with_units_zeroed(
    graph: Graph, weights: Mapping[str, Tensor], inputs: Mapping[str, Tensor], chosen: Selections, *, kept_norms: bool
) -> dict[str, Tensor]:
    """Outputs of the parent, fp64, without the units that are not chosen.

    `kept_norms` takes every norm's statistics over the kept units of its group; else over all of them, zeros too.
    """
    given = {key: w.clone() for key, w in weights.items()}
    for node, param in graph.params():
        removed = _removed(node, param, chosen)
        key = f"{graph.scopes[node.id]}.{param.name}"
        if param.name in HEADS and node.op.dims["head_dim"].name in chosen:
            given[key][removed] = 0.0
        if kept_norms and (param.name in NORMS or node.op.kind in NORM_OPS):
            given[key][removed] = torch.nan
    masks = {s.dim.name: _mask(s.dim.name, chosen) for s in chosen.values()}
    with ExitStack() as stack:
        if kept_norms:
            for name, norm in KEPT_NORMS.items():
                stack.enter_context(patch(f"archc.kernels.reference.{name}", norm))
        return execute(graph, given, inputs, masks=masks)


def _removed(node: Node, param: Param, chosen: Selections) -> Tensor:
    """Positions of the parameter's first axis that no kept unit has."""
    axis = param.axes[0]
    rest = np.setdiff1d(np.arange(axis.size), chosen.expand([axis])) if chosen.touches(axis) else np.arange(0)
    return torch.from_numpy(rest)


def _mask(name: str, chosen: Selections) -> Tensor:
    """Which units are kept, `[size]` or `[rows, size]`."""
    dim, index = chosen[name].dim, chosen[name].index
    mask = torch.zeros(max(dim.rows, 1), dim.size, dtype=torch.bool)
    rows = chosen.expand(dim.outer) if dim.outer else np.zeros(1, dtype=np.int64)
    for row, kept in zip(rows, index, strict=True):
        mask[int(row), kept.tolist()] = True
    return mask if dim.outer else mask[0]


# -- norms over the units whose weight is a number ---------------------------------------------------------------------


def _kept(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x with the other units zero, the weight likewise, and how many units there are."""
    there = ~weight.isnan()
    return torch.where(there, x, 0.0), weight.nan_to_num(), there.sum(-1, keepdim=True).clamp_min(1)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x, weight, count = _kept(x, weight)
    return weight * x / (x.square().sum(-1, keepdim=True) / count + eps).sqrt()


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    there = ~weight.isnan()
    x, weight, count = _kept(x, weight)
    centred = torch.where(there, x - x.sum(-1, keepdim=True) / count, 0.0)
    return weight * centred / (centred.square().sum(-1, keepdim=True) / count + eps).sqrt() + bias.nan_to_num()


def _layer_norm_1p(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return _layer_norm(x, 1 + weight, bias, eps)


def _gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor, eps: float, groups: int) -> Tensor:
    gated, gains = (torch.unflatten(x, -1, (groups, -1)) for x in (y * F.silu(z), weight))
    return _rms_norm(gated, gains, eps).flatten(-2)


KEPT_NORMS = {
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "layer_norm_1p": _layer_norm_1p,
    "gated_rms_norm": _gated_rms_norm,
}


def selectable(graph: Graph) -> Iterator[str]:
    """Dims of which units may be chosen."""
    return (name for name, dim in graph.dims.items() if dim.order != "fixed" and dim.size > 1)
