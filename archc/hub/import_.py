"""Import: a Hugging Face folder becomes an archc checkpoint, every tensor mapped, or dropped by name, or an error."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from archc.hub.bare_config import spec_from_config
from archc.hub.checkpoint import Checkpoint
from archc.hub.checkpoint_dir import CheckpointDir, Origin, load_checkpoint, new_checkpoint, stored_shapes
from archc.hub.config import Config, read_config
from archc.hub.entries import Shape
from archc.hub.family import Table, family_of, shorten
from archc.hub.outputs import check_apart
from archc.hub.stream import run_into
from archc.ir.graph import LAYERS, MTP_LAYERS
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import WeightError
from archc.spec.model import Block, Spec

# Storage types in which a weight that is not packed may come.
NUMBERS = ("fp32", "fp16", "bf16")


def import_checkpoint(source: Path | str, out: Path | str, *, name: str = "", overwrite: bool = False) -> CheckpointDir:
    """Import a Hugging Face folder (config.json and safetensors) as the archc checkpoint `out`.

    Raises WeightError, listing all tensors concerned, for a truncated, corrupted or mismatching one; nothing is
    written then."""
    folder = Path(source)
    check_apart(folder, Path(out))
    found = read_foreign(folder, name)
    origin = Origin(found.family, found.layout, found.config, found.copies, _shards(found.table, found.tensors))
    step = {"step": "import", "from": folder.resolve().name, "family": found.family, "layout": found.layout}
    with new_checkpoint(out, found.spec.graph(), step, origin=origin, files=folder, overwrite=overwrite) as staging:
        run_into(staging, found.weights, found.tensors)
    return load_checkpoint(out)


@dataclass(frozen=True)
class Foreign:
    """A Hugging Face folder, opened: its spec, and `weights`, which make archc's stored tensors of its own."""

    spec: Spec
    weights: WeightMap
    tensors: Checkpoint
    family: str
    layout: str
    config: Config
    table: Table
    copies: tuple[str, ...]


def read_foreign(folder: Path, name: str = "") -> Foreign:
    """Open a Hugging Face folder. Raises WeightError, listing all tensors concerned, where it holds not together."""
    config, tensors = read_config(folder), Checkpoint(folder)
    spec, family = spec_from_config(folder, name), family_of(config)
    layout, table = family.layout_of(spec, tensors.names)
    check_shapes(table, spec, tensors)
    copies = _checked_copies(table, tensors)
    weights = WeightMap(table.to_archc, frozenset({*copies, *filter(table.is_dropped, tensors.names)}))
    spec = with_formats(spec, table, weights.shapes(tensors.shapes), weights.dtypes(tensors.dtypes))
    return Foreign(spec, weights, tensors, family.model_type, layout, config, table, copies)


def _shards(table: Table, tensors: Checkpoint) -> dict[str, list[str]]:
    """The tensors of each file that export writes again."""
    kept = {file: [n for n in names if not table.is_dropped(n)] for file, names in tensors.shards.items()}
    return {file: names for file, names in kept.items() if names}


def check_shapes(table: Table, spec: Spec, tensors: Checkpoint) -> None:
    """Raise WeightError that lists every tensor of another shape than the config says."""
    graph = with_packed(spec, table).graph()
    wanted = WeightMap(table.to_foreign).shapes(stored_shapes(graph))
    wrong = [
        f"`{name}` has shape {list(tensors.shapes[name])}, the config says {list(shape)}"
        for name, shape in wanted.items()
        if tensors.shapes[name] != shape
    ]
    if wrong:
        raise WeightError("\n".join([f"{tensors.directory}: the tensors do not fit the config:", *shorten(wrong)]))


def _checked_copies(table: Table, tensors: Checkpoint) -> tuple[str, ...]:
    """The tensors that stand in the file as copies of others. Raises WeightError where one is not a copy."""
    copies = tuple(sorted(n for n in table.copies if n in tensors))
    for name in copies:
        if not tensors.read(name).equal(tensors.read(table.copies[name])):
            raise WeightError(f"the config ties `{name}` to `{table.copies[name]}`, but the file has different values")
    return copies


# -- formats -----------------------------------------------------------------------------------------------------------


def with_packed(spec: Spec, table: Table) -> Spec:
    """The spec with the formats of the weights that a table keeps packed."""
    return _with_block_formats(spec, table.packed)


def with_formats(spec: Spec, table: Table, shapes: Mapping[str, Shape], dtypes: Mapping[str, str]) -> Spec:
    """The spec with the formats in which its tensors are stored: the commonest for the model, others by block.

    Raises WeightError for storage types that no weight comes in."""
    plain = {key: dtype for key, dtype in dtypes.items() if key in spec.graph().weight_shapes()}
    wrong = [f"`{key}` is stored as {dtype}" for key, dtype in plain.items() if dtype not in NUMBERS]
    if wrong:
        raise WeightError("\n".join([f"weights come as {', '.join(NUMBERS)}:", *shorten(wrong)]))
    elements = Counter[str]()
    for key, dtype in plain.items():
        elements[dtype] += math.prod(shapes[key])
    common = elements.most_common(1)[0][0]
    others = {key: dtype for key, dtype in plain.items() if dtype != common}
    return replace(_with_block_formats(spec, others | dict(table.packed)), formats=(("weights", common),))


def _with_block_formats(spec: Spec, formats: Mapping[str, str]) -> Spec:
    """The spec with `formats` (by weight key) given to the blocks whose mixers they belong to."""
    if not formats:
        return spec
    by_scope: dict[str, dict[str, str]] = {}
    for key, chosen in formats.items():
        scope, _, param = key.rpartition(".")
        by_scope.setdefault(scope, {})[param] = chosen

    def formatted(region: str, blocks: Sequence[Block]) -> tuple[Block, ...]:
        given = (by_scope.get(f"{region}.{i}.mixer", {}) for i in range(len(blocks)))
        return tuple(replace(b, formats=tuple(f.items())) for b, f in zip(blocks, given, strict=True))

    mtp = spec.mtp and replace(spec.mtp, layers=formatted(MTP_LAYERS, spec.mtp.layers))
    return replace(spec, layers=formatted(LAYERS, spec.layers), mtp=mtp)
