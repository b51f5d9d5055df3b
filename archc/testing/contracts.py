"""The op contract: what must hold of every registered op, checked on its own `Examples`.

@pytest.mark.parametrize("op", example_ops(), ids=op_id)
class TestOps(OpContract): ...
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from archc.ir.dims import Axis, Dim
from archc.ir.execute import GraphState, OpScope, execute, layer_state
from archc.ir.expr import Expr, Num
from archc.ir.graph import Graph, Node
from archc.ir.init import init_weights
from archc.ir.op import Op, registered_ops
from archc.ir.selection import Selections, keep
from archc.ir.slicing import select
from archc.ir.text import parse_graph, print_graph
from archc.ir.verify import verify
from archc.kernels.errors import GraphError
from archc.testing.flops import counting

BATCH, LENGTH = 2, 19


def example_ops() -> list[Op]:
    """Every example of every registered op."""
    return [example for cls in registered_ops() for example in cls.examples()]


def op_id(op: Op) -> str:
    """A test id that says which op and sizes broke."""
    return op.kind + "-" + "x".join(str(n) for n in op.sizes)


def one_op_graph(op: Op) -> Graph:
    """A graph of this op alone; its inputs are x0, x1, ..."""
    inputs = tuple((f"x{i}", axes) for i, axes in enumerate(op.inputs()))
    node = Node("op", op, tuple(name for name, _ in inputs))
    return Graph("one", (node,), (("y", "op"),), inputs)


def random_weights(graph: Graph, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Weights in which nothing is zero or one: those hide mistakes. Matrices are small whatever their initial law says:
    a softmax that large ones saturate has gradients that are rounding errors."""
    made = init_weights(graph, seed=3, dtype=dtype)
    torch.manual_seed(5)
    return {key: (w if w.ndim < 2 else _small(w)) + 0.2 * torch.rand_like(w) for key, w in made.items()}


def _small(matrix: Tensor) -> Tensor:
    return matrix * min(3.0, 0.1 / (matrix.square().mean().sqrt().item() or 1.0))


