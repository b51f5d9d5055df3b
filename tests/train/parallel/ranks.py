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

import archc
from archc.compilation import compile_model
from archc.emitted import load_emitted
from archc.ir.init import init_weights
from archc.train.parallel import plan
from archc.train.parallel.clip import clip_gradients, gradient_norm
from archc.train.parallel.model import ParallelModel
from archc.train.parallel.state import empty_optimizer_state, state_dict

SPEC = Path(__file__).parent / "tiny.yaml"
SEQUENCES, LENGTH, CLIP = 8, 20, 0.5


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Tokens and segments of a step, the same everywhere."""
    drawn = torch.Generator().manual_seed(1000 + step)
    tokens = torch.randint(0, 65, (SEQUENCES, LENGTH), generator=drawn)
    return tokens, (torch.rand(SEQUENCES, LENGTH, generator=drawn) < 0.1).cumsum(1).int()


def loss_of(model: Any, tokens: Tensor, segments: Tensor) -> Tensor:
    """Sums: of the next token's loss, of both MTP steps', and of a loss on the routers' logits."""
    h, taps = model.hidden(tokens, segments, ("layers.1.mixer.router_logits", "layers.2.mixer"))
    total = _shifted(model.logits(h), tokens, 1)
    for k, step in enumerate(model.mtp(h, tokens, segments), start=1):
        total = total + 0.3 * _shifted(model.logits(step), tokens, k + 1)
    routed = taps["layers.1.mixer.router_logits"].logsumexp(-1).square().sum()
    return total + 0.01 * routed + 1e-3 * taps["layers.2.mixer"].square().sum()


def _shifted(logits: Tensor, tokens: Tensor, ahead: int) -> Tensor:
    return cross_entropy(logits[:, :-ahead].flatten(0, 1), tokens[:, ahead:].flatten(), reduction="sum")


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    params = list(model.parameters())
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=3e-3, fused=True)


def train(model: Any, optimizer: torch.optim.Optimizer, steps: range) -> dict[str, list[float]]:
    """Losses and gradient norms of steps, in two micro-batches each; of all processes' data."""
    parallel = isinstance(model, ParallelModel)
    copies, mine = (model.mesh.size("dp"), model.mesh.at["dp"]) if parallel else (1, 0)
    told: dict[str, list[float]] = {"loss": [], "norm": []}
    for step in steps:
        tokens, segments = (t[mine::copies] for t in batch(step))
        optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        half = len(tokens) // 2
        for part in (slice(0, half), slice(half, None)):
            if parallel:
                model.reduce_now(part.start != 0)
            loss = loss_of(model, tokens[part], segments[part]) / (SEQUENCES * LENGTH)
            loss.backward()
            total += loss.detach().double()
        if parallel:
            if (group := model.mesh.group(("dp",))) is not None:
                dist.all_reduce(total, group=group)
            norm = gradient_norm(model)
            clip_gradients(model.parameters(), norm, CLIP)
        else:
            norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        told["loss"].append(total.item())
        told["norm"].append(norm.item())
    return told


def alone(dtype: torch.dtype, folder: Path) -> nn.Module:
    """The emitted model in one process."""
    graph = archc.load(str(SPEC))
    package = compile_model(graph, folder / "alone", weights=init_weights(graph, seed=5), overwrite=True)
    model: nn.Module = load_emitted(package, dtype=str(dtype).removeprefix("torch."))
    return model


def layout(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One layout: train, perhaps from or to a checkpoint."""
    dtype = getattr(torch, job["dtype"])
    graph = archc.load(str(SPEC))
    model = ParallelModel(plan(graph, tp=job["tp"], ep=job["ep"]), 5, dtype=dtype)
    optimizer = optimizer_of(model)
    first, last = job["steps"]
    if "load" in job:
        empty_optimizer_state(optimizer)
        dcp.load(state_dict(model, optimizer), checkpoint_id=folder / job["load"])
    told: dict[str, Any] = dict(train(model, optimizer, range(first, last)))
    if "save" in job:
        dcp.save(state_dict(model, optimizer), checkpoint_id=folder / job["save"])
    told["held"] = sum(_local(p).numel() for p in model.parameters())
    told["total"] = sum(t.double().sum().item() for _, t in model.full_parameters())
    return told


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
