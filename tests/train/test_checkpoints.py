"""Checkpoints: written whole or not at all, kept in number, and refused with one clear error when they are damaged."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from archc.kernels.errors import ArchcError
from archc.train.checkpoint import CheckpointFolder, Snapshot, damage

TENSORS = {"a": torch.arange(60_000.0), "b": torch.tensor(3)}


def snapshot(step: int) -> Snapshot:
    return Snapshot(step, {name: value + step for name, value in TENSORS.items()}, {"step": step})


@pytest.fixture(params=["background", "at once"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "checkpoints", keep=2, background=request.param == "background")


def saved(folder: CheckpointFolder, *steps: int) -> None:
    for step in steps:
        folder.save(snapshot(step))
    folder.finish()


def test_the_last_few_are_kept_and_read_back(folder: CheckpointFolder) -> None:
    saved(folder, 1, 2, 30)
    assert folder.steps() == [30, 2]
    assert sorted(p.name for p in folder.folder.iterdir()) == ["step-2", "step-30"]
    read = {name: torch.zeros_like(value) for name, value in TENSORS.items()}
    assert folder.load(30, read) == {"step": 30}
    assert all(torch.equal(read[name], TENSORS[name] + 30) for name in read)
    assert folder.latest() == (30, [])


def test_what_changes_while_it_is_written_is_not_in_it(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    live = {name: value.clone() for name, value in TENSORS.items()}
    folder.save(Snapshot(1, live, {}))
    for value in live.values():
        value.zero_()
    folder.finish()
    folder.load(1, live)
    assert all(torch.equal(live[name], TENSORS[name]) for name in live)


def test_a_step_that_is_run_again_replaces_its_checkpoint(folder: CheckpointFolder) -> None:
    saved(folder, 1)
    folder.save(Snapshot(1, snapshot(5).tensors, {"again": True}))
    folder.finish()
    read = {name: torch.zeros_like(value) for name, value in TENSORS.items()}
    assert folder.load(1, read) == {"again": True}
    assert torch.equal(read["a"], TENSORS["a"] + 5)
    assert [p.name for p in folder.folder.iterdir()] == ["step-1"]


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 100 kB: what a full disk looks like, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_is_one_error_and_leaves_the_one_before(
    folder: CheckpointFolder, request: pytest.FixtureRequest
) -> None:
    saved(folder, 1)
    request.getfixturevalue("small_files")
    with pytest.raises(ArchcError, match=r"step-2: the checkpoint could not be written: .*step-1 is whole") as error:
        saved(folder, 2)
    assert str(error.value).count("\n") == 0
    assert [p.name for p in folder.folder.iterdir()] == ["step-1"]
    assert folder.latest() == (1, [])


def test_too_little_room_is_said_before_anything_is_written(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(folder, 1)
    monkeypatch.setattr("archc.train.checkpoint.free_bytes", lambda path: 1000)
    with pytest.raises(ArchcError, match=r"step-2: .*No space left on device: it takes 234.38 KiB, 1000 B are free"):
        saved(folder, 2)
    assert folder.latest() == (1, [])


def cut(folder: Path) -> str:
    file = next(folder.glob("*.distcp"))
    os.truncate(file, 100)
    return f"{file.name} has 100 bytes of"


def deleted(folder: Path) -> str:
    file = next(folder.glob("*.distcp"))
    file.unlink()
    return f"{file.name} is missing"


def without_manifest(folder: Path) -> str:
    (folder / "manifest.json").unlink()
    return "manifest.json cannot be read: No such file"


def broken_manifest(folder: Path) -> str:
    (folder / "manifest.json").write_text("[]")
    return "manifest.json cannot be read"


@pytest.mark.parametrize("harm", [cut, deleted, without_manifest, broken_manifest])
def test_damage_is_named_and_the_one_before_is_used(tmp_path: Path, harm: object) -> None:
    folder = CheckpointFolder(tmp_path, background=False)
    saved(folder, 1, 2)
    said = harm(folder.path(2))  # type: ignore[operator]
    assert said in damage(folder.path(2))
    step, problems = folder.latest()
    assert step == 1
    assert len(problems) == 1 and said in problems[0] and str(folder.path(2)) in problems[0]
    harm(folder.path(1))  # type: ignore[operator]
    with pytest.raises(ArchcError, match="no checkpoint of the run is whole"):
        folder.latest()


def test_what_a_killed_write_left_is_no_checkpoint_and_goes_with_the_next(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, background=False)
    (tmp_path / ".step-7.abcd.partial").mkdir(parents=True)
    assert folder.latest() == (None, [])
    saved(folder, 8)
    assert [p.name for p in tmp_path.iterdir()] == ["step-8"]


def test_a_checkpoint_of_another_model_is_an_error(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, background=False)
    saved(folder, 1)
    with pytest.raises(ArchcError, match=r"step-1: the checkpoint cannot be read: .*other"):
        folder.load(1, {"other": torch.zeros(3)})
