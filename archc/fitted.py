"""Files of tensors fitted on data, which passes refer to by path, key and hash (`File` leaves of a WeightMap)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from archc.kernels.errors import WeightError

if TYPE_CHECKING:
    from torch import Tensor


def write_fitted(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write the tensors as one safetensors file; returns its sha256, by which a pass names it."""
    from archc.hub.safetensors_io import Outgoing, write_file
    from archc.hub.stream import file_sha256

    write_file(file, [Outgoing.of(name, tensor) for name, tensor in tensors.items()], {})
    return file_sha256(file)


def keep_fitted(path: str, source: Path, folder: Path) -> None:
    """Copy a file of fitted tensors to the same place below another folder. Raises WeightError where there is none.

    The folder is a new checkpoint's, whose own files a fitted one cannot be."""
    file, target = (source / path).resolve(), (folder / path).resolve()
    if not file.is_relative_to(source.resolve()) or not target.is_relative_to(folder.resolve()) or not file.is_file():
        raise WeightError(f"{path}: no such file below {source}")
    if target.exists() or Path(path).name.startswith("model"):
        raise WeightError(f"{path}: a new checkpoint has a file of its own that is called so")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
