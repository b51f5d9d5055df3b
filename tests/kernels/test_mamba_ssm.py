"""The SSD scan against the real mamba-ssm kernels, run on the CPU by Triton's interpreter.

Skipped where mamba-ssm is not installed. It needs no GPU:
`MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE pip install --no-deps --no-build-isolation mamba-ssm triton einops`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from archc.kernels.reference import LayerState, ssd_scan

MISSING = [name for name in ("mamba_ssm", "triton", "einops") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

CASES = ("whole", "packed", "pieces", "step")


@pytest.mark.parametrize("case", CASES)
def test_equals_mamba_ssm(case: str) -> None:
    """In a process of its own, since the interpreter is chosen when Triton is imported."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    run = [sys.executable, __file__, case]
    done = subprocess.run(run, env=environment, check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]


def kernels() -> Any:
    """mamba-ssm's scan and step: its packages stubbed (they import CUDA extensions), one autotuning config each."""
    from triton.runtime import autotuner

    spec = importlib.util.find_spec("mamba_ssm")
    assert spec is not None and spec.submodule_search_locations
    home = Path(spec.submodule_search_locations[0])
    for name, path in (("mamba_ssm", home), ("mamba_ssm.modules", home / "modules")):
        stub = types.ModuleType(name)
        stub.__path__ = [str(path)]
        sys.modules[name] = stub
    torch.cuda.device = lambda *a, **k: contextlib.nullcontext()  # type: ignore[assignment,misc]
    make = autotuner.Autotuner.__init__

    def with_one_config(self: Any, fn: Any, names: Any, configs: Any, *args: Any, **kwargs: Any) -> None:
        make(self, fn, names, configs[:1], *args, **kwargs)

    autotuner.Autotuner.__init__ = with_one_config
    from mamba_ssm.ops.triton.selective_state_update import selective_state_update
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    return mamba_chunk_scan_combined, selective_state_update


def inputs(tokens: int) -> tuple[torch.Tensor, ...]:
    """x, dt, A, B, C, D with 4 heads of 16 channels in 2 groups of 16 states."""
    torch.manual_seed(0)
    x, dt = torch.randn(2, tokens, 4, 16), torch.rand(2, tokens, 4)
    B, C = torch.randn(2, tokens, 2, 16), torch.randn(2, tokens, 2, 16)
    return x, dt, -torch.rand(4), B, C, torch.randn(4)


def compared(case: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(ours, theirs)."""
    scan, step = kernels()
    x, dt, A, B, C, D = inputs(72)
    state = LayerState(ssm=torch.zeros(2, 4, 16, 16))
    if case == "whole":
        y, end = scan(x, dt, A, B, C, 32, D=D, return_final_states=True)
        yield ssd_scan(x, dt, A, B, C, D, 32, None, state), y
        yield state.ssm, end
    elif case == "packed":
        segments = torch.tensor([[0] * 20 + [1] * 30 + [2] * 22, [0] * 32 + [1] * 40], dtype=torch.int32)
        yield ssd_scan(x, dt, A, B, C, D, 32, segments), scan(x, dt, A, B, C, 32, D=D, seq_idx=segments)
    elif case == "pieces":
        first, rest = slice(0, 24), slice(24, 72)
        ssd_scan(x[:, first], dt[:, first], A, B[:, first], C[:, first], D, 32, None, state)
        values = x[:, rest], dt[:, rest], A, B[:, rest], C[:, rest]
        expected = scan(*values, 32, D=D, initial_states=state.ssm.clone())
        yield ssd_scan(*values, D, 32, None, state), expected
    else:
        theirs = torch.randn(2, 4, 16, 16)
        state.ssm.copy_(theirs)
        wide_dt, wide_A = dt[:, 0, :, None].expand(2, 4, 16), A[:, None, None].expand(4, 16, 16).contiguous()
        wide_D, no_bias = D[:, None].expand(4, 16), torch.zeros(4, 16)  # theirs fails without a bias
        y = step(theirs, x[:, 0], wide_dt, wide_A, B[:, 0], C[:, 0], wide_D, dt_bias=no_bias)
        yield ssd_scan(x[:, :1], dt[:, :1], A, B[:, :1], C[:, :1], D, 32, None, state)[:, 0], y
        yield state.ssm, theirs


if __name__ == "__main__":
    for mine, expected in compared(sys.argv[1]):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
