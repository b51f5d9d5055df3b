"""The public set of `archc` is `__all__`, its docstring tells each name, and no name is a room's."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

import archc


def test_docstring_lists_exactly_the_public_names() -> None:
    documented = re.findall(r"^- `(\w+)", archc.__doc__ or "", flags=re.MULTILINE)
    assert sorted(documented) == sorted(archc.__all__)


@pytest.mark.parametrize("name", archc.__all__)
def test_public_names_resolve_and_are_documented(name: str) -> None:
    value = getattr(archc, name)
    assert value.__doc__
    packages = {path.name for path in Path(archc.__file__).parent.iterdir() if (path / "__init__.py").is_file()}
    assert isinstance(value, ModuleType) or name not in packages


def test_unknown_attribute_lists_the_public_names() -> None:
    with pytest.raises(AttributeError, match=r"`nothing`; public names are .*errors"):
        _ = archc.nothing
