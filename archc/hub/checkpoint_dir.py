"""archc's own checkpoint folder: the graph, its weights, what lies beside them, and how they came about.

model.ir            the graph in IR text: what the weights are weights of
spec.yaml           the same model as a spec, for people (absent where no spec can say it)
model*.safetensors  the weights under `<scope>.<param>`; a packed one as `<scope>.<param>.<part>`
origin.json         the foreign family, layout and config that it was imported from, if it was
history.json        what was done to it, oldest first
tokenizer.json ...  tokenizer files, chat template and generation config, carried along untouched
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc import __version__
from archc.graphfile import read_graph
from archc.hub.checkpoint import Checkpoint, is_file_name, staged
from archc.ir.formats import get_format
from archc.ir.graph import Graph
from archc.ir.op import Param
from archc.ir.text import CHECKPOINT_GRAPH, PACKAGE_GRAPH, print_graph
from archc.ir.weight_expr import Dequantise, Old, Transpose, WeightExpr
from archc.ir.weight_formats import packing
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import UnsupportedError, WeightError

if TYPE_CHECKING:
    from torch import Tensor

GRAPH = CHECKPOINT_GRAPH
SPEC, ORIGIN, HISTORY = "spec.yaml", "origin.json", "history.json"
MAX_TEXT_BYTES = 64 * 2**20

# Files that say which token has which id.
VOCABULARY_FILES = (
    "archc_tokenizer.json",  # bytes: archc.train.bytes
    "tokenizer.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "tokenizer.tiktoken",
    "tiktoken.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
# What travels along, untouched, with every model that is made from one.
CARRIED_FILES = (
    *VOCABULARY_FILES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
CARRIED_FOLDERS = ("additional_chat_templates",)

Step = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint was imported from: what export needs to write it as it was.

    `copies` are tensors that stood in the file as copies of another (a tied head); `shards` has the tensors of each
    file, without those that the table drops."""

    family: str
    layout: str
    config: dict[str, Any]
    copies: tuple[str, ...] = ()
    shards: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Packed:
    """How a weight is stored packed: parts of `format` of the weight itself or, when `turned`, of the weight with its
    last two of three axes the other way round."""

    format: str
    turned: bool = False

    def expr(self, key: str) -> WeightExpr:
        """The weight as an expression over its stored parts."""
        parts = tuple(Old(f"{key}.{part.name}") for part in packing(self.format).parts)
        whole = Dequantise(parts, self.format)
        return Transpose(whole, (0, 2, 1)) if self.turned else whole

    def shapes(self, key: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Shape of each stored part of a weight of `shape`."""
        made = packing(self.format)
        logical = (shape[0], shape[2], shape[1]) if self.turned else shape
        return {f"{key}.{part.name}": made.packed_shape(part.name, logical) for part in made.parts}


def packed_weights(graph: Graph) -> dict[str, Packed]:
    """The weights of a graph that are stored packed, by key: those whose format packs several elements a byte.

    Blocks lie along the axis that products sum over, which is then stored last."""
    found: dict[str, Packed] = {}
    for node, param in graph.params():
        chosen = get_format(graph.weight_format(node, param.name))
        if chosen.block:
            found[f"{graph.scopes[node.id]}.{param.name}"] = Packed(chosen.name, _turned(param))
    return found


def logical_weights(graph: Graph) -> WeightMap:
    """Every weight of a graph over the tensors that a checkpoint stores: itself, or its parts dequantised."""
    packed = packed_weights(graph)
    return WeightMap({k: packed[k].expr(k) if k in packed else Old(k) for k in graph.weight_shapes()})


def _turned(param: Param) -> bool:
    """Whether the contracted axis is the last but one of three."""
    if param.contracts is None or param.axes[-1] == param.contracts:
        return False
    if len(param.axes) == 3 and param.axes[1] == param.contracts:
        return True
    raise UnsupportedError(f"`{param.name}` cannot be packed along {param.contracts}: its axes are {param.axes}")


def stored_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Shape of every stored tensor of a checkpoint of `graph`."""
    packed = packed_weights(graph)
    shapes: dict[str, tuple[int, ...]] = {}
    for key, shape in graph.weight_shapes().items():
        shapes |= packed[key].shapes(key, shape) if key in packed else {key: shape}
    return shapes


@dataclass(frozen=True)
class CheckpointDir:
    """An archc checkpoint folder, opened: everything but the weights is read, the weights are when asked for."""

    directory: Path
    graph: Graph
    tensors: Checkpoint
    origin: Origin | None = None
    history: tuple[Step, ...] = field(default=())

    @functools.cached_property
    def packed(self) -> Mapping[str, Packed]:
        """The weights that are stored packed."""
        return packed_weights(self.graph)

    @functools.cached_property
    def logical(self) -> WeightMap:
        """Every weight of the graph over the stored tensors: itself, or its parts dequantised."""
        return logical_weights(self.graph)

    def weights(self) -> dict[str, Tensor]:
        """Every weight in memory, packed ones dequantised (to bf16, which holds them exactly)."""
        from archc.ir.weight_eval import evaluate

        return {key: evaluate(expr, self.tensors.read) for key, expr in self.logical.params.items()}


def is_checkpoint_dir(path: Path) -> bool:
    """Whether a folder is an archc checkpoint."""
    return (path / GRAPH).is_file()


def load_checkpoint(directory: str | Path) -> CheckpointDir:
    """Open an archc checkpoint folder.

    Raises WeightError, ParseError or GraphError, each saying all that is wrong."""
    folder = Path(directory)
    if not is_checkpoint_dir(folder):
        raise WeightError(f"{folder}: {_what_it_is(folder)}")
    graph = read_graph(folder / GRAPH)
    tensors = Checkpoint(folder)
    _check_shapes(folder, stored_shapes(graph), tensors)
    history = tuple(_read_json(folder / HISTORY, list)) if (folder / HISTORY).is_file() else ()
    return CheckpointDir(folder, graph, tensors, _read_origin(folder), history)


def _what_it_is(folder: Path) -> str:
    """What a folder that is no checkpoint is, and what to do."""
    if not folder.is_dir():
        return "not an archc checkpoint: " + ("expected a folder, got a file" if folder.is_file() else "no such folder")
    if (folder / PACKAGE_GRAPH).is_file():
        return "a compiled package, not a checkpoint: give the checkpoint that it was compiled from"
    hint = ": import it first with `archc import`" if (folder / "config.json").is_file() else ""
    return f"not an archc checkpoint, it has no {GRAPH}{hint}"


def _check_shapes(folder: Path, wanted: Mapping[str, tuple[int, ...]], tensors: Checkpoint) -> None:
    problems = [f"`{n}` is missing, expected {list(s)}" for n, s in wanted.items() if n not in tensors]
    problems += [f"`{n}` is no weight of the graph" for n in tensors.names if n not in wanted]
    for name, shape in wanted.items():
        if name in tensors and tensors.shapes[name] != shape:
            problems.append(f"`{name}` has shape {list(tensors.shapes[name])}, expected {list(shape)}")
    if problems:
        raise WeightError("\n".join([f"{folder}: the weights do not fit {GRAPH}:", *problems]))


def _read_origin(folder: Path) -> Origin | None:
    if not (folder / ORIGIN).is_file():
        return None
    found = _read_json(folder / ORIGIN, dict)
    try:
        origin = Origin(**{**found, "copies": tuple(found["copies"])})
    except (KeyError, TypeError) as error:
        raise WeightError(f"{folder / ORIGIN}: corrupted: {error}") from None
    if not _are_shards(origin.shards):
        raise WeightError(f"{folder / ORIGIN}: corrupted: `shards` must list the tensors of safetensors files here")
    return origin


def _are_shards(value: Any) -> bool:
    """Whether this lays tensors out in files: plain file names, each with a list of names."""
    if not isinstance(value, dict) or not all(map(is_file_name, value)):
        return False
    return all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in value.values())


