"""Files of tensors fitted on data, which passes refer to by path, key and hash (`File` leaves of a WeightMap)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def write_fitted(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write the tensors as one safetensors file; returns its sha256, by which a pass names it."""
    from archc.hub.safetensors_io import Outgoing, write_file
    from archc.hub.stream import file_sha256

    write_file(file, [Outgoing.of(name, tensor) for name, tensor in tensors.items()], {})
    return file_sha256(file)