def random_inputs(op: Op, length: int = LENGTH, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Inputs for `one_op_graph`: token ids where the op looks them up, else normal values."""
    torch.manual_seed(7)
    found: dict[str, Tensor] = {}
    for i, axes in enumerate(op.inputs()):
        model = [a.size for a in axes if not is_free(a)]
        ids = torch.randint(0, op.dims["vocab"].size, (BATCH, length)) if not model else None
        found[f"x{i}"] = ids if ids is not None else torch.randn(BATCH, length, *model, dtype=dtype)
    return found


def is_free(axis: Axis) -> bool:
    """Whether the workload gives the axis's size."""
    return isinstance(axis, Dim) and axis.free


class OpContract:
    """Mix in, parametrised over ops."""

    def test_text_round_trip(self, op: Op) -> None:
        graph = one_op_graph(op)
        assert parse_graph(print_graph(graph)) == graph

    def test_counts(self, op: Op) -> None:
        weights = init_weights(one_op_graph(op))
        for param in op.params():
            assert weights[f"op.{param.name}"].numel() == op.elements(param).evaluate(sizes(op))

    def test_names_are_distinct(self, op: Op) -> None:
        names = [*op.dims, *op.attributes, *op.derived(), *(p.name for p in op.params())]
        names += [n for c in op.constants() for n in c.names]
        assert len(set(names)) == len(names)

    def test_dims_differ_and_groups_exceed_one(self, op: Op) -> None:
        assert len({example.sizes for example in type(op).examples()}) > 1
        assert len(set(op.sizes)) == len(op.sizes)
        assert all(op.dims[role].size > 1 for role in ("n_groups", "n_kv_heads") if role in op.dims)
        assert op.attributes.get("top_k", 2) > 1

    @pytest.mark.parametrize("length", [1, 5, LENGTH])
    def test_flops(self, op: Op, length: int) -> None:
        graph = one_op_graph(op)
        with counting() as counter:
            execute(graph, random_weights(graph, torch.float32), random_inputs(op, length, torch.float32))
        assert declared_flops(op, length, length) * BATCH == counter.get_total_flops()

    @pytest.mark.parametrize("tokens", [1, 4])
    def test_flops_after_others(self, op: Op, tokens: int) -> None:
        if not op.streams:
            assert not list(op.state())
            return
        graph, inputs = one_op_graph(op), random_inputs(op, LENGTH, torch.float32)
        weights, state = random_weights(graph, torch.float32), new_state(op, torch.float32)
        execute(graph, weights, {k: v[:, :-tokens] for k, v in inputs.items()}, state=state)
        with counting() as counter:
            execute(graph, weights, {k: v[:, -tokens:] for k, v in inputs.items()}, state=state)
        assert declared_flops(op, tokens, LENGTH) * BATCH == counter.get_total_flops()

    def test_state_bytes(self, op: Op) -> None:
        env = {**sizes(op), "context": LENGTH, "tokens": 0}
        declared = 0
        for state in op.state():
            each = math.prod((e if isinstance(e, Expr) else op.expr(e)).evaluate(env) for e in state.shape)
            stored = state.stored_tokens.evaluate(env) if state.stored_tokens is not None else 1
            declared += each * stored * 4
        assert layer_state(op, 1, LENGTH).nbytes == declared

    @pytest.mark.parametrize("pieces", [(LENGTH,), (7, 12), (6, 1, 9, 3), (1,) * LENGTH], ids=str)
    def test_pieces_equal_whole(self, op: Op, pieces: tuple[int, ...]) -> None:
        if not op.streams:
            with pytest.raises(AssertionError):
                assert_pieces(op, (1,) * LENGTH)
            return
        assert_pieces(op, pieces)

    @pytest.mark.parametrize("boundary", range(1, 10))
    def test_segments_equal_documents_alone(self, op: Op, boundary: int) -> None:
        graph, inputs = one_op_graph(op), random_inputs(op)
        segments = (torch.arange(LENGTH) >= boundary).long().expand(BATCH, -1)
        parts = (slice(0, boundary), slice(boundary, None))
        packed = gradients(graph, {**inputs, "segments": segments}, parts)
        alone = [gradients(graph, {k: v[:, part] for k, v in inputs.items()}, (slice(None),)) for part in parts]
        torch.testing.assert_close(packed[0], torch.cat([a[0] for a in alone], dim=1))
        for key, grad in packed[1].items():
            torch.testing.assert_close(grad, alone[0][1][key] + alone[1][1][key])

    def test_keeping_everything_is_the_identity(self, op: Op) -> None:
        graph = one_op_graph(op)
        everything = Selections([keep(d, range(d.size)) for d in graph.dims.values()])
        same, weight_map = select(graph, everything)
        weights = random_weights(graph)
        assert same == graph
        for key, same_weight in weight_map.apply(weights).items():
            assert torch.equal(same_weight, weights[key])

    def test_free_dims_may_be_permuted_and_others_not(self, op: Op) -> None:
        graph = one_op_graph(op)
        for dim in graph.dims.values():
            rng = np.random.default_rng(11)
            order = [rng.permutation(dim.size) for _ in range(max(dim.rows, 1))]
            chosen = Selections([keep(dim, np.stack(order))])
            if dim.order == "free":
                assert_same_function(op, chosen)
            elif not chosen[dim.name].is_identity:
                with pytest.raises(GraphError, match=dim.name):
                    select(graph, chosen)

    def test_pruning_equals_masking_where_declared(self, op: Op) -> None:
        for role in op.exact & set(op.dims):
            dim = op.dims[role]
            if dim.order == "free":
                assert_pruned_equals_masked(op, dim)

    def test_a_gain_on_the_input_can_be_the_parameters(self, op: Op) -> None:
        names = {f"op.{p.name}" for p in op.input_products}
        if not names:
            return
        graph, inputs = one_op_graph(op), random_inputs(op)
        weights = random_weights(graph)
        gain = torch.linspace(0.5, 2.0, inputs["x0"].shape[-1], dtype=torch.float64)
        expected = execute(graph, weights, {"x0": inputs["x0"] * gain})["y"]
        scaled = {key: w * gain if key in names else w for key, w in weights.items()}
        torch.testing.assert_close(execute(graph, scaled, inputs)["y"], expected)

    def test_parts_add_up(self, op: Op) -> None:
        from archc.testing.parallel import assert_parts_add_up

        assert_parts_add_up(op)

    def test_export_with_dynamic_batch_and_length(self, op: Op) -> None:
        graph = one_op_graph(op)
        inputs = random_inputs(op, dtype=torch.float32)
        module = OpModule(op, random_weights(graph, torch.float32)).eval()
        dynamic = tuple({0: torch.export.Dim("b", min=1), 1: torch.export.Dim("l", min=2)} for _ in inputs)
        exported = torch.export.export(module, tuple(inputs.values()), dynamic_shapes={"inputs": dynamic})
        other = {k: torch.cat([v, v, v], dim=0)[:, : LENGTH - 6] for k, v in inputs.items()}
        torch.testing.assert_close(exported.module()(*other.values()), module(*other.values()), rtol=1e-4, atol=1e-5)

    def test_gradients(self, op: Op) -> None:
        assert_gradients(op, fast=True)

    @pytest.mark.nightly
    def test_gradients_entry_by_entry(self, op: Op) -> None:
        assert_gradients(op, fast=False)


class OpModule(torch.nn.Module):
    """An op as a module, for export."""

    def __init__(self, op: Op, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.op = op
        for param in op.params():
            self.register_buffer(param.name, weights[f"op.{param.name}"])

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.op.forward(OpScope(self.op, dict(self.named_buffers())), *inputs)


def assert_gradients(op: Op, *, fast: bool) -> None:
    """fp64 gradients equal finite differences: along random directions when `fast`, else of every entry."""
    graph, inputs = one_op_graph(op), random_inputs(op, length=5)
    weights = {k: w.requires_grad_(w.is_floating_point()) for k, w in random_weights(graph).items()}
    names = [k for k, v in inputs.items() if v.is_floating_point()]
    leaves = [*(inputs[n].requires_grad_() for n in names), *weights.values()]

    def run(*values: Tensor) -> Tensor:
        given = {**inputs, **dict(zip(names, values, strict=False))}
        return execute(graph, dict(zip(weights, values[len(names) :], strict=True)), given)["y"]

    assert torch.autograd.gradcheck(run, leaves, eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=fast)


def sizes(op: Op) -> dict[str, int]:
    """Dim sizes by role."""
    return {role: d.size for role, d in op.dims.items()}


def declared_flops(op: Op, tokens: int, context: int) -> Any:
    """FLOPs that the op declares for the last `tokens` of a sequence: products with parameters and between values."""
    from archc.ir.cost import product_flops

    env = {**sizes(op), "batch": 1, "tokens": tokens, "context": context, "logits": tokens}
    return sum((flops.evaluate(env) for flops in product_flops(op).values()), Num(0).evaluate({}))


def new_state(op: Op, dtype: torch.dtype) -> GraphState:
    """An empty state of `one_op_graph`, for LENGTH tokens."""
    return GraphState({"op": layer_state(op, BATCH, LENGTH, dtype=dtype)} if any(True for _ in op.state()) else {})


def carried(graph: Graph, chosen: Selections, weights: Mapping[str, Tensor]) -> tuple[Graph, dict[str, Tensor]]:
    """The selected graph with its weights."""
    made, weight_map = select(graph, chosen)
    return made, weight_map.apply(weights)


def taken(value: Tensor, axes: tuple[Axis, ...], chosen: Selections) -> Tensor:
    """A value of the old layout in the new one."""
    for position, axis in enumerate(axes):
        if not is_free(axis) and chosen.touches(axis):
            value = value.index_select(position, torch.from_numpy(chosen.expand([axis])))
    return value


def assert_same_function(op: Op, chosen: Selections) -> None:
    """The selected op computes the selected outputs of the selected inputs."""
    graph, inputs = one_op_graph(op), random_inputs(op)
    weights = random_weights(graph)
    made, moved = carried(graph, chosen, weights)
    given = {f"x{i}": taken(inputs[f"x{i}"], axes, chosen) for i, axes in enumerate(op.inputs())}
    expected = taken(execute(graph, weights, inputs)["y"], op.output(), chosen)
    torch.testing.assert_close(execute(verify(made), moved, given)["y"], expected)


def assert_pruned_equals_masked(op: Op, dim: Dim) -> None:
    """Cutting one unit equals masking it."""
    graph, inputs = one_op_graph(op), random_inputs(op)
    weights = random_weights(graph)
    kept = [i for i in range(dim.size) if i != 1]
    made, cut = carried(graph, Selections([keep(dim, kept)]), weights)
    mask = torch.ones(dim.size, dtype=torch.bool)
    mask[1] = False
    masks = {dim.name: mask.expand(max(dim.rows, 1), -1) if dim.outer else mask}
    torch.testing.assert_close(execute(made, cut, inputs)["y"], execute(graph, weights, inputs, masks=masks)["y"])


def assert_pieces(op: Op, pieces: tuple[int, ...]) -> None:
    """Feeding a sequence in pieces gives what feeding it whole gives."""
    graph, inputs = one_op_graph(op), random_inputs(op)
    weights = random_weights(graph)
    whole = execute(graph, weights, inputs)["y"]
    state = new_state(op, torch.float64)
    found, start = [], 0
    for piece in pieces:
        given = {k: v[:, start : start + piece] for k, v in inputs.items()}
        found.append(execute(graph, weights, given, state=state)["y"])
        start += piece
    torch.testing.assert_close(torch.cat(found, dim=1), whole)


def gradients(graph: Graph, inputs: Mapping[str, Tensor], parts: tuple[slice, ...]) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradient of a fixed loss (a sum over parts) with respect to every weight."""
    weights = {k: w.requires_grad_() for k, w in random_weights(graph).items()}
    y = execute(graph, weights, inputs)["y"]
    loss = sum((y[:, part].sin().sum() for part in parts), torch.zeros((), dtype=y.dtype))
    if weights:
        torch.autograd.backward(loss)
    return y.detach(), {k: w.grad if w.grad is not None else torch.zeros_like(w) for k, w in weights.items()}
