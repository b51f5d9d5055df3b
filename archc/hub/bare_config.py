"""Bare Hugging Face configs: specs from them and for them, without weights and without torch."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archc.hub.config import CARRIED, Config, config_file, named_in_errors, read_config
from archc.hub.family import Family, families, family_of, shorten
from archc.hub.fit import distance
from archc.kernels.errors import ArchcError, UnknownName, UnsupportedError, quoted
from archc.spec.model import Spec

logger = logging.getLogger(__name__)

TORCH_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def spec_from_config(source: Path | str | Mapping[str, Any], name: str = "") -> Spec:
    """The spec of a bare config.json: a file, a folder with one, or its contents.

    Fields that no table knows are named in a warning of the log. Raises UnknownName for an unknown model_type,
    WeightError and UnsupportedError for what cannot be read, each with the file where there is one."""
    check_name(name)
    config = read_config(source)
    file = config_file(source) if isinstance(source, str | Path) else None
    with named_in_errors(file):
        family = family_of(config)
        spec = family.read(config, name or _name(config, source))
    strange = family.unread(config)
    if strange:
        listed = ", ".join(strange)
        logger.warning(
            "%s: fields of `%s` that archc does not read: %s", file or "the config", family.model_type, listed
        )
    return spec


def config_of(spec: Spec, family: str = "", source: Config | None = None) -> Config:
    """The Hugging Face config of a spec: of `family`, else of that of `source`, else of the first that can express it.

    Fields of `source` that say nothing of the architecture travel along. Raises UnknownName for a family that there
    is not, UnsupportedError, listing all, for what the family (the nearest one, if none is named) cannot express."""
    known = families()
    if family and family not in known:
        raise UnknownName("model_type", family, known)
    source = source if source is not None else {"torch_dtype": _torch_dtype(spec)}
    if family:
        return known[family].write(spec, source)
    own = source.get("model_type")
    for one in sorted(known.values(), key=lambda one: one.model_type != own):
        kept = source if one.model_type == own else _carried(source, one)
        if not one.violations(spec, kept):
            return one.write(spec, kept)
    broken = {name: one.violations(spec) for name, one in known.items()}
    near = min(broken, key=lambda name: distance(spec, broken[name]))
    lines = shorten([str(one) for one in broken[near]])
    others = ", ".join(name for name in known if name != near)
    head = f"no foreign family can express `{spec.name}`; `{near}` comes nearest, and cannot say:"
    raise UnsupportedError("\n".join([head, *lines, f"further off are {others}"]))


def _carried(source: Config, family: Family) -> Config:
    """What travels from one family's config to another's."""
    return {k: v for k, v in source.items() if k in CARRIED | family.harmless}


def _torch_dtype(spec: Spec) -> str:
    return TORCH_DTYPES.get(dict(spec.formats).get("weights", "bf16"), "bfloat16")


def check_name(name: str) -> None:
    """Raise ArchcError for what cannot name a model: a spec and the text form could not be read again."""
    if name != (clean := _in_letters(name)):
        hint = f": did you mean {quoted(clean)}?" if clean else ""
        raise ArchcError(f"{quoted(name)} cannot name a model: letters and digits joined by `.`, `_` or `-` do{hint}")


def _name(config: Config, source: Path | str | Mapping[str, Any]) -> str:
    """A name for the model, in the letters that a spec allows: the folder's, else what the config says."""
    raw = str(config.get("_name_or_path") or "").rstrip("/").rpartition("/")[2]
    if isinstance(source, str | Path):
        path = Path(source).resolve()
        folder = path.parent if path.is_file() else path
        # the cache of Hugging Face: models--nvidia--Minitron-4B-Base/snapshots/<commit>
        cached = folder.parent.name == "snapshots"
        raw = folder.parent.parent.name.rpartition("--")[2] if cached else folder.name
    return _in_letters(raw) or config["model_type"]


def _in_letters(name: str) -> str:
    """A name in the letters that a spec allows."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-")[:100].strip("._-")
