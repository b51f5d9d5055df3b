"""A plan held to its word in one process: what every process would compute, in turn, added up as the plan says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from archc.ir.execute import OpScope
from archc.ir.graph import Graph
from archc.ir.op import Op
from archc.kernels.errors import UnsupportedError
from archc.testing.contracts import one_op_graph, random_inputs, random_weights
from archc.train.parallel.plan import EP, MODEL_AXES, TP, At, CutOp, Plan, plan

DEGREES = (1, 2, 3, 4, 6)


def legal_plans(graph: Graph) -> Iterator[Plan]:
    """The plans of every pair of small degrees that the graph allows, more than one process each."""
    for tp, ep in itertools.product(DEGREES, DEGREES):
        try:
            made = plan(graph, tp=tp, ep=ep)
        except UnsupportedError:
            continue
        if made.processes > 1:
            yield made


def places(made: Plan) -> Iterator[At]:
    """The coordinates of every process."""
    for ep, tp in itertools.product(range(made.ep), range(made.tp)):
        yield {EP: ep, TP: tp}


def assert_parts_add_up(op: Op) -> int:
    """Of an op alone, by every legal plan: outputs, gradients of inputs and of weights; returns how many plans."""
    plans = list(legal_plans(one_op_graph(op)))
    for made in plans:
        _assert_adds_up(op, made)
    return len(plans)


def _assert_adds_up(op: Op, made: Plan) -> None:
    weights, inputs = random_weights(made.graph), random_inputs(op, 5)
    wanted, wanted_grads = _run(op, made.graph, weights, inputs)
    (cut,) = made.ops
    total = torch.zeros_like(wanted)
    grads = {k: torch.zeros_like(w) for k, w in wanted_grads.items()}
    for at in places(made):
        if any(at[a] for a in MODEL_AXES if a not in cut.over):
            continue  # has what another has
        graph, weight_map = made.shard(at)
        mine = {k: _counted(cut, k, w, at) for k, w in weight_map.apply(weights).items()}
        y, found = _run(graph.node("op").op, graph, mine, inputs)
        total += y
        for key, grad in found.items():
            scattered = _scattered(made, at, key, grad, weights.get(key))
            grads[key] += scattered * _counts(cut, key, at)
    torch.testing.assert_close(total, wanted, msg=lambda m: f"{made}\n{m}")
    for key, grad in grads.items():
        largest = max(1.0, wanted_grads[key].abs().amax().item())  # a small entry is a difference of large ones
        assert torch.allclose(grad, wanted_grads[key], rtol=0, atol=1e-9 * largest), f"gradient of {key} by {made}"


def _counted(cut: CutOp, key: str, weight: Tensor, at: At) -> Tensor:
    """The weight as a process uses it: what is added once counts on the first of those that have it."""
    return weight * _counts(cut, key, at)


def _counts(cut: CutOp, key: str, at: At) -> float:
    once = [u for u in cut.used if u.once and key.endswith(f".{u.param}")]
    return float(not any(at[a] for u in once for a in u.over))


def _scattered(made: Plan, at: At, key: str, grad: Tensor, whole: Tensor | None) -> Tensor:
    """The gradient of a process's part at its place in the whole parameter."""
    if whole is None:
        return grad  # of an input
    numbered = torch.arange(whole.numel(), dtype=torch.float64).view(whole.shape)
    _, weight_map = made.shard(at)
    every = {
        k: numbered if k == key else torch.zeros(s, dtype=torch.float64) for k, s in made.graph.weight_shapes().items()
    }
    index = weight_map.apply(every)[key].long().flatten()
    return torch.zeros(whole.numel(), dtype=grad.dtype).index_add(0, index, grad.flatten()).view(whole.shape)


def _run(
    op: Op, graph: Graph, weights: Mapping[str, Tensor], inputs: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradients of a fixed linear function of it with respect to inputs and weights."""
    trained = [p.name for p in op.params() if p.trained]
    leaves = {k: v.detach().clone() for k, v in {**weights, **inputs}.items()}
    wanted = [k for k in leaves if (k in inputs and leaves[k].is_floating_point()) or k.partition(".")[2] in trained]
    for key in wanted:
        leaves[key].requires_grad_()
    params = {k.partition(".")[2]: v for k, v in leaves.items() if k not in inputs}
    y = op.forward(OpScope(op, params), *(leaves[k] for k in inputs))
    slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    grads = torch.autograd.grad((y * slope).sum(), [leaves[k] for k in wanted])
    return y.detach(), dict(zip(wanted, grads, strict=True))
