"""Times of every node of an emitted model, one by one and in order, as a call runs them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from archc.ir.execute import OpScope
from archc.ir.graph import LAYERS, Graph, Node
from archc.ir.hardware import Mode
from archc.profile.machine import clock

LEAST_RUNS, LEAST_S = 5, 0.3

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """A call to time: its mode, and the workload that cost expressions see."""

    mode: Mode
    batch: int
    tokens: int
    context: int

    @property
    def env(self) -> dict[str, int]:
        """The workload's symbols."""
        logits = self.tokens if self.mode == "train" else 1
        return {"batch": self.batch, "tokens": self.tokens, "context": self.context, "logits": logits}


Times = dict[str, float]  # seconds by node id


def best_times(graph: Graph, model: Any, call: Call) -> Times:
    """The least time of each node over repeated calls, the first left out."""
    run = _Trainer(graph, model, call) if call.mode == "train" else _Server(graph, model, call)
    runs = list(_repeated(run.times))
    return {name: min(r[name] for r in runs) for name in runs[0]}


def best_whole(call: Callable[[], float]) -> float:
    """The least time of repeated calls, the first left out."""
    return min(_repeated(call))


def _repeated(run: Callable[[], T]) -> Iterator[T]:
    """Results of calls, `LEAST_RUNS` and more until `LEAST_S` have passed."""
    run()
    until, runs = time.perf_counter() + LEAST_S, 0
    while runs < LEAST_RUNS or time.perf_counter() < until:
        runs += 1
        yield run()


class _Run:
    """One kind of call on one model."""

    def __init__(self, graph: Graph, model: Any, call: Call) -> None:
        self.graph, self.model, self.call = graph, model, call
        self.blocks = {block: i for i, block in enumerate(graph.blocks[LAYERS])}
        self.device = next(model.parameters()).device
        self.vocab = graph.dims["vocab"].size
        self.now = clock(self.device)

    def tokens(self, length: int) -> Tensor:
        return torch.randint(0, self.vocab, (self.call.batch, length), device=self.device)

    def function(self, node: Node, state: Any = None) -> Callable[..., Tensor]:
        """What runs a node."""
        if not any(True for _ in node.op.params()):  # it has no module of its own
            return functools.partial(node.op.forward, OpScope(node.op, {}))
        module: Any = self.model.get_submodule(self.graph.scope(node.id))
        if node.role != "mixer":
            return module  # type: ignore[no-any-return]
        layer = None if state is None else state.layers[self.blocks[node.block]]
        return lambda x: module(x, None, layer)

    def seconds(self, run: Callable[..., Any], *args: Any) -> tuple[Any, float]:
        """What `run` gives, and how long it took."""
        self.wait()
        began = self.now()
        result = run(*args)
        self.wait()
        return result, self.now() - began

    def wait(self) -> None:
        """Let an asynchronous device finish."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class _Server(_Run):
    """Prefill and decode: forward with state, logits of the last position."""

    def __init__(self, graph: Graph, model: Any, call: Call) -> None:
        super().__init__(graph, model, call)
        self.past = started_state(model, call, self.tokens(max(call.context - call.tokens, 1)))

    @torch.no_grad()
    def times(self) -> Times:
        state = self.past.clone()
        values: dict[str, Tensor] = {"tokens": self.tokens(self.call.tokens)}
        found: Times = {}
        for node in self.graph.nodes:
            run = self.function(node, state)
            inputs = [values[i] for i in node.inputs]
            if node.role == "lm_head":
                inputs = [x[:, -1:] for x in inputs]
            values[node.id], found[node.id] = self.seconds(run, *inputs)
        return found


class _Trainer(_Run):
    """Forward with logits everywhere, the loss, and backward, node by node."""

    def times(self) -> Times:
        self.model.zero_grad(set_to_none=True)
        tokens = self.tokens(self.call.tokens + 1)
        values: dict[str, Tensor] = {"tokens": tokens[:, :-1]}
        taken: list[tuple[Node, list[Tensor], Tensor]] = []
        found: Times = {}
        for node in self.graph.nodes:
            run, inputs = self.function(node), [_leaf(values[i]) for i in node.inputs]
            values[node.id], found[node.id] = self.seconds(run, *inputs)
            taken.append((node, inputs, values[node.id]))
        loss, seconds = self.seconds(cross_entropy, values["lm_head"], tokens[:, 1:])
        found["lm_head"] += seconds
        self.backward(loss, taken, found)
        return found

    def backward(self, loss: Tensor, taken: list[tuple[Node, list[Tensor], Tensor]], found: Times) -> None:
        """Add every node's backward time; gradients of a value used twice are added up."""
        gradients: dict[str, Tensor] = {}
        for node, inputs, output in reversed(taken):
            start = (loss,) if node.role == "lm_head" else (output, gradients[node.id])
            _, seconds = self.seconds(torch.autograd.backward, *start)
            _, more = self.seconds(_collect, gradients, node, inputs)
            found[node.id] += seconds + more


def _leaf(value: Tensor) -> Tensor:
    return value.detach().requires_grad_() if value.is_floating_point() else value


def _collect(gradients: dict[str, Tensor], node: Node, inputs: list[Tensor]) -> None:
    for name, value in zip(node.inputs, inputs, strict=True):
        if value.grad is not None:
            gradients[name] = value.grad if name not in gradients else gradients[name] + value.grad


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The next-token loss of logits [B, L, V]."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def whole_call(model: Any, call: Call, vocab: int) -> Callable[[], float]:
    """A function that times one whole call of a model, as a user makes it; a training step with AdamW's update."""
    device = next(model.parameters()).device
    now = clock(device)

    def tokens(length: int) -> Tensor:
        return torch.randint(0, vocab, (call.batch, length), device=device)

    past = started_state(model, call, tokens(max(call.context - call.tokens, 1)))

    def serve() -> float:
        state, given = past.clone(), tokens(call.tokens)
        began = now()
        model.prefill(given, state) if call.tokens > 1 else model.decode(given[:, 0], state)
        return now() - began

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True) if call.mode == "train" else None

    def train() -> float:
        given = tokens(call.tokens + 1)
        began = now()
        torch.autograd.backward(cross_entropy(model(given[:, :-1]), given[:, 1:]))
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return now() - began

    return train if call.mode == "train" else serve


def started_state(model: Any, call: Call, past: Tensor) -> Any:
    """A state that has taken in what precedes the call's own tokens."""
    state = model.new_state(call.batch, call.context)
    if call.context > call.tokens:
        model.prefill(past, state)
    return state
