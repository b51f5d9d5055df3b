"""archc: design, cost, compress and compile hybrid language models from one declaration.

Public names (each loads what it needs on first use; `import archc` itself loads nothing heavy):

- `apply(graph, pipeline)`: the graph after some passes, and the map that carries its weights
- `compile(model, out)`: a package of plain torch that trains and serves
- `cost(model, hardware="a10g", context="128k")`: parameters, memory, FLOPs, latency
- `diff(a, b, hardware="a10g")`: what differs between two models, in words, and what each difference costs
- `errors`: every error archc raises on purpose, as one tree
- `load(model)`: the graph of a spec, a zoo name, a checkpoint, a package, IR text or a Hugging Face config
- `run_search(file, folder)`: the candidates of a search under budgets, by its YAML file
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archc.comparison import diff as diff
    from archc.compilation import compile_model as compile
    from archc.kernels import errors as errors
    from archc.passes.pipeline import apply as apply
    from archc.resolve import load as load
    from archc.searching.start import run_search as run_search
    from archc.sheet import cost as cost

__version__ = "0.1.0"

# Public name -> "module" or "module:attribute" that holds it.
_HOME = {
    "apply": "archc.passes.pipeline:apply",
    "compile": "archc.compilation:compile_model",
    "cost": "archc.sheet:cost",
    "diff": "archc.comparison:diff",
    "errors": "archc.kernels.errors",
    "load": "archc.resolve:load",
    "run_search": "archc.searching.start:run_search",
}

__all__ = ["apply", "compile", "cost", "diff", "errors", "load", "run_search"]


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
