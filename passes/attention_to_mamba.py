"""attention-to-mamba: attention by Mamba-2 with its projections."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from archc.ir import weight_expr as w
from archc.ir.graph import Graph, Node
from archc.ir.op import DimMaker, Param
from archc.ir.ops.attention import Attention
from archc.ir.ops.mamba2 import Mamba2
from archc.ir.weightmap import WeightMap
from archc.passes.base import Context, Pass, register_pass
from archc.passes.places import nodes_of
from archc.passes.replacing import replaced, scores_without, storage_type
from archc.passes.scores import Scores


@register_pass("attention-to-mamba")
class AttentionToMamba(Pass):
    """Mamba-2 in the place of the attention at `layers`: q becomes C, k B, v x and o out_proj, since attention without
    its softmax is a scan with these ("The Mamba in the Llama", Wang et al. 2024, arXiv 2408.15237, section 3).

    A head of Mamba-2 for each query head. A group for each of them too, unless `n_groups` says fewer (a multiple of
    the KV heads): then C is the mean of its heads' q. B and x are k and v of the head's KV head. `d_state` is
    `head_dim` when left out; fewer are its first channels, more begin as B drawn and C zero. z, dt, A, D, the
    convolution and the norm start anew, drawn from `seed`. Rotary embedding, window, sinks and norms of queries and
    keys have no counterpart and go.

    Approximate: local distillation (`block_kd`) is to follow. `dtype` is the storage type of the new block's weights,
    by default that of the attention's.
    """

    layers: tuple[int, ...] = ()
    d_state: int | None = None
    n_groups: int | None = None
    conv_kernel: int = 4
    chunk: int = 128
    seed: int = 0
    dtype: str = ""

    approximate = True
    Examples = ({}, {"layers": (3,), "d_state": 16, "n_groups": 2, "chunk": 64}, {"layers": (8,), "d_state": 40})

    @property
    def breaks(self) -> frozenset[str]:
        """The order of units of Mamba-2: those of the new blocks stand in none."""
        roles = ("n_heads", "heads_per_group", "n_groups", "head_dim", "d_state")
        return frozenset(f"sorted:{role}" for role in roles)

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The graph with Mamba-2. Raises PassError for layers without attention, and for groups that do not fit."""
        ops, made = {}, {}
        for node in self._nodes(graph):
            op: Any = node.op
            ops[node.id] = self._op(node, op)
            dtype = storage_type(graph, node, ctx, self.dtype)
            taken = _Taken(self.seed, dtype, graph.scopes[node.id], op, ops[node.id])
            made[node.id] = dict(taken.params())
        return replaced(graph, ops, made)

    def scores_after(self, graph: Graph, ctx: Context) -> Scores | None:
        """Without those of the blocks that are others now."""
        return scores_without(ctx.scores, frozenset(n.id for n in self._nodes(graph)))

    def _nodes(self, graph: Graph) -> tuple[Node, ...]:
        return tuple(n for n in nodes_of(self, graph, Attention, self.layers) if not n.owner)

    def _op(self, node: Node, op: Attention) -> Mamba2:
        heads, kv = op.heads.size, op.n_kv_heads.size
        groups = heads if self.n_groups is None else self.n_groups
        if groups < 1 or heads % groups or groups % kv:
            raise self.error(f"`{node.id}`: `n_groups` must divide {heads} heads and be a multiple of {kv} KV heads")
        if op.mask != "causal":
            raise self.error(f"`{node.id}` is {op.mask}: Mamba-2 sees what is past")
        fields = Mamba2.Fields(
            n_heads=heads,
            head_dim=op.head_dim.size,
            d_state=op.head_dim.size if self.d_state is None else self.d_state,
            n_groups=groups,
            conv_kernel=self.conv_kernel,
            chunk=self.chunk,
            bias=op.has_qkv_bias or op.has_o_bias,
            init_std=op.init_std,
        )
        return Mamba2.make(fields, DimMaker(node.id, {"d_model": op.d_model}))


