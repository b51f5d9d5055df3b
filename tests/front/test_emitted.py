"""Packages are imported from any path, once, and a folder that is none is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from archc.emitted import import_emitted, load_emitted
from archc.kernels.errors import ArchcError


def package(folder: Path, *, says: str = "hello") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "__init__.py").write_text("from .modeling import load\n")
    (folder / "modeling.py").write_text(f"def load(device='cpu', dtype=None):\n    return {says!r}, device, dtype\n")
    return folder


def test_any_path_will_do(tmp_path: Path) -> None:
    import torch

    folder = package(tmp_path / "llama-3.1 (8b)" / "out")
    assert load_emitted(folder, dtype="bfloat16") == ("hello", "cpu", torch.bfloat16)


def test_two_packages_of_one_name_stay_apart(tmp_path: Path) -> None:
    first, second = package(tmp_path / "a" / "m"), package(tmp_path / "b" / "m", says="other")
    assert import_emitted(first).load()[0] == "hello"
    assert import_emitted(second).load()[0] == "other"
    assert import_emitted(first) is import_emitted(first / ".." / "m")


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArchcError, match="no such folder"):
        import_emitted(tmp_path / "nowhere")
    with pytest.raises(ArchcError, match="is not a compiled package: make one with `archc compile MODEL"):
        import_emitted(tmp_path)


def test_an_unknown_dtype_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArchcError, match="unknown dtype `float31`: did you mean `float32`"):
        load_emitted(package(tmp_path / "m"), dtype="float31")


def test_a_package_that_fails_to_import_fails_again(tmp_path: Path) -> None:
    folder = package(tmp_path / "m")
    (folder / "modeling.py").write_text("raise RuntimeError('broken')\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            import_emitted(folder)
