"""Where the trained model lies, as the engine sees it: in one process, or cut over many (archc.train.parallel).

What a step needs of it is the same either way: which samples are this process's, sums over all of them, the norm of the
whole gradient, and the state under names that do not depend on the layout, so that what four processes wrote two or one
read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from archc.ir.graph import Graph

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.optim import Optimizer

    from archc.train.parallel.model import ParallelModel


class Placement(Protocol):
    """A model, and how it shares the work with other processes."""

    model: Any  # has the emitted interface
    first: bool  # whether this process is the one that writes and tells
    narrows: bool  # whether it casts weights for a narrower precision by itself
    data_group: ProcessGroup | None  # those that see other samples than this process

    def share(self, numbers: Sequence[int]) -> Sequence[int]:
        """Which of a step's samples are this process's."""

    def summed(self, values: Tensor) -> Tensor:
        """Values added up over the processes that share the samples."""

    def agreed(self, *values: float) -> list[float]:
        """The largest of each value that any process has."""

    def backward_follows(self, last: bool) -> None:
        """Told before each backward pass of a step; `last` says that no other follows."""

    def gradients_ready(self, others: Sequence[nn.Parameter]) -> None:
        """Told after the last one; `others` are parameters beside the model's."""

    def norm(self, others: Sequence[nn.Parameter]) -> Tensor:
        """The norm of the whole gradient."""

    def clip(self, others: Sequence[nn.Parameter], norm: Tensor, most: float) -> None:
        """Scale the gradient down to a norm of `most`."""

    def tensors(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """The model and its optimiser's state by name, as they lie."""

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight of the whole model by `<scope>.<param>`, in turn: all processes go through them together."""


class OneProcess:
    """The emitted model of `graph`, whole."""

    first, narrows = True, False

    def __init__(self, model: nn.Module, graph: Graph) -> None:
        self.data_group: ProcessGroup | None = None
        self.model: Any = model
        self.graph = graph

    def share(self, numbers: Sequence[int]) -> Sequence[int]:
        """All of them."""
        return numbers

    def summed(self, values: Tensor) -> Tensor:
        """As they are."""
        return values

    def agreed(self, *values: float) -> list[float]:
        """As they are."""
        return list(values)

    def backward_follows(self, last: bool) -> None:
        """Nothing to prepare."""

    def gradients_ready(self, others: Sequence[nn.Parameter]) -> None:
        """They are."""

    def norm(self, others: Sequence[nn.Parameter]) -> Tensor:
        """The norm of all gradients."""
        return nn.utils.get_total_norm([p.grad for p in self._all(others) if p.grad is not None])

    def clip(self, others: Sequence[nn.Parameter], norm: Tensor, most: float) -> None:
        """Scale all gradients."""
        nn.utils.clip_grads_with_norm_(self._all(others), most, norm)

    def tensors(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """Under the names that a model in parts has too."""
        from archc.train.parallel.state import state_dict

        return state_dict(self.model, optimizer, graph=self.graph)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Each as it lies."""
        state = self.model.state_dict()
        return ((key, state[key]) for key in self.graph.weight_shapes())

    def _all(self, others: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        return [*self.model.parameters(), *others]


class ManyProcesses:
    """This process's part of a model: every method is called by all of them at the same point."""

    narrows = True

    def __init__(self, model: ParallelModel) -> None:
        import torch.distributed as dist

        from archc.train.parallel.mesh import DP

        self.model: Any = model
        self.first = dist.get_rank() == 0
        self.data_group = model.mesh.group((DP,))
        self._copies, self._mine = model.mesh.size(DP), model.mesh.at[DP]

    def share(self, numbers: Sequence[int]) -> Sequence[int]:
        """Every so manieth."""
        return numbers[self._mine :: self._copies]

    def summed(self, values: Tensor) -> Tensor:
        """Over the copies of the model."""
        import torch.distributed as dist

        if self.data_group is not None:
            dist.all_reduce(values, group=self.data_group)
        return values

    def agreed(self, *values: float) -> list[float]:
        """Over all processes."""
        import torch.distributed as dist

        told = torch.tensor(values, dtype=torch.float64, device=next(self.model.parameters()).device)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return [float(value) for value in told.tolist()]

    def backward_follows(self, last: bool) -> None:
        """FSDP adds gradients up in the last one."""
        self.model.reduce_now(last)

    def gradients_ready(self, others: Sequence[nn.Parameter]) -> None:
        """Add up those that FSDP does not know."""
        from archc.train.parallel.clip import sum_gradients

        sum_gradients(self.model, others)

    def norm(self, others: Sequence[nn.Parameter]) -> Tensor:
        """Every shard counted once."""
        from archc.train.parallel.clip import gradient_norm

        return gradient_norm(self.model, others)

    def clip(self, others: Sequence[nn.Parameter], norm: Tensor, most: float) -> None:
        """Scale this process's shards."""
        from archc.train.parallel.clip import clip_gradients

        clip_gradients([*self.model.parameters(), *others], norm, most)

    def tensors(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """As plain DTensors of the whole."""
        from archc.train.parallel.state import state_dict

        return state_dict(self.model, optimizer)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Gathered one at a time."""
        found: Iterator[tuple[str, Tensor]] = self.model.full_parameters()
        return found
