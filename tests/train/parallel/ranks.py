"""What the processes of `test_processes.py` run: training of a tiny hybrid on a mesh, told as JSON.

torchrun --nproc-per-node 4 ranks.py JOB.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

import archc
from archc.compilation import compile_model
from archc.emitted import load_emitted
from archc.ir.init import init_weights
from archc.train.parallel import plan
from archc.train.parallel.clip import clip_gradients, gradient_norm, sum_gradients
from archc.train.parallel.model import ParallelModel
from archc.train.parallel.state import empty_optimizer_state, state_dict

SPEC = Path(__file__).parent / "tiny.yaml"
SEQUENCES, LENGTH, CLIP, SEED = 8, 12, 0.5, 5


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Tokens and segments of a step, the same everywhere."""
    drawn = torch.Generator().manual_seed(1000 + step)
    tokens = torch.randint(0, 65, (SEQUENCES, LENGTH), generator=drawn)
    return tokens, (torch.rand(SEQUENCES, LENGTH, generator=drawn) < 0.1).cumsum(1).int()


class Adapter(nn.Module):
    """What a loss owns: whole in every process."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter((torch.randn(5, 24, generator=drawn) * 0.1).to(dtype))


def loss_of(model: Any, adapter: Adapter, tokens: Tensor, segments: Tensor) -> Tensor:
    """Sums: of the next token's loss in chunks that are computed again, of both MTP steps', of losses on taps."""
    h, taps = model.hidden(tokens, segments, ("layers.1.mixer.router_logits", "layers.2.mixer"))
    total = torch.zeros((), dtype=h.dtype)
    for some, targets in zip(h[:, :-1].split(7, 1), tokens[:, 1:].split(7, 1), strict=True):
        total = total + checkpoint(lambda x, y: _entropy(model.logits(x), y), some, targets, use_reentrant=False)
    for k, step in enumerate(model.mtp(h, tokens, segments), start=1):
        total = total + 0.3 * _entropy(model.logits(step)[:, : -k - 1], tokens[:, k + 1 :])
    routed = taps["layers.1.mixer.router_logits"].logsumexp(-1).square().sum()
    adapted = torch.nn.functional.linear(taps["layers.2.mixer"], adapter.weight.to(h.dtype))
    return total + 0.01 * routed + 1e-2 * (adapted - 1).square().sum()


def _entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")


def optimizer_of(model: nn.Module, adapter: Adapter) -> torch.optim.Optimizer:
    params = list(model.parameters())
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
        {"params": list(adapter.parameters())},  # apart: no DTensors
    ]
    return torch.optim.AdamW(groups, lr=1e-3, fused=True)


def train(model: Any, adapter: Adapter, optimizer: torch.optim.Optimizer, steps: range) -> dict[str, list[float]]:
    """Losses and gradient norms of steps, in two micro-batches each; of all processes' data."""
    parallel = isinstance(model, ParallelModel)
    copies, mine = (model.mesh.size("dp"), model.mesh.at["dp"]) if parallel else (1, 0)
    told: dict[str, list[float]] = {"loss": [], "norm": []}
    every = [*model.parameters(), *adapter.parameters()]
    for step in steps:
        tokens, segments = (t[mine::copies] for t in batch(step))
        optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        half = len(tokens) // 2
        for part in (slice(0, half), slice(half, None)):
            if parallel:
                model.reduce_now(part.start != 0)
            loss = loss_of(model, adapter, tokens[part], segments[part]) / (SEQUENCES * LENGTH)
            loss.backward()
            total += loss.detach().double()
        if parallel:
            if (group := model.mesh.group(("dp",))) is not None:
                dist.all_reduce(total, group=group)
            sum_gradients(model, adapter.parameters())
            norm = gradient_norm(model, adapter.parameters())
            clip_gradients(every, norm, CLIP)
        else:
            norm = nn.utils.clip_grad_norm_(every, CLIP)
        optimizer.step()
        told["loss"].append(total.item())
        told["norm"].append(norm.item())
    return told


def alone(dtype: torch.dtype, folder: Path) -> nn.Module:
    """The emitted model in one process."""
    graph = archc.load(str(SPEC))
    package = compile_model(graph, folder / "alone", weights=init_weights(graph, seed=SEED), overwrite=True)
    model: nn.Module = load_emitted(package, dtype=str(dtype).removeprefix("torch."))
    return model


def layout(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One layout: train, from a checkpoint where the first steps are over, and perhaps save one on the way."""
    dtype, compute = getattr(torch, job["dtype"]), getattr(torch, job["compute"]) if "compute" in job else None
    graph = archc.load(str(SPEC))
    model = ParallelModel(plan(graph, tp=job["tp"], ep=job["ep"]), SEED, dtype=dtype, compute=compute)
    adapter = Adapter(dtype)
    optimizer = optimizer_of(model, adapter)
    first, last = job["steps"]
    if first > 0:
        empty_optimizer_state(optimizer)
        dcp.load(state_of(model, adapter, optimizer), checkpoint_id=folder / "saved")
    told: dict[str, Any] = {"loss": [], "norm": []}
    for steps in (range(first, job.get("save_at", first)), range(job.get("save_at", first), last)):
        for name, figures in train(model, adapter, optimizer, steps).items():
            told[name] += figures
        if steps.stop == job.get("save_at"):
            dcp.save(state_of(model, adapter, optimizer), checkpoint_id=folder / "saved")
    told["held"] = sum(_local(p).numel() for p in model.parameters())
    told["sums"] = {key: t.double().sum().item() for key, t in model.full_parameters()}
    return told


def state_of(model: nn.Module, adapter: Adapter, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything that a checkpoint has."""
    own = {f"adapter.{key}": value for key, value in optimizer.state[adapter.weight].items()}
    return {**state_dict(model, optimizer, graph=archc.load(str(SPEC))), "adapter": adapter.weight.detach(), **own}


def _local(tensor: Any) -> Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def main(file: Path) -> None:
    jobs = json.loads(file.read_text())
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name, job in jobs.items():
        told = layout(job, file.parent)
        if dist.get_rank() == 0:
            (file.parent / f"{name}.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
