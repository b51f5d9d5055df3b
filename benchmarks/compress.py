"""Streaming compression against copying: `python benchmarks/compress.py [--gib 8]`.

A synthetic sharded checkpoint is width-pruned to about half, three times, each beside `cp` of a file of
(bytes read + bytes written) / 2 on the same disk; first with what both read in the page cache, then with nothing of it
there. Both times end when all is on the disk. Prints the ratio of the medians and the anonymous memory of the pruning
process at its height; mapped file pages are no part of it.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from archc.hub.checkpoint import Checkpoint, write_tensors
from archc.hub.checkpoint_dir import new_checkpoint
from archc.hub.safetensors_io import Outgoing
from archc.ir.graph import Graph
from archc.spec import load_spec

SPEC = """\
archc: 1
name: wide
d_model: 4096
vocab: 64k
formats: {{weights: bf16}}
blocks:
  "*": {{attention: {{n_heads: 32, n_kv_heads: 8, head_dim: 128, rope: {{}}}}}}
  "-": {{mlp: {{d_ff: 14336, gated: true}}}}
layers: "{pairs} x [* -]"
"""
PASSES = "prune{dim=d_model, to=2944, by=random}; prune{dim=d_ff, to=9984, by=random}"
RUNS = 3
GIB = 2**30
SCRATCH = bytearray(2**22)


def main() -> None:
    """Make the checkpoint, run both three times, print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", type=float, default=8.0, help="size of the checkpoint")
    parser.add_argument("--folder", type=Path, help="on which disk; else the one of temporary files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="archc-bench-", dir=given.folder) as scratch:
        folder = Path(scratch)
        graph = made(folder / "ckpt", given.gib)
        read, largest = Checkpoint(folder / "ckpt").total_bytes, _largest(graph)
        runs = {cached: [one(folder, number, cached) for number in range(RUNS)] for cached in (True, False)}
    print(f"read {read / GIB:.2f} GiB, wrote {runs[True][0].written / GIB:.2f} GiB, largest {largest / GIB:.2f} GiB")
    for cached, timed in runs.items():
        ours, theirs = statistics.median(r.ours_s for r in timed), statistics.median(r.cp_s for r in timed)
        print(f"{_state(cached)}: compress {ours:.1f} s, cp of half of both {theirs:.1f} s: {ours / theirs:.2f} times")
    peak = max(r.peak for timed in runs.values() for r in timed)
    print(f"anonymous memory {peak / GIB:.2f} GiB at its height")


def _state(cached: bool) -> str:
    return "cached" if cached else "not cached"


def made(folder: Path, gib: float) -> Graph:
    """A checkpoint of about so many GiB, its values random bits that are finite numbers."""
    block = load_spec(SPEC.format(pairs=1)).graph()
    two = load_spec(SPEC.format(pairs=2)).graph()
    each = _bytes(two) - _bytes(block)
    graph = load_spec(SPEC.format(pairs=max(round((gib * GIB - _bytes(block)) / each) + 1, 1))).graph()
    noise = torch.randn(2**22).bfloat16()
    with new_checkpoint(folder, graph, {"step": "made"}) as staged:
        write_tensors(
            staged,
            (Outgoing(k, "bf16", s, partial(_values, s, noise)) for k, s in graph.weight_shapes().items()),
            shard_bytes=2 * GIB,
        )
    return graph


def _values(shape: tuple[int, ...], noise: torch.Tensor) -> Iterator[torch.Tensor]:
    width = math.prod(shape[1:])
    rows = max(len(noise) // width, 1)
    for start in range(0, shape[0], rows):
        count = min(rows, shape[0] - start)
        yield noise[: count * width].view(count, *shape[1:])


def _bytes(graph: Graph) -> int:
    return 2 * sum(map(math.prod, graph.weight_shapes().values()))


def _largest(graph: Graph) -> int:
    return 2 * max(map(math.prod, graph.weight_shapes().values()))


@dataclass(frozen=True)
class Timed:
    """Seconds of ours and of cp; bytes that ours wrote, and the most anonymous memory it had."""

    ours_s: float
    cp_s: float
    written: int
    peak: int


def one(folder: Path, number: int, cached: bool) -> Timed:
    """One run of ours and one of cp."""
    out, shards = folder / "out", sorted((folder / "ckpt").glob("*.safetensors"))
    command = [sys.executable, "-m", "archc", "compress", str(folder / "ckpt"), "--passes", PASSES, "-o", str(out)]
    prepare(shards, cached)
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = Peak(process.pid)
    if process.wait():
        raise SystemExit(f"archc compress failed: {' '.join(command)}")
    os.sync()
    ours = time.monotonic() - began
    written = Checkpoint(out).total_bytes
    shutil.rmtree(out)
    theirs = copied(folder, shards, (Checkpoint(folder / "ckpt").total_bytes + written) // 2, cached)
    print(
        f"{_state(cached)}, run {number + 1}: {ours:.1f} s, cp {theirs:.1f} s, {peak.bytes / GIB:.2f} GiB", flush=True
    )
    return Timed(ours, theirs, written, peak.bytes)


def copied(folder: Path, shards: Sequence[Path], size: int, cached: bool) -> float:
    """Seconds that cp takes for a file of that size, made of the checkpoint's own bytes."""
    source, target = folder / "half", folder / "copy"
    with source.open("wb") as f:
        for shard in shards:
            with shard.open("rb") as part:
                shutil.copyfileobj(part, f, 2**24)
    os.truncate(source, size)
    forget(shards)
    prepare([source], cached)
    began = time.monotonic()
    subprocess.run(["cp", str(source), str(target)], check=True)
    os.sync()
    seconds = time.monotonic() - began
    source.unlink()
    target.unlink()
    return seconds


def prepare(files: Sequence[Path], cached: bool) -> None:
    """Files on the disk, and in the page cache or not; read in both cases, so that as much memory was in use before."""
    forget(files)
    for file in files:
        with file.open("rb", buffering=0) as f:
            while f.readinto(SCRATCH):
                pass
    if not cached:
        forget(files)


def forget(files: Sequence[Path]) -> None:
    """Write everything to the disk and leave nothing of these files in the page cache."""
    os.sync()
    for file in files:
        with file.open("rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Peak:
    """The most anonymous memory that a process and its children have had, looked at every few milliseconds."""

    def __init__(self, pid: int) -> None:
        self.pid, self.bytes = pid, 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                text = Path(f"/proc/{self.pid}/status").read_text()
            except OSError:
                return
            anonymous = next((line for line in text.splitlines() if line.startswith("RssAnon")), "RssAnon: 0 kB")
            self.bytes = max(self.bytes, int(anonymous.split()[1]) * 1024)
            time.sleep(0.01)


if __name__ == "__main__":
    main()
