"""The weights of an emitted package as safetensors, sharded where they are large."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from archc.ir.execute import check_weights
from archc.ir.graph import Graph
from archc.kernels.errors import WeightError

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 5 * 10**9


def write_weights(graph: Graph, weights: Mapping[str, Tensor], folder: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write `model.safetensors`, or shards of at most `shard_bytes` with an index, in the order of the graph.

    Raises WeightError where weights are missing, misshapen or unknown.
    """
    from safetensors.torch import save_file

    check_weights(graph, weights)
    keys = list(graph.weight_shapes())
    if unknown := sorted(set(weights) - set(keys)):
        raise WeightError("weights that the graph does not have:\n" + "\n".join(f"  {key}" for key in unknown))
    shards = list(_shards(keys, weights, shard_bytes))
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
        places = {key: name for name, part in zip(names, shards, strict=True) for key in part}
        index = json.dumps({"metadata": {}, "weight_map": places}, indent=1)
        (folder / "model.safetensors.index.json").write_text(index + "\n")
    for name, part in zip(names, shards, strict=True):
        save_file({key: weights[key].detach().cpu().contiguous() for key in part}, folder / name, {"format": "pt"})


def _shards(keys: list[str], weights: Mapping[str, Tensor], shard_bytes: int) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for key in keys:
        nbytes = weights[key].nbytes
        if part and size + nbytes > shard_bytes:
            yield part
            part, size = [], 0
        part.append(key)
        size += nbytes
    yield part