@dataclasses.dataclass(frozen=True)
class _Taken:
    """Parameters of one block over those of the attention that it replaces."""

    seed: int
    dtype: str
    scope: str
    old: Attention
    new: Mamba2

    def params(self) -> Iterator[tuple[str, w.WeightExpr]]:
        """Every parameter of the new block by name."""
        for param in self.new.params():
            match param.name:
                case "in_proj":
                    yield param.name, self.rows(param, "proj", (self.new.d_model.size,))
                case "in_proj_bias":
                    yield param.name, self.rows(param, "bias", ()) if self.old.has_qkv_bias else self.fresh(param)
                case "out_proj":
                    yield param.name, w.Cast(w.Old(f"{self.scope}.o_proj"), self.dtype)
                case "out_proj_bias" if self.old.has_o_bias:
                    yield param.name, w.Cast(w.Old(f"{self.scope}.o_bias"), self.dtype)
                case _:
                    yield param.name, self.fresh(param)

    def fresh(self, param: Param, part: str = "", shape: tuple[int, ...] | None = None) -> w.WeightExpr:
        """A parameter, or a part of one, as a new model has it."""
        key = f"{self.scope}.{param.name}" + (f".{part}" if part else "")
        rule, args = param.init.rule, param.init.args
        return w.Init(self.seed, rule, param.shape if shape is None else shape, self.dtype, args, key)

    def rows(self, param: Param, kind: str, rest: tuple[int, ...]) -> w.WeightExpr:
        """in_proj's rows, or their biases: z | x | B | C | dt, each position of shape `rest`."""
        heads, inner = self.new.heads.size, self.new.d_inner.size
        x = self._heads(f"v_{kind}", self._kv_of(heads))
        b = self._state(param, "B", self._heads(f"k_{kind}", self._kv_of(self.new.n_groups.size)), rest)
        c = self._state(param, "C", self._mean_queries(f"q_{kind}"), rest)
        z, dt = (self.fresh(param, part, (size, *rest)) for part, size in (("z", inner), ("dt", heads)))
        return w.Concat((z, x, b, c, dt), 0)

    def _kv_of(self, units: int) -> np.ndarray[Any, Any]:
        """The KV head of each of so many heads or groups."""
        return np.repeat(np.arange(self.old.n_kv_heads.size), units // self.old.n_kv_heads.size)

    def _heads(self, name: str, heads: np.ndarray[Any, Any]) -> w.WeightExpr:
        """The rows of these heads, one after the other."""
        width = self.old.head_dim.size
        rows = (heads[:, None] * width + np.arange(width)).ravel()
        return w.Cast(w.Take(w.Old(f"{self.scope}.{name}"), 0, rows), self.dtype)

    def _mean_queries(self, name: str) -> w.WeightExpr:
        """The mean over the heads of each group."""
        members = np.arange(self.new.heads.size).reshape(self.new.n_groups.size, -1)
        parts = tuple(self._heads(name, members[:, i]) for i in range(members.shape[1]))
        return parts[0] if len(parts) == 1 else w.Linear(parts, (1 / len(parts),) * len(parts))

    def _state(self, param: Param, part: str, x: w.WeightExpr, rest: tuple[int, ...]) -> w.WeightExpr:
        """Rows [groups * head_dim, *rest] with `d_state` channels a group instead of head_dim."""
        groups, had, size = self.new.n_groups.size, self.old.head_dim.size, self.new.d_state.size
        if size == had:
            return x
        if size < had:
            return w.Take(x, 0, (np.arange(groups)[:, None] * had + np.arange(size)).ravel())
        shape = (groups, size - had, *rest)
        more = self.fresh(param, part, shape) if part == "B" else w.Const(0.0, shape, self.dtype)
        grown = w.Concat((w.Reshape(x, (groups, had, *rest)), more), 1)
        return w.Reshape(grown, (groups * size, *rest))
