"""Parameters and optimiser state as torch.distributed.checkpoint takes them, whatever the mesh.

Everything is named and laid out by piece (`archc.train.parallel.plan.Piece`) as a plain DTensor of the whole, so that
what four processes write, two or one read. The tensors share the memory of the model's: they are written from and read
into.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.optim import Optimizer

from archc.ir.graph import Graph
from archc.train.parallel.model import ParallelModel
from archc.train.parallel.plan import Piece, plan


def state_dict(
    model: nn.Module, optimizer: Optimizer | None = None, *, graph: Graph | None = None, prefix: str = "model."
) -> dict[str, Tensor]:
    """Every tensor of a model, as `<prefix><piece>`, and of its optimiser, as `optimizer.<prefix><piece>.<name>`.

    `model` is a ParallelModel, or the emitted model of `graph` as one process has it. An optimiser that has not yet
    stepped has no state: give it one (`OptimizerChoice.empty_state`) before a checkpoint is read into it.
    """
    found: dict[str, Tensor] = {}
    for name, owner, view in _pieces(model, graph):
        found[f"{prefix}{name}"] = view(owner.detach())
        for key, value in (optimizer.state.get(owner, {}) if optimizer is not None else {}).items():
            whole = isinstance(value, Tensor) and value.shape == owner.shape
            found[f"optimizer.{prefix}{name}.{key}"] = view(value) if whole else value
    return found


def _pieces(model: nn.Module, graph: Graph | None) -> Iterator[tuple[str, Tensor, _View]]:
    """Name, parameter, and how a tensor laid out as the parameter is seen as that piece."""
    if isinstance(model, ParallelModel):
        model.forget_gathered()
        for name in model.pieces:
            yield name, model._tensor(name), _View(model, name)
        return
    if graph is None:
        raise TypeError("say whose graph the emitted model is of")
    for piece in plan(graph).pieces:
        scope, _, leaf = piece.key.rpartition(".")
        yield piece.name, getattr(model.get_submodule(scope), leaf), _View(model, piece.name, piece)


class _View:
    """A tensor laid out as a parameter, seen as one piece."""

    def __init__(self, model: nn.Module, name: str, piece: Piece | None = None) -> None:
        self.model, self.name, self.piece = model, name, piece

    def __call__(self, tensor: Tensor) -> Tensor:
        if isinstance(self.model, ParallelModel):
            return self.model.as_pieces(self.name, tensor)
        piece = self.piece
        if piece is None or not piece.part:
            return tensor
        return tensor.narrow(piece.axis, piece.start, piece.shape[piece.axis])
