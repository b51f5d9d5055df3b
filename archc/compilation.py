"""`archc compile`: a model as a package that runs without archc, with weights from a checkpoint, a seed, or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.kernels.errors import ArchcError, WeightError

if TYPE_CHECKING:
    from archc.hub.checkpoint_dir import CheckpointDir
    from archc.ir.graph import Graph


def compile_model(
    model: str | Graph,
    out: str | Path,
    *,
    weights: str | Path | None = None,
    seed: int | None = None,
    command: str = "",
) -> Path:
    """Compile a model (a graph, or anything that `archc.load` takes) to the package `out`; returns the folder.

    Weights come from the archc checkpoint `weights`, or are drawn from `seed` in fp32, or are those of `model` where it
    is a checkpoint; else there are none. Tokenizer files of a checkpoint travel along. Raises ArchcError for a folder
    name that Python cannot import or a folder that is something else, WeightError for weights of another model.
    """
    from archc.codegen import emit_package
    from archc.ir.graph import Graph

    if weights is not None and seed is not None:
        raise ArchcError("weights come from a checkpoint or from a seed: give one of the two")
    source = _checkpoint(model, weights, seed)
    graph = model if isinstance(model, Graph) else _load(model)
    fill = _fresh(graph, seed) if seed is not None else _fill(graph, source) if source is not None else None
    return emit_package(graph, out, fill=fill, command=command)


def _fresh(graph: Graph, seed: int) -> Callable[[Path], None]:
    """Writes fresh weights one shard at a time: the model need not fit into memory."""
    from archc.hub.checkpoint import write_tensors
    from archc.hub.safetensors_io import Outgoing
    from archc.ir.init import each_weight

    def fill(folder: Path) -> None:
        write_tensors(folder, (Outgoing.of(key, tensor) for key, tensor in each_weight(graph, seed=seed)))

    return fill


def _load(model: str) -> Graph:
    from archc.resolve import load

    return load(model)


def _checkpoint(model: Any, weights: str | Path | None, seed: int | None) -> CheckpointDir | None:
    """The checkpoint that weights come from."""
    from archc.hub.checkpoint_dir import is_checkpoint_dir, load_checkpoint

    if weights is not None:
        return load_checkpoint(weights)
    own = seed is None and isinstance(model, str) and is_checkpoint_dir(Path(model))
    return load_checkpoint(model) if own else None


def _fill(graph: Graph, source: CheckpointDir) -> Callable[[Path], None]:
    """Writes a checkpoint's weights, streamed, and the files that travel along; refuses those of another model."""
    from archc.hub.checkpoint_dir import copy_carried
    from archc.hub.stream import run_into

    wanted, found = graph.weight_shapes(), source.graph.weight_shapes()
    wrong = [f"{k}: {list(found.get(k, ()))}, expected {list(s)}" for k, s in wanted.items() if found.get(k) != s]
    wrong += [f"{k}: not in the model" for k in found if k not in wanted]
    if wrong:
        head = f"{source.directory} holds weights of another model than `{graph.name}`:"
        raise WeightError("\n  ".join([head, *wrong]))

    def fill(folder: Path) -> None:
        run_into(folder, source.logical, source.tensors)
        copy_carried(source.directory, folder)

    return fill
