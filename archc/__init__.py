"""archc: design, cost, compress and compile hybrid language models from one declaration.

Public names (each loads what it needs on first use; `import archc` itself loads nothing heavy):

- `errors`: every error archc raises on purpose, as one tree
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archc.kernels import errors as errors

__version__ = "0.1.0"

# Public name -> "module" or "module:attribute" that holds it.
_HOME = {
    "errors": "archc.kernels.errors",
}

__all__ = ["errors"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module `archc` has no attribute `{name}`; public names are {', '.join(__all__)}")
    module, _, attribute = home.partition(":")
    value = importlib.import_module(module)
    return getattr(value, attribute) if attribute else value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
