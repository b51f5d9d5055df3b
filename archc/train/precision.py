"""Training in a narrower format: the forward and backward pass see cast weights, the optimiser keeps fp32 ones.

torch.autocast is not used: it would also narrow what the emitted model keeps wide on purpose, such as the product that
decides routing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}
MASTER = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


@contextlib.contextmanager
def narrowed(model: nn.Module, precision: str) -> Iterator[None]:
    """The model with its parameters cast while the block runs; gradients arrive at the wide ones.

    A shared parameter is cast once, so that it stays shared."""
    if DTYPES[precision] == MASTER[precision]:
        yield
        return
    cast: dict[nn.Parameter, torch.Tensor] = {}
    owned: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in model.modules():
        for name, param in module._parameters.items():
            if param is not None and param.is_floating_point():
                owned.append((module, name, param))
                if param not in cast:
                    cast[param] = param.to(DTYPES[precision])
    try:
        for module, name, param in owned:
            module._parameters[name] = cast[param]  # type: ignore[assignment]
        yield
    finally:
        for module, name, param in owned:
            module._parameters[name] = param
