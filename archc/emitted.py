"""Importing a package that `archc compile` wrote, from wherever it lies."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, get_args

from archc.kernels.errors import ArchcError, UnknownName, UnsupportedError

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16", "float64"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
_REQUIRED = ("__init__.py", "modeling.py", "config.json")


def is_emitted(folder: Path) -> bool:
    """Whether `folder` is a package that `archc compile` wrote."""
    return all((folder / name).is_file() for name in _REQUIRED)


def import_emitted(folder: Path) -> ModuleType:
    """Import the package in `folder`, whose path may be anything; the same folder is imported once.

    Raises ArchcError where the folder is not such a package.
    """
    if not folder.is_dir():
        raise ArchcError(f"no such folder: {folder}")
    if not is_emitted(folder):
        raise ArchcError(f"{folder} is not a compiled package: make one with `archc compile MODEL -o {folder}`")
    path = folder.resolve()
    name = "archc_emitted_" + "".join(c if c.isalnum() else f"_{ord(c):x}_" for c in str(path))
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path / "__init__.py", submodule_search_locations=[str(path)])
    if spec is None or spec.loader is None:
        raise ArchcError(f"{folder} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_emitted(folder: Path, *, device: str = "cpu", dtype: str = "float32") -> Any:
    """The model of a compiled package, weights loaded: `load(device, dtype)` of the package in `folder`."""
    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, DTYPES)
    import torch

    package = import_emitted(folder)
    check_device(device)
    return package.load(device=device, dtype=getattr(torch, dtype))


def check_device(device: str) -> None:
    """Raise UnsupportedError for a device that torch does not know or this machine does not have."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UnsupportedError(f"device `{device}` cannot be used: {str(error).splitlines()[0]}") from None
