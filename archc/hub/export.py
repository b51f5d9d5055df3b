"""Export: an archc checkpoint becomes a folder that Hugging Face's tools and serving engines read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from archc.hub.checkpoint import staged
from archc.hub.checkpoint_dir import CheckpointDir, Origin, copy_carried, load_checkpoint
from archc.hub.config import Config, write_config
from archc.hub.family import Family, Table, families
from archc.hub.stream import run_into
from archc.ir.weight_expr import WeightExpr
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import UnknownName, UnsupportedError
from archc.spec.model import Spec, spec_from_graph

TARGETS = ("hf",)
TORCH_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def export_checkpoint(
    checkpoint: Path | str | CheckpointDir,
    out: Path | str,
    to: str = "hf",
    *,
    family: str = "",
    overwrite: bool = False,
) -> Path:
    """Write a checkpoint as a Hugging Face folder: in the layout it was imported from, or its family's usual one.

    `family` names the model_type; by default the one imported from, else the first that can express the model.
    Raises UnsupportedError, listing all, for what the family cannot express; nothing is written then."""
    if to not in TARGETS:
        raise UnknownName("export target", to, TARGETS)
    source = checkpoint if isinstance(checkpoint, CheckpointDir) else load_checkpoint(checkpoint)
    spec = spec_from_graph(source.graph)
    made, config = _config(spec, source.origin, family)
    table = _table(made, spec, source)
    weights = WeightMap.compose(_readable(source, table), _with_copies(table, made, source.origin))
    if "mxfp4" not in table.packed.values():
        config.pop("quantization_config", None)
    with staged(out, overwrite=overwrite) as folder:
        write_config(config, folder / "config.json")
        copy_carried(source.directory, folder)
        run_into(folder, weights, source.tensors)
    return Path(out)


def config_of(spec: Spec, family: str = "") -> Config:
    """The Hugging Face config of a spec; of the first family that can express it unless one is named."""
    return _config(spec, None, family)[1]


def _config(spec: Spec, origin: Origin | None, name: str) -> tuple[Family, Config]:
    """The family to write and its config."""
    known = families()
    name = name or (origin.family if origin else "")
    if name and name not in known:
        raise UnknownName("model_type", name, known)
    source = origin.config if origin and origin.family == name else {"torch_dtype": _torch_dtype(spec)}
    if name:
        return known[name], known[name].write(spec, source)
    refusals = []
    for one in known.values():
        try:
            return one, one.write(spec, source)
        except UnsupportedError as error:
            refusals.append(str(error).splitlines()[0])
    raise UnsupportedError("\n".join([f"no foreign family can express `{spec.name}`:", *refusals]))


def _torch_dtype(spec: Spec) -> str:
    return TORCH_DTYPES.get(dict(spec.formats).get("weights", "bf16"), "bfloat16")


def _table(family: Family, spec: Spec, source: CheckpointDir) -> Table:
    """The table of the layout of the origin, or the first, among those that keep packed what the checkpoint has packed.

    Where none does, the first of all: packed weights are then written dequantised."""
    origin = source.origin.layout if source.origin and source.origin.family == family.model_type else ""
    order = sorted(family.layouts, key=lambda layout: layout != origin)
    tables = {layout: family.checked_table(spec, layout) for layout in order}
    packed = {key: how.format for key, how in source.packed.items()}
    fitting = [layout for layout, table in tables.items() if dict(table.packed) == packed]
    plain = [layout for layout, table in tables.items() if not table.packed]
    return tables[[*fitting, *plain][0]]


def _readable(source: CheckpointDir, table: Table) -> WeightMap:
    """What the table reads over what the checkpoint stores: the same, or packed weights dequantised."""
    return WeightMap.identity(source.tensors.names) if table.packed else source.logical


def _with_copies(table: Table, family: Family, origin: Origin | None) -> WeightMap:
    """The foreign tensors, with the copies that the source had or the family needs."""
    return WeightMap(table.to_foreign | dict(_copied(table, family, origin)))


def _copied(table: Table, family: Family, origin: Origin | None) -> Iterator[tuple[str, WeightExpr]]:
    wanted = set(origin.copies) if origin and origin.family == family.model_type else set()
    for name, of in table.copies.items():
        if name in wanted or family.needs_copies:
            yield name, table.to_foreign[of]
