"""Export: an archc checkpoint becomes a folder that Hugging Face's tools and serving engines read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from archc.hub.bare_config import config_of
from archc.hub.checkpoint import staged
from archc.hub.checkpoint_dir import CheckpointDir, Origin, copy_carried, load_checkpoint
from archc.hub.config import Config, write_config
from archc.hub.family import Family, Table, families
from archc.hub.outputs import check_apart
from archc.hub.stream import run_into
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import UnknownName, UnsupportedError
from archc.spec.model import Spec, spec_from_graph

TARGETS = ("hf",)


def export_checkpoint(
    checkpoint: Path | str | CheckpointDir,
    out: Path | str,
    to: str = "hf",
    *,
    family: str = "",
    overwrite: bool = False,
) -> Path:
    """Write a checkpoint as a Hugging Face folder: in the layout it was imported from, or its family's usual one.

    `family` names the model_type; by default the one imported from if it can still express the model, else the first
    that can.
    Raises UnsupportedError, listing all, for what the family cannot express; nothing is written then."""
    if to not in TARGETS:
        raise UnknownName("export target", to, TARGETS)
    source = checkpoint if isinstance(checkpoint, CheckpointDir) else load_checkpoint(checkpoint)
    check_apart(source.directory, Path(out))
    origin = source.origin if source.origin and family in ("", source.origin.family) else None
    with _offering_package(source):
        spec = spec_from_graph(source.graph)
        config = config_of(spec, family, origin.config if origin else None)
    made = families()[config["model_type"]]
    table = _table(made, spec, source, origin)
    weights = WeightMap.compose(_readable(source, table), _with_copies(table, made, origin))
    with staged(out, overwrite=overwrite) as folder:
        write_config(_with_quantisation(config, table), folder / "config.json")
        copy_carried(source.directory, folder)
        run_into(folder, weights, source.tensors, shards=_shards(origin, weights))
    return Path(out)


@contextlib.contextmanager
def _offering_package(source: CheckpointDir) -> Iterator[None]:
    """Say, where no format can express a model, what can."""
    try:
        yield
    except UnsupportedError as error:
        error.args = (f"{error}\na package says any model: archc compile {source.directory} -o PACKAGE",)
        raise


def _table(family: Family, spec: Spec, source: CheckpointDir, origin: Origin | None) -> Table:
    """The layout imported from, or the usual one, among those that keep packed what the checkpoint has packed.

    Where none does, a plain one: packed weights are then written dequantised."""
    order = sorted(family.layouts, key=lambda layout: origin is None or layout != origin.layout)
    tables = [family.checked_table(spec, layout) for layout in order]
    packed = {key: how.format for key, how in source.packed.items()}
    fitting = [table for table in tables if dict(table.packed) == packed]
    return [*fitting, *(table for table in tables if not table.packed)][0]


def _readable(source: CheckpointDir, table: Table) -> WeightMap:
    """What the table reads over what the checkpoint stores: the same, or packed weights dequantised."""
    return WeightMap.identity(source.tensors.names) if table.packed else source.logical


def _with_copies(table: Table, family: Family, origin: Origin | None) -> WeightMap:
    """The foreign tensors, with the copies that the source had or the family needs."""
    wanted = set(table.copies) if family.needs_copies else set(origin.copies if origin else ())
    copies = {name: table.to_foreign[of] for name, of in table.copies.items() if name in wanted}
    return WeightMap(table.to_foreign | copies)


def _shards(origin: Origin | None, weights: WeightMap) -> Mapping[str, Sequence[str]] | None:
    """The files of the source where the tensors are still the same ones."""
    if origin is None or sorted(weights.params) != sorted(n for names in origin.shards.values() for n in names):
        return None
    return origin.shards


def _with_quantisation(config: Config, table: Table) -> Config:
    """The config with a `quantization_config` where, and only where, the layout has packed weights."""
    formats = set(table.packed.values())
    kept = {k: v for k, v in config.items() if k != "quantization_config"}
    if not formats:
        return kept
    (method,) = formats
    return kept | {"quantization_config": config.get("quantization_config", {"quant_method": method})}
