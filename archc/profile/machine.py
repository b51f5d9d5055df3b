"""What a machine reaches on plain work: matrix products by format, streaming, memory."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import torch

from archc.ir.formats import get_format

MATMUL_SIZE, STREAM_BYTES, LEAST_S = 1024, 2**27, 0.3
MATMUL_FORMATS = ("fp32", "bf16", "fp16")
# Everything is timed in rounds apart in time, and the best counts: others may use the machine too.
ROUNDS = 3
# Slower than this, a format has no units of its own and is not worth a rate.
LEAST_PART = 0.05


def dtype_of(fmt: str) -> torch.dtype:
    """The torch dtype of a format that tensors can be made of."""
    return getattr(torch, get_format(fmt).torch_dtype)  # type: ignore[no-any-return]


def matmul_flops_s(fmt: str, device: torch.device) -> float:
    """FLOP/s of a large matrix product in a format."""
    a, b = (torch.randn(MATMUL_SIZE, MATMUL_SIZE, device=device).to(dtype_of(fmt)) for _ in range(2))
    return 2 * MATMUL_SIZE**3 / least_s(lambda: a @ b, device)


def matmul_rates(device: torch.device) -> dict[str, float]:
    """FLOP/s by format; formats that the device emulates are left out, bf16 at the rate of the fastest then."""
    rounds = [{fmt: matmul_flops_s(fmt, device) for fmt in MATMUL_FORMATS} for _ in range(ROUNDS)]
    found = {fmt: max(rates[fmt] for rates in rounds) for fmt in MATMUL_FORMATS}
    best = max(found.values())
    kept = {fmt: rate for fmt, rate in found.items() if rate >= LEAST_PART * best}
    return {"bf16": best, **kept}


def stream_bytes_s(device: torch.device) -> float:
    """Bytes per second, read and written, of a copy larger than caches."""
    source = torch.ones(STREAM_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2 * STREAM_BYTES / least_s(lambda: target.copy_(source), device)


def memory_bytes(device: torch.device) -> int:
    """Memory that programs may use."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def title(device: torch.device) -> str:
    """What the device is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds: those that passed, or on one CPU thread those that this process worked.

    The two are the same on a quiet machine; what other programs take is not in the second."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def least_s(run: Callable[[], Any], device: torch.device) -> float:
    """The least time of a call, repeated for a while."""
    run()
    now = clock(device)
    least, until = float("inf"), time.perf_counter() + LEAST_S
    while time.perf_counter() < until:
        began = now()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        least = min(least, now() - began)
    return least
