"""The processes of a run: one, or those that torchrun started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist

from archc.train.recipe import Recipe


@contextlib.contextmanager
def processes(recipe: Recipe, device: str) -> Iterator[None]:
    """Join the processes of the run while the block runs. Raises SpecError where they are not as many as the recipe
    says."""
    parallel = recipe.parallel
    wanted, there = parallel.dp * parallel.tp * parallel.ep, int(os.environ.get("WORLD_SIZE", "1"))
    if wanted != there:
        asked = f"dp {parallel.dp} x tp {parallel.tp} x ep {parallel.ep} = {wanted} processes"
        start = f"torchrun --nproc-per-node {wanted} -m archc train ..." if wanted > 1 else "start it without torchrun"
        raise recipe.error(("parallel",), f"`parallel` asks for {asked}, and there are {there}: {start}")
    if there == 1:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield
        dist.barrier()  # gloo may abort where one process leaves while another still talks
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the one that writes and tells."""
    return not dist.is_initialized() or dist.get_rank() == 0


def wait_for_all() -> None:
    """Return when every process is here."""
    if dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """The first process runs the block before the others do, which then find what it has made, or fail as it did."""
    if not is_first():
        dist.barrier()
    try:
        yield
    finally:
        if is_first():
            wait_for_all()
