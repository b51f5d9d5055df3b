"""Names that reach generated source or the file system: checked once, here."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

from archc.kernels.errors import ArchcError, GraphError

# Names that a module of the emitted source already uses.
RESERVED = frozenset(
    {
        "Any",
        "Block",
        "Callable",
        "Collection",
        "ExitStack",
        "Iterable",
        "LayerState",
        "MTP",
        "Model",
        "State",
        "Tensor",
        "check",
    }
)

# Modules that an emitted package or its user imports: a folder of that name on the path would stand before them.
SHADOWED = sys.stdlib_module_names | {"archc", "numpy", "safetensors", "torch"}

# What emitted models have beside the modules of their graph.
MEMBERS = frozenset({"decode", "embed", "hidden", "layers", "logits", "mtp", "new_state", "prefill", "step", "steps"})


def is_name(text: str) -> bool:
    """Whether a text is an ASCII identifier and no keyword."""
    return text.isascii() and text.isidentifier() and not keyword.iskeyword(text)


def checked(kind: str, name: str) -> str:
    """A name that may stand in source; raises GraphError otherwise."""
    if not is_name(name):
        raise GraphError(f"{kind} {name!r} cannot stand in generated source: it must be an identifier")
    return name


def member(kind: str, name: str) -> str:
    """A name that may become an attribute of an emitted module; raises GraphError for one that is taken."""
    from torch import nn

    if hasattr(nn.Module(), name) or name in MEMBERS:
        raise GraphError(f"{kind} `{name}` cannot be an attribute of an emitted module: the name is taken")
    return checked(kind, name)


def package_name(folder: Path) -> str:
    """The name of a package's folder; raises ArchcError with a suggestion where importing it would not do."""
    name = folder.name
    if is_name(name) and name not in SHADOWED:
        return name
    better = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "model"
    better = better if is_name(better) and better not in SHADOWED else f"model_{better}"
    rule = "would hide the module of that name" if name in SHADOWED else "is not an identifier"
    message = f"a package is imported by its folder's name, and `{name}` {rule}"
    raise ArchcError(f"{message}: try `{folder.parent / better}`")
