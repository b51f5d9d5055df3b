"""The part of a model that one process trains, behind the interface of an emitted model.

It is the emitted module of the rank's graph (`Plan.shard`), made on the meta device, with hooks where the plan puts
sums over processes. Parts of a Concat axis are parameters of their own, joined when their op runs, so that every
parameter is a plain range of the whole one. Over `dp`, FSDP2 shards parameters, gradients and optimiser state block by
block and adds gradients up: a loss is therefore divided by the count of all processes' tokens before `backward`. The
vocabulary is not cut over `tp`, only by FSDP. All processes of one copy (`ep` x `tp`) must be given the same batch.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard

from archc.codegen import emit_package
from archc.emitted import import_emitted
from archc.ir.graph import Graph
from archc.kernels.errors import ArchcError
from archc.train.parallel.collectives import shared, spread, summed
from archc.train.parallel.mesh import AXES, DP, Mesh
from archc.train.parallel.plan import CutOp, Piece, Plan, Used
from archc.train.parallel.weights import Reader, source_of

if TYPE_CHECKING:
    from archc.hub.weights import Weights


class Parts(nn.Module):
    """The parts of a parameter whose axis is a Concat, each a parameter."""

    def __init__(self, axis: int, parts: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.axis = axis
        for name, part in parts.items():
            self.register_parameter(name, part)

    def joined(self) -> Tensor:
        """The parameter that the emitted module reads."""
        return torch.cat(list(self._parameters.values()), self.axis)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Call:
    """A call of a method: FSDP does not look into it for tensors whose gradients would end the backward pass early."""

    method: Callable[..., Any]
    args: tuple[Any, ...]


class ParallelModel(nn.Module):
    """A process's part of a model: `hidden`, `logits`, `mtp`, taps and paths of modules as the emitted model has them.

    `mesh` says where it stands: `mesh.at["dp"]` of `mesh.size("dp")` is its share of the data. `plan.graph` is the
    whole model's graph, `graph` its own.
    """

    _emitted: Any

    def __init__(
        self,
        plan: Plan,
        weights: Weights | Mapping[str, Tensor] | int,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        compute: torch.dtype | None = None,
    ) -> None:
        """Weights are those of a checkpoint (`archc.hub.weights.weights_of`), tensors, or a seed of fresh ones.

        They are kept in `dtype`; the forward and backward pass see them in `compute`, where that is another.
        """
        super().__init__()
        self.plan, self.mesh = plan, Mesh(plan, device)
        self.graph, of_rank = plan.shard(self.mesh.at)
        emitted = _on_meta(self.graph, dtype)
        object.__setattr__(self, "_emitted", emitted)  # whose children are those of this module
        for name, child in emitted.named_children():
            self.add_module(name, child)
        self.pieces = {p.name: p for p in plan.pieces}
        self._split()
        for op in plan.ops:
            _hook_cut(self.get_submodule(op.scope), op, self.mesh)
        self._fully_shard(compute if compute != dtype else None)
        tables = _tables(self)
        self.to_empty(device=device)
        for module, name, table in tables:
            module._buffers[name] = table.to(device)
        self._load(Reader(source_of(weights, plan.graph), of_rank))

    # -- making it -----------------------------------------------------------------------------------------------------

    def _split(self) -> None:
        """Make parts of Concat axes parameters of their own."""
        by_key: dict[str, list[Piece]] = {}
        for piece in self.pieces.values():
            by_key.setdefault(piece.key, []).append(piece)
        joined: dict[nn.Module, list[str]] = {}
        for key, pieces in by_key.items():
            if not pieces[0].part:
                continue
            scope, _, name = key.rpartition(".")
            module = self.get_submodule(scope)
            whole = getattr(module, name)
            sizes = [p.local(self.plan.degrees)[p.axis] for p in pieces]
            parts = [nn.Parameter(part.clone()) for part in torch.split(whole.detach(), sizes, pieces[0].axis)]
            delattr(module, name)
            made = dict(zip((p.part for p in pieces), parts, strict=True))
            module.add_module(name, Parts(pieces[0].axis, made))
            joined.setdefault(module, []).append(name)
        for module, names in joined.items():
            _stand_in(module, {name: module._modules[name].joined for name in names})  # type: ignore[union-attr, misc]

    def _fully_shard(self, compute: torch.dtype | None) -> None:
        """FSDP2 over the copies of the model: each block by itself, what is left together."""
        if self.mesh.device_mesh is None or (self.mesh.size(DP) == 1 and compute is None):
            if compute is not None:
                raise ArchcError(f"computing in {compute} beside {torch.float32} weights takes torchrun")
            return
        policy = MixedPrecisionPolicy(compute, torch.float32 if compute else None, cast_forward_inputs=False)
        for module in (*self._blocks(), self):
            made: FSDPModule = fully_shard(module, mesh=self.mesh.device_mesh[DP], mp_policy=policy)
            made.set_gradient_divide_factor(1.0)
            made.set_force_sum_reduction_for_comms(True)
        register_fsdp_forward_method(self, "_run")

    def _blocks(self) -> Iterator[nn.Module]:
        for region, blocks in self.graph.blocks.items():
            if not region:
                continue
            yield from (self.get_submodule(f"{region}.{i}") for i in range(len(blocks)))
            if "." in region:
                yield self.get_submodule(region.rpartition(".")[0])

    @torch.no_grad()
    def _load(self, reader: Reader) -> None:
        starts: dict[str, int] = {}
        for name, piece in self.pieces.items():
            here = _local(self._tensor(name))
            size = piece.local(self.plan.degrees)
            start = starts.get(piece.key, 0)
            starts[piece.key] = start + size[piece.axis]
            rows = range(0, size[0])
            if isinstance(self._tensor(name), DTensor):
                rows = rows[self._chunk(size[0])]
            filled = 0
            for block in reader.blocks(piece.key, piece.axis, range(start, starts[piece.key]), rows):
                here[filled : filled + len(block)] = block
                filled += len(block)

    def _chunk(self, rows: int) -> slice:
        """This process's rows of those that FSDP shares out."""
        each = -(-rows // self.mesh.size(DP))
        first = min(each * self.mesh.at[DP], rows)
        return slice(first, min(first + each, rows))

    # -- the emitted interface -----------------------------------------------------------------------------------------

    def hidden(self, tokens: Tensor, segments: Tensor | None = None, taps: Collection[str] = ()) -> Any:
        """Final hidden states [B, L, D] of tokens [B, L]; with taps, also a dict of what those modules return."""
        found = self._called(self._emitted.hidden, tokens, segments, taps)
        if not taps:
            return found
        return found[0], {name: self._as_told(name, value) for name, value in found[1].items()}

    def logits(self, h: Tensor) -> Tensor:
        """Logits [B, L, V] of the next token, for hidden states [B, L, D]."""
        made: Tensor = self._called(self._emitted.logits, h)
        return made

    def forward(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        """Logits [B, L, V] of the next token, for tokens [B, L]."""
        return self.logits(self.hidden(tokens, segments))

    def _called(self, method: Callable[..., Any], *args: Any) -> Any:
        with warnings.catch_warnings():  # of values that could be changed in place, which none here is
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
            return self._run(_Call(method, args))

    def _run(self, call: _Call) -> Any:
        return call.method(*call.args)

    def _as_told(self, tap: str, value: Tensor) -> Tensor:
        """A tapped value; of one inside a cut op every process passes its share of the gradient on."""
        op = next((op for op in self.plan.ops if tap.startswith(f"{op.scope}.")), None)
        if op is None or not value.requires_grad:
            return value
        return shared(value, self.mesh.size(*op.over))

    # -- for the loop --------------------------------------------------------------------------------------------------

    def reduce_now(self, now: bool) -> None:
        """Whether gradients are added up over `dp` in the next backward pass: False while others of a step follow."""
        if isinstance(self, FSDPModule):
            self.set_requires_gradient_sync(now)

    def forget_gathered(self) -> None:
        """Drop parameters that FSDP gathered: what is written into the shards counts from the next call on."""
        for module in self.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    # -- what it holds -------------------------------------------------------------------------------------------------

    def _tensor(self, name: str) -> Tensor:
        """The parameter or buffer of a piece."""
        scope, _, leaf = name.rpartition(".")
        tensor: Tensor = getattr(self.get_submodule(scope), leaf)
        return tensor

    def as_pieces(self, name: str, local: Tensor) -> Tensor:
        """A tensor laid out as a piece's parameter, as part of the whole: a plain DTensor that shares its memory."""
        if self.mesh.device_mesh is None:
            return local
        piece, cuts = self.pieces[name], dict(self.pieces[name].cuts)
        over_dp: Placement = Shard(0) if isinstance(local, DTensor) else Replicate()
        model_axes = (Shard(cuts[a]) if a in cuts else Replicate() for a in AXES if a != DP)
        stride = torch.empty(piece.shape, device="meta").stride()
        return DTensor.from_local(
            _local(local),
            self.mesh.device_mesh,
            [*model_axes, over_dp],
            run_check=False,
            shape=torch.Size(piece.shape),
            stride=stride,
        )

    def full_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter of the whole model by `<scope>.<param>`, one at a time; all processes go through them."""
        self.forget_gathered()
        parts: list[Tensor] = []
        names = list(self.pieces)
        for i, name in enumerate(names):
            piece = self.pieces[name]
            parts.append(_gathered(self.as_pieces(name, self._tensor(name).detach())))
            if i + 1 == len(names) or self.pieces[names[i + 1]].key != piece.key:
                yield piece.key, torch.cat(parts, piece.axis) if len(parts) > 1 else parts[0]
                parts = []


def _on_meta(graph: Graph, dtype: torch.dtype) -> nn.Module:
    """The emitted module of a graph, without memory."""
    with tempfile.TemporaryDirectory(prefix="archc-train-") as scratch:
        package = emit_package(graph, Path(scratch) / "model")
        config = json.loads((package / "config.json").read_text(encoding="utf-8"))
        with torch.device("meta"):
            model: nn.Module = import_emitted(package).Model(config)
    tables = _tables(model)
    model.to(dtype)
    for module, name, table in tables:
        module._buffers[name] = table
    return model


def _tables(model: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """The tables that modules compute from their sizes: no weights, and there already."""
    found = ((module, name, table) for module in model.modules() for name, table in module._buffers.items())
    return [(m, name, table) for m, name, table in found if table is not None and not table.is_meta]


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor, gathered along one axis of the mesh after the other, the innermost first."""
    if not isinstance(tensor, DTensor):
        return tensor
    placements = list(tensor.placements)
    for i in reversed(range(len(placements))):
        if placements[i].is_shard():
            placements[i] = Replicate()
            tensor = tensor.redistribute(placements=placements)
    return tensor.to_local()


# -- hooks -------------------------------------------------------------------------------------------------------------


def _stand_in(module: nn.Module, make: Mapping[str, Callable[[], Tensor]]) -> None:
    """While a module runs, what these functions make stands in the place of its parameters (or Parts) of that name."""

    def enter(module: nn.Module, args: Any) -> None:
        for name, made in make.items():
            module.__dict__[name] = made()

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        for name in make:
            module.__dict__.pop(name, None)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave, always_call=True)


def _hook_cut(module: nn.Module, op: CutOp, mesh: Mesh) -> None:
    """Put the sums over processes before and behind a cut op, and around the parameters that several have whole."""
    group = mesh.group(op.over)
    if group is None:
        return
    _stand_in(module, {u.param: _used(module, u, mesh) for u in op.used})

    def enter(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(spread(a, group) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)

    def leave(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return summed(output, group)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


def _used(module: nn.Module, one: Used, mesh: Mesh) -> Callable[[], Tensor]:
    """Makes a parameter that several processes have whole, as this one uses it."""
    group = mesh.group(one.over)
    here = not one.once or not any(mesh.at[a] for a in one.over)

    def make() -> Tensor:
        param = module.__dict__.get(one.param, module._parameters.get(one.param))
        entered = spread(param, group)  # type: ignore[arg-type]
        return entered if here else entered * 0

    return make
