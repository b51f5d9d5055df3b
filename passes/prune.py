"""prune: fewer units of any dim of any op (width pruning)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from archc.ir.dims import Dim
from archc.ir.graph import Graph
from archc.ir.nesting import finer, nested, shared
from archc.ir.selection import Selection, Selections
from archc.ir.slicing import select
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError, PassError
from archc.passes.base import Context, Pass, register_pass
from archc.passes.ranking import check_rules, dims_of, free_roles, handed_on, kept, order_of
from archc.passes.scores import Scores


@register_pass("prune")
class Prune(Pass):
    """Keep `to` units of a dim, or the share `keep`, the most important ones `by` an estimator, in their order.

    `dim` is a role: d_model, d_ff, queries_per_kv, n_kv_heads, head_dim, heads_per_group, d_state, n_groups, experts,
    shared_d_ff, latent, or whatever another op declares; `n_heads` counts heads and takes them equally from every
    group. What is kept of each dim is a `multiple_of`. `kind` and `layers` (positions) say of which ops. With
    `rescale_norm` RMS norms give what they gave where the others are zero; else they take their statistics over the
    units that are left. `per_head`: of channels that all heads share (KV heads, in attention), each keeps its own.

    Minitron (Muralidharan et al. 2024), Minitron-SSM (Taghibakhshi et al. 2025, section 3): heads of Mamba-2 are
    ranked within their group. Raises PassError for a size that is none, that breaks a rule of the op, or for a dim
    whose units are not free.
    """

    dim: str
    to: int | None = None
    keep: float | None = None
    multiple_of: int = 1
    by: str = "activation"
    kind: str = ""
    layers: tuple[int, ...] = ()
    per_head: bool = False
    rescale_norm: bool = False
    seed: int = 0

    Examples = (
        {"dim": "d_model", "to": 96, "by": "first"},
        {"dim": "d_ff", "keep": 0.5, "by": "random", "kind": "moe", "seed": 3},
        {"dim": "n_heads", "to": 4, "by": "first", "kind": "mamba2", "layers": (0,)},
        {"dim": "head_dim", "keep": 0.5, "by": "random", "kind": "attention"},
        {"dim": "head_dim", "to": 48, "by": "random", "kind": "mamba2", "per_head": True},
        {"dim": "d_state", "to": 16, "by": "random", "rescale_norm": True},
    )

    @classmethod
    def everywhere(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        for kind, role in free_roles(graph):
            yield {"dim": role, "kind": kind, "keep": 0.5, "by": "random"}

    @classmethod
    def idle(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        for kind, role in free_roles(graph):
            yield {"dim": role, "kind": kind, "keep": 1.0, "by": "random"}

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The narrower graph, and its weights taken from the old ones."""
        try:
            apart = self._apart(graph)
            made, weights = select(nested(graph, apart), self.chosen(graph, ctx), as_zeroed=self.rescale_norm)
            made = shared(made, apart)
            check_rules(graph, made)
        except ArchcError as error:
            raise self.error(str(error)) from None
        return made, weights

    def scores_after(self, graph: Graph, ctx: Context) -> Scores | None:
        """Those of the units that are kept."""
        return ctx.scores and handed_on(graph, ctx, self.chosen(graph, ctx)).scores

    def chosen(self, graph: Graph, ctx: Context) -> Selections:
        """What is kept of every dim that is meant. Raises ArchcError, without the name of the pass."""
        if (self.to is None) == (self.keep is None):
            raise PassError("give one of `to` (units) and `keep` (a share of them)")
        dims = dims_of(nested(graph, self._apart(graph)), self.dim, self.kind, self.layers)
        return Selections([self._kept(dim, each, ctx) for dim, each in dims.values()])

    def _apart(self, graph: Graph) -> Mapping[str, Dim]:
        """The dims of which heads keep units of their own. Raises PassError where they cannot."""
        if not self.per_head:
            return {}
        dims = finer(graph)
        cannot = [name for name in dims_of(graph, self.dim, self.kind, self.layers) if name not in dims]
        if cannot:
            raise PassError(f"`{cannot[0]}` is not shared by heads that could each keep units of their own")
        return dims

    def _kept(self, dim: Dim, each: int, ctx: Context) -> Selection:
        order = order_of(dim, ctx, self.by, self.seed)
        per_unit = dim.size // order.shape[1]  # two channels a rotary pair
        count = self._size(dim, each)
        if count % per_unit:
            raise PassError(f"`{dim.name}` is kept in whole rotary pairs: got {count}")
        return kept(dim, np.sort(order[:, : count // per_unit], axis=1))

    def _size(self, dim: Dim, each: int) -> int:
        """How many units of the dim are kept, of which there are `each` for a unit of the role."""
        had = dim.size * each
        step = math.lcm(dim.multiple_of, max(self.multiple_of, 1), 2 if dim.order == "pairs" else 1)
        if self.keep is not None:
            if not 0 < self.keep <= 1:
                raise PassError(f"`keep` is a share above 0 and up to 1: got {self.keep:g}")
            return min(max(round(self.keep * dim.size / step), 1) * step, dim.size)
        wanted = self.to or 0
        if not 0 < wanted <= had:
            raise PassError(f"`{dim.name}` has {had} `{self.dim}`: `to` is 1 to {had}, got {wanted}")
        if wanted % each:
            raise PassError(f"`{self.dim}` are taken equally from {each} groups: `to` is a multiple, got {wanted}")
        return wanted // each