def _read_text(file: Path) -> str:
    if file.stat().st_size > MAX_TEXT_BYTES:
        raise WeightError(f"{file}: too large: {file.stat().st_size} bytes")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WeightError(f"{file}: corrupted: {error}") from None


def _read_json(file: Path, kind: type[Any]) -> Any:
    try:
        found = json.loads(_read_text(file))
    except (ValueError, RecursionError) as error:
        raise WeightError(f"{file}: corrupted: {error}") from None
    if not isinstance(found, kind):
        raise WeightError(f"{file}: expected a JSON {kind.__name__}, got {type(found).__name__}")
    return found


# -- writing -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def new_checkpoint(
    directory: str | Path,
    graph: Graph,
    step: Step,
    *,
    parent: CheckpointDir | None = None,
    origin: Origin | None = None,
    files: Path | None = None,
    overwrite: bool = False,
) -> Iterator[Path]:
    """A staged folder with everything but the weights, which the block writes (`run_into`, `write_tensors`).

    `step` says what is done, and follows the history of `parent`, whose origin it keeps unless one is given; files
    that travel along come from `files` or the parent. Nothing is left when the block fails."""
    source = files or (parent.directory if parent else None)
    with staged(directory, overwrite=overwrite) as folder:
        describe(folder, graph, step, parent=parent, origin=origin)
        if source is not None:
            copy_carried(source, folder)
        yield folder


