"""The mesh of processes: `dp` copies of the model, each cut over `ep` x `tp`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh

from archc.kernels.errors import UnsupportedError
from archc.train.parallel.plan import EP, TP, Plan

DP = "dp"
AXES = (EP, TP, DP)


class Mesh:
    """The processes, by axis. Without torch.distributed there is one, at the origin.

    The axes are in the order in which they cut a tensor: a dim that the model's axes cut is cut once more by `dp`.
    Processes of one copy of the model are next to each other all the same.
    """

    def __init__(self, plan: Plan, device: str = "cpu") -> None:
        processes = dist.get_world_size() if dist.is_initialized() else 1
        if processes % plan.processes:
            asked = f"tp={plan.tp} x ep={plan.ep}"
            raise UnsupportedError(
                f"{processes} processes do not divide by {asked}: start a multiple of {plan.processes}"
            )
        self.sizes: Mapping[str, int] = {EP: plan.ep, TP: plan.tp, DP: processes // plan.processes}
        self.device_mesh: DeviceMesh | None = None
        self._groups: dict[tuple[str, ...], ProcessGroup] = {}
        if not dist.is_initialized():
            return
        ranks = torch.arange(processes).view(self.sizes[DP], plan.ep, plan.tp).permute(1, 2, 0).contiguous()
        self.device_mesh = DeviceMesh(device, ranks, mesh_dim_names=AXES)
        for axis in AXES:
            self._groups[axis,] = self.device_mesh.get_group(axis)
        if plan.ep > 1 and plan.tp > 1:
            self._groups[EP, TP] = self.device_mesh[EP, TP]._flatten().get_group()

    def size(self, *axes: str) -> int:
        """How many processes there are along these axes."""
        return math.prod(self.sizes[a] for a in axes)

    @property
    def at(self) -> Mapping[str, int]:
        """The coordinates of this process."""
        if self.device_mesh is None:
            return dict.fromkeys(AXES, 0)
        return {axis: self.device_mesh.get_local_rank(axis) for axis in AXES}

    def group(self, over: Iterable[str]) -> ProcessGroup | None:
        """The processes along some axes; None where that is this one alone."""
        wanted = tuple(a for a in over if self.sizes[a] > 1)
        return self._groups[wanted] if wanted else None
