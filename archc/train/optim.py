"""Optimisers, chosen in a recipe by name."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt, Lt
from typing_extensions import Doc

from archc.train.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
class OptimizerChoice:
    """Base of every optimiser of a recipe: its options, and what it makes of parameters."""

    name: ClassVar[str]
    lr: float
    clip: float | None

    def build(self, params: Iterable[nn.Parameter], others: Iterable[nn.Parameter] = ()) -> Optimizer:
        """The optimiser of a model's parameters, and of others that may not lie in shards as those do."""
        raise NotImplementedError

    def empty_state(self, param: nn.Parameter) -> Mapping[str, Tensor]:
        """The state that the optimiser has of a parameter before its first step: what a checkpoint is read into."""
        raise NotImplementedError


optimizer: Registry[OptimizerChoice] = Registry("optimizer")


@optimizer("adamw")
class AdamW(OptimizerChoice):
    """AdamW (Loshchilov & Hutter 2019) that decays matrices and leaves vectors (norms, biases, A_log, D) alone."""

    lr: Annotated[float, Gt(0), Doc("the rate at its highest")] = 3e-4
    weight_decay: Annotated[float, Ge(0), Doc("of matrices")] = 0.1
    betas: Annotated[tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]], Doc("of both moments")] = (
        0.9,
        0.95,
    )
    eps: Annotated[float, Gt(0), Doc("added to the root of the second moment")] = 1e-8
    clip: Annotated[Annotated[float, Gt(0)] | None, Doc("highest norm of the gradient; none: as it is")] = 1.0

    def build(self, params: Iterable[nn.Parameter], others: Iterable[nn.Parameter] = ()) -> Optimizer:
        """The optimiser, in groups by decay."""
        import torch

        groups = []
        for some in (params, others):
            trained = [p for p in some if p.requires_grad]
            groups.append({"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.weight_decay})
            groups.append({"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0})
        kept = [group for group in groups if group["params"]]
        return torch.optim.AdamW(kept, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def empty_state(self, param: nn.Parameter) -> Mapping[str, Tensor]:
        """Both moments, and the number of steps."""
        import torch

        moments = {name: torch.zeros_like(param, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
        return {"step": torch.zeros((), dtype=torch.float32, device=param.device), **moments}
