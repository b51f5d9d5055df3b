"""Packages that only some of archc needs."""

from __future__ import annotations

import importlib
from typing import Any

from archc.kernels.errors import MissingPackage


def optional(package: str, *, extra: str, purpose: str) -> Any:
    """An optional package, imported; raises MissingPackage, which says what for and which pip extra has it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise MissingPackage(f"{purpose} needs `{package}`: pip install 'archc[{extra}]'") from error