def describe(
    folder: Path, graph: Graph, step: Step, *, parent: CheckpointDir | None = None, origin: Origin | None = None
) -> None:
    """Write what a folder's weights are and how they came about, as `new_checkpoint` does, into a staged one."""
    origin = origin or (parent.origin if parent else None)
    (folder / GRAPH).write_text(print_graph(graph), encoding="utf-8")
    _write_spec(folder / SPEC, graph)
    if origin is not None:
        (folder / ORIGIN).write_text(json.dumps(asdict(origin), indent=2) + "\n", encoding="utf-8")
    _write_history(folder, [*(parent.history if parent else ()), step])


def write_checkpoint_dir(
    directory: str | Path, graph: Graph, weights: Mapping[str, Tensor], step: Step, **more: Any
) -> CheckpointDir:
    """A checkpoint folder of weights in memory (trained or fresh); `more` as for `new_checkpoint`."""
    from archc.hub.checkpoint import write_tensors
    from archc.hub.safetensors_io import Outgoing

    with new_checkpoint(directory, graph, step, **more) as folder:
        write_tensors(folder, (Outgoing.of(name, tensor) for name, tensor in weights.items()))
        _check_shapes(folder, stored_shapes(graph), Checkpoint(folder))
    return load_checkpoint(directory)


def _write_spec(file: Path, graph: Graph) -> None:
    """The graph as a spec for people; none where a spec cannot say it, which loses nothing."""
    from archc.spec.model import spec_from_graph

    with contextlib.suppress(UnsupportedError):
        text = spec_from_graph(graph).to_yaml()
        file.write_text(f"# For people: {GRAPH} is what the weights belong to.\n{text}", encoding="utf-8")


def _write_history(folder: Path, steps: Sequence[Step]) -> None:
    stamped = [*steps[:-1], {**steps[-1], "archc": __version__}]
    (folder / HISTORY).write_text(json.dumps(stamped, indent=2) + "\n", encoding="utf-8")


def copy_carried(source: Path, target: Path) -> None:
    """Copy tokenizer files, chat template and generation config; contents of links, not the links."""
    for name in CARRIED_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    for name in CARRIED_FOLDERS:
        for file in sorted((source / name).glob("*.jinja")):
            (target / name).mkdir(exist_ok=True)
            shutil.copyfile(file, target / name / file.name)
