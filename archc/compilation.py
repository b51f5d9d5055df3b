"""`archc compile`: a model as a package that runs without archc, with weights from a checkpoint, a seed, or none."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.kernels.errors import ArchcError, WeightError

if TYPE_CHECKING:
    from torch import Tensor

    from archc.hub.checkpoint_dir import CheckpointDir
    from archc.ir.graph import Graph

Fill = Callable[[Path], None]


def compile_model(
    model: str | Graph,
    out: str | Path,
    *,
    weights: Mapping[str, Tensor] | str | Path | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    command: str = "",
) -> Path:
    """Compile a model (a graph, or anything that `archc.load` takes) to the package `out`; returns the folder.

    Weights are `weights` (an archc checkpoint, or tensors by `<scope>.<param>`), or drawn from `seed` in fp32, or those
    of `model` where it is a checkpoint; else there are none. Tokenizer files of a checkpoint travel along. Raises
    ArchcError for a folder name that Python cannot import, and for a folder that is there, unless `overwrite` and a
    package; WeightError for weights of another model.
    """
    from archc.codegen import emit_package
    from archc.ir.graph import Graph

    if weights is not None and seed is not None:
        raise ArchcError("weights come from a checkpoint or from a seed: give one of the two")
    graph = model if isinstance(model, Graph) else _load(model)
    return emit_package(graph, out, fill=_filler(graph, model, weights, seed), overwrite=overwrite, command=command)


def _filler(graph: Graph, model: Any, weights: Any, seed: int | None) -> Fill | None:
    """What writes the weights; None where there are none."""
    if seed is not None:
        return _fresh(graph, seed)
    if isinstance(weights, Mapping):
        _check(graph, "the weights given", {key: tuple(tensor.shape) for key, tensor in weights.items()})
        return _in_memory(weights)
    source = _checkpoint(model, weights)
    return None if source is None else _streamed(graph, source)


def _fresh(graph: Graph, seed: int) -> Fill:
    """Writes fresh weights in fp32, one at a time."""
    from archc.hub.checkpoint import write_tensors
    from archc.hub.safetensors_io import Outgoing
    from archc.ir.init import each_weight
    from archc.progress import bar

    shapes = graph.weight_shapes()

    def fill(folder: Path) -> None:
        with bar("weights", 4 * sum(map(math.prod, shapes.values())), unit="bytes") as advance:

            def pieces(make: Callable[[], Tensor]) -> Iterator[Tensor]:
                yield (tensor := make())
                advance(tensor.nbytes)

            made = each_weight(graph, seed=seed)
            write_tensors(folder, (Outgoing(k, "fp32", shapes[k], functools.partial(pieces, make)) for k, make in made))

    return fill


def _in_memory(weights: Mapping[str, Tensor]) -> Fill:
    from archc.hub.checkpoint import write_tensors
    from archc.hub.safetensors_io import Outgoing

    def fill(folder: Path) -> None:
        write_tensors(folder, (Outgoing.of(key, tensor.detach().cpu()) for key, tensor in weights.items()))

    return fill


def _load(model: str) -> Graph:
    from archc.resolve import load

    return load(model)


def _checkpoint(model: Any, weights: str | Path | None) -> CheckpointDir | None:
    """The checkpoint that weights come from."""
    from archc.hub.checkpoint_dir import is_checkpoint_dir, load_checkpoint

    if weights is not None:
        return load_checkpoint(weights)
    return load_checkpoint(model) if isinstance(model, str | Path) and is_checkpoint_dir(Path(model)) else None


def _streamed(graph: Graph, source: CheckpointDir) -> Fill:
    """Writes a checkpoint's weights, streamed, and the files that travel along."""
    from archc.hub.checkpoint_dir import copy_carried
    from archc.hub.stream import run_into

    _check(graph, f"the weights in {source.directory}", source.graph.weight_shapes())

    def fill(folder: Path) -> None:
        run_into(folder, source.logical, source.tensors)
        copy_carried(source.directory, folder)

    return fill


def _check(graph: Graph, what: str, found: Mapping[str, tuple[int, ...]]) -> None:
    """Raise WeightError that lists every weight that is not one of the graph's."""
    wanted = graph.weight_shapes()
    wrong = [f"{k}: missing, expected {list(s)}" for k, s in wanted.items() if k not in found]
    wrong += [f"{k}: not in the model" for k in found if k not in wanted]
    wrong += [f"{k}: {list(found[k])}, expected {list(s)}" for k, s in wanted.items() if found.get(k, s) != s]
    if wrong:
        raise WeightError("\n  ".join([f"{what} are those of another model than `{graph.name}`:", *wrong]))
