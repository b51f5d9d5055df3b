"""Files of scores: one safetensors file, `units/<estimator>/<dim>` [rows, size] and `blocks/<estimator>` in fp64.

Its metadata say of which graph they are (`graph`, a short hash), the ids of blocks (`blocks`), and how they were
measured (`about`), the last two as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archc.ir.graph import Graph
from archc.kernels.errors import ArchcError, WeightError
from archc.passes.scores import Scores, Values

VERSION = "1"
_UNITS, _BLOCKS = "units", "blocks"


def save_scores(file: str | Path, scores: Scores) -> None:
    """Write scores, the file whole or not at all."""
    import torch

    from archc.hub.safetensors_io import Outgoing, write_file
    from archc.outfile import whole

    tensors = [Outgoing.of(name, torch.from_numpy(values)) for name, values in _named(scores)]
    tensors += [
        Outgoing.of(f"{_BLOCKS}/{by}", torch.tensor(list(found.values()), dtype=torch.float64))
        for by, found in scores.blocks.items()
    ]
    metadata = {
        "archc_scores": VERSION,
        "graph": scores.graph,
        "blocks": json.dumps({by: list(found) for by, found in scores.blocks.items()}),
        "about": json.dumps(dict(scores.about)),
    }
    with whole(Path(file)) as partial:
        write_file(partial, tensors, metadata)


def _named(scores: Scores) -> Iterator[tuple[str, Values]]:
    for by, dims in scores.units.items():
        for dim, values in dims.items():
            yield f"{_UNITS}/{by}/{dim}", values


def load_scores(file: str | Path, graph: Graph | None = None) -> Scores:
    """Read scores; with a graph, those of another that it was not made from are refused.

    Raises WeightError for a file that is corrupted, ArchcError for one that holds no scores."""
    from archc.hub.safetensors_io import read_header, read_metadata

    path = Path(file)
    stored = {t.name: t for t in read_header(path)}
    said = read_metadata(path)
    version = said.get("archc_scores")
    if version is None:
        raise ArchcError(f"{path}: not a file of scores: `archc importance MODEL -o FILE` writes one")
    if version != VERSION:
        raise ArchcError(f"{path}: scores of version {version}, expected {VERSION}: measure again")
    ids, about = (_json(path, said, name) for name in ("blocks", "about"))
    units: dict[str, dict[str, Values]] = {}
    blocks: dict[str, dict[str, float]] = {}
    for name, tensor in stored.items():
        kind, by, dim = (*name.split("/", 2), "", "")[:3]
        if tensor.dtype != "fp64":
            raise WeightError(f"{path}: corrupted: `{name}` is {tensor.dtype}, expected fp64")
        if kind == _UNITS and dim and len(tensor.shape) == 2:
            units.setdefault(by, {})[dim] = tensor.read().numpy()
        elif kind == _BLOCKS and not dim and len(ids.get(by, ())) == tensor.shape[0]:
            blocks[by] = dict(zip(ids[by], tensor.read().tolist(), strict=True))
        else:
            raise WeightError(f"{path}: corrupted: `{name}` of shape {list(tensor.shape)} is no score")
    scores = Scores(said.get("graph", ""), _in_order(units, about), _in_order(blocks, about), about)
    if graph is not None:
        check_scores(scores, graph, str(path))
    return scores


def check_scores(scores: Scores, graph: Graph, where: str = "scores") -> None:
    """Raise ArchcError for scores of a graph that is neither this one nor one that it was made from."""
    if scores.graph not in graph.ancestry:
        of = f"`{graph.name}` ({graph.short_hash}) or a graph that it was made from"
        raise ArchcError(f"{where}: made for another graph, {scores.graph or 'none'}: expected scores of {of}")


def _in_order(found: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Estimators in the order in which they were asked for; a file sorts its tensors as it likes."""
    asked = list(about.get("estimators", {}))
    return {by: found[by] for by in sorted(found, key=lambda by: asked.index(by) if by in asked else len(asked))}


def _json(path: Path, said: dict[str, str], name: str) -> dict[str, Any]:
    try:
        found = json.loads(said.get(name, ""))
    except (ValueError, RecursionError) as error:
        raise WeightError(f"{path}: corrupted: `{name}` is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise WeightError(f"{path}: corrupted: `{name}` must be a JSON object")
    return found
