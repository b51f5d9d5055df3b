"""Known architectures: one short YAML spec each, with its published figures and their source."""

from __future__ import annotations

from pathlib import Path

from archc.kernels.errors import UnknownName

_HERE = Path(__file__).resolve().parent


def names() -> tuple[str, ...]:
    """The names of the zoo, sorted."""
    return tuple(sorted(path.stem for path in _HERE.glob("*.yaml")))


def path(name: str) -> Path:
    """The YAML file of a zoo model; raises UnknownName with a suggestion.

    >>> path("nemotron-nano-9b-v2").name
    'nemotron-nano-9b-v2.yaml'
    """
    known = names()
    if name not in known:
        raise UnknownName("zoo model", name, known)
    return _HERE / f"{name}.yaml"
