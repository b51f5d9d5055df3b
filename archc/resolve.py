"""One resolver for every MODEL: a zoo name, a spec, IR text or JSON, a checkpoint, a package, a Hugging Face config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.graphfile import read_graph, verified
from archc.ir.graph import Graph
from archc.ir.text import CHECKPOINT_GRAPH, PACKAGE_GRAPH
from archc.kernels.errors import ArchcError, ParseError, Place, UnknownName
from archc.searching.folder import is_search

if TYPE_CHECKING:
    from archc.spec.model import Spec

TAKES = "a zoo name, a spec (YAML), IR text or JSON, a checkpoint, a compiled package, or a Hugging Face config.json"


def load(model: Graph | Spec | Path | str) -> Graph:
    """The verified graph of whatever names a model.

    `model` is a graph (given back as it is), a Spec, the name of a zoo model, a file (spec YAML, IR text, the JSON
    form of a graph, a Hugging Face config.json) or a folder (archc checkpoint, compiled package, Hugging Face model).
    A zoo name wins over a file of that name: write `./NAME` for the file.

    >>> load("nemotron-nano-9b-v2").dims["d_model"]
    Dim(name='d_model', size=4480, within=None, order='free', multiple_of=1)

    Raises UnknownName with a suggestion, or an ArchcError that names file, line and field.
    """
    if isinstance(model, Graph):
        return model
    if not isinstance(model, str | Path):
        return _from_spec(model)
    from archc import zoo

    if isinstance(model, str) and model in zoo.names():
        return _spec(zoo.path(model))
    path = Path(model)
    if not str(model):
        raise UnknownName("model", "", zoo.names())
    if path.is_dir():
        return _from_folder(path)
    if path.is_file():
        return _from_file(path)
    if isinstance(model, Path) or len(path.parts) > 1 or path.suffix in _READERS:
        raise ArchcError(f"no such file or folder: {path}")
    raise UnknownName("model", model, zoo.names())


def is_search_named(model: str) -> bool:
    """Whether this names the folder of a search, and no model."""
    from archc import zoo

    return bool(model) and model not in zoo.names() and is_search(Path(model))


def _from_spec(spec: Any) -> Graph:
    from archc.spec.model import Spec

    if not isinstance(spec, Spec):
        raise ArchcError(f"a model is a Graph, a Spec, or {TAKES}: got {type(spec).__name__}")
    return spec.graph()


def _from_folder(folder: Path) -> Graph:
    for name in (CHECKPOINT_GRAPH, PACKAGE_GRAPH):
        if (folder / name).is_file():
            return read_graph(folder / name)
    if (folder / "config.json").is_file():
        return _config(folder)
    if is_search(folder):
        raise ArchcError(f"{folder} is a search, no model: `archc best {folder} -o best.yaml` takes one out of it")
    raise ArchcError(
        f"{folder} is no model: expected {CHECKPOINT_GRAPH} (a checkpoint), {PACKAGE_GRAPH} (a compiled package) or"
        " config.json (a Hugging Face model) in it"
    )


def _from_file(file: Path) -> Graph:
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise ArchcError(f"{file} is no model: a file ends in {', '.join(_READERS)}; a MODEL is {TAKES}")
    return reader(file)


def _spec(file: Path) -> Graph:
    from archc.spec.load import load_spec

    return load_spec(file).graph()


def _json(file: Path) -> Graph:
    """The JSON form of a graph, or a Hugging Face config."""
    content = _read_json(file)
    if isinstance(content, dict) and "archc_graph" in content:
        from archc.ir.graph_json import graph_from_json

        return verified(file, graph_from_json(content, file=str(file)))
    return _config(file)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise ParseError(Place(str(file), error.lineno, error.colno), f"not JSON: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise ParseError(Place(str(file)), f"not JSON: {error}") from None


def _config(source: Path) -> Graph:
    from archc.hub.bare_config import spec_from_config

    return spec_from_config(source).graph()


_READERS = {".yaml": _spec, ".yml": _spec, ".ir": read_graph, ".json": _json}
