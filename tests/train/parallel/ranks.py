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
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

import archc
from archc.compilation import compile_model
from archc.emitted import load_emitted
from archc.ir.init import init_weights
from archc.train.checkpoint import CheckpointFolder, Snapshot
from archc.train.optim import AdamW
from archc.train.parallel import plan
from archc.train.parallel.model import ParallelModel
from archc.train.placement import ManyProcesses, OneProcess, Placement

SPEC = Path(__file__).parent / "tiny.yaml"
SEQUENCES, LENGTH, SEED = 8, 12, 5


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


CHOICE = AdamW(lr=1e-3, weight_decay=0.1, clip=0.5)


class Run:
    """A model where it lies, the adapter that a loss owns, their optimiser, as the engine has them."""

    def __init__(self, place: Placement, dtype: torch.dtype) -> None:
        self.place, self.adapter = place, Adapter(dtype)
        self.others = list(self.adapter.parameters())
        self.optimizer = CHOICE.build(place.model.parameters(), self.others)

    def train(self, steps: range) -> dict[str, list[float]]:
        """Losses and gradient norms of steps, in two micro-batches each; of all processes' data."""
        told: dict[str, list[float]] = {"loss": [], "norm": []}
        for step in steps:
            mine = list(self.place.share(range(SEQUENCES)))
            tokens, segments = (t[mine] for t in batch(step))
            self.optimizer.zero_grad()
            total, half = torch.zeros((), dtype=torch.float64), len(mine) // 2
            for part in (slice(0, half), slice(half, None)):
                self.place.backward_follows(part.start != 0)
                loss = loss_of(self.place.model, self.adapter, tokens[part], segments[part]) / (SEQUENCES * LENGTH)
                loss.backward()
                total += loss.detach().double()
            self.place.gradients_ready(self.others)
            norm = self.place.norm(self.others)
            self.place.clip(self.others, norm, CHOICE.clip)
            self.optimizer.step()
            told["loss"].append(self.place.summed(total).item())
            told["norm"].append(norm.item())
        return told

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a checkpoint has."""
        own = {f"adapter.{key}": value for key, value in self.optimizer.state[self.adapter.weight].items()}
        return {**self.place.tensors(self.optimizer), "adapter": self.adapter.weight.detach(), **own}

    def restore(self, folder: Path, step: int) -> None:
        """Go on from a checkpoint."""
        for group in self.optimizer.param_groups:
            for param in group["params"]:
                self.optimizer.state[param] = dict(CHOICE.empty_state(param))
        assert CheckpointFolder(folder).load(step, self.tensors()) == {"step": step}


def alone(dtype: torch.dtype, folder: Path) -> Run:
    """The emitted model in one process."""
    graph = archc.load(str(SPEC))
    package = compile_model(graph, folder / "alone", weights=init_weights(graph, seed=SEED), overwrite=True)
    return Run(OneProcess(load_emitted(package, dtype=str(dtype).removeprefix("torch.")), graph), dtype)


def layout(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One layout: train, from a checkpoint where the first steps are over, and perhaps save one on the way."""
    dtype, compute = getattr(torch, job["dtype"]), getattr(torch, job["compute"]) if "compute" in job else None
    made = plan(archc.load(str(SPEC)), tp=job["tp"], ep=job["ep"])
    run = Run(ManyProcesses(ParallelModel(made, SEED, dtype=dtype, compute=compute)), dtype)
    checkpoints = CheckpointFolder(folder / "checkpoints")
    first, last = job["steps"]
    if first > 0:
        run.restore(folder / "checkpoints", first)
    told: dict[str, Any] = {"loss": [], "norm": []}
    for steps in (range(first, job.get("save_at", first)), range(job.get("save_at", first), last)):
        for name, figures in run.train(steps).items():
            told[name] += figures
        if steps.stop == job.get("save_at"):
            checkpoints.save(Snapshot(steps.stop, run.tensors(), {"step": steps.stop}))
    checkpoints.finish()
    told["agreed"] = run.place.agreed(dist.get_rank(), 7.0)
    told["held"] = sum(_local(p).numel() for p in run.place.model.parameters())
    told["sums"] = {key: t.double().sum().item() for key, t in run.place.weights()}
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
