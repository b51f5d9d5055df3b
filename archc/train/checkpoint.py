"""Checkpoints of a run: its whole state, written under a temporary name and renamed, the last few kept.

    checkpoints/step-120/
      __0_0.distcp ...  .metadata    tensors by name, as torch.distributed.checkpoint (DCP) lays them out
      rank-0.json                    what is no tensor: step, next sample, random states
      manifest.json                  the size of every file; what is missing or cut short is found before it is read

DCP is used in one process too, so that a checkpoint of four processes is read by two, or by one. The state is copied to
the host and written by a thread of ours rather than by `dcp.async_save`: its future is done before the folder can be
listed, renamed and older ones removed, and the same function here writes both ways.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from archc.kernels.errors import ArchcError
from archc.units import format_size

MANIFEST = "manifest.json"
_PREFIX, _PARTIAL = "step-", ".partial"
_FACTS = "rank-{}.json"


@dataclass(frozen=True)
class Snapshot:
    """The state of a run after `step`: tensors by name, and plain data of this process."""

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class CheckpointFolder:
    """The checkpoints of a run, and the one that is being written.

    An error of a write in the background is raised by the next `save`, by `check` and by `finish`.
    """

    def __init__(self, folder: Path, *, keep: int = 2, background: bool = True) -> None:
        self.folder, self.keep, self.background = folder, keep, background
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._group = dist.new_group(backend="gloo") if dist.is_initialized() else None

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, latest first."""
        return _steps(self.folder)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"{_PREFIX}{step}"

    # -- writing -------------------------------------------------------------------------------------------------------

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint, in the background where that was asked for; waits for the one before."""
        self.finish()
        if not self.background:
            self._write(snapshot)
            return
        copy = Snapshot(
            snapshot.step, {k: t.detach().to("cpu", copy=True) for k, t in snapshot.tensors.items()}, snapshot.facts
        )
        self._thread = threading.Thread(target=self._write_quietly, args=(copy,), name="archc-checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raise the error of a write in the background that has failed."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def finish(self) -> None:
        """Wait for the write in the background; raises its error."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def _write_quietly(self, snapshot: Snapshot) -> None:
        try:
            self._write(snapshot)
        except BaseException as error:
            self._error = error

    def _write(self, snapshot: Snapshot) -> None:
        target = self.path(snapshot.step)
        first = _rank() == 0
        partial = self._agreed(target.with_name(f".{target.name}.{secrets.token_hex(4)}{_PARTIAL}"))
        try:
            partial.mkdir(parents=True, exist_ok=True)
            _check_room(partial, snapshot.tensors)
            with _plain_errors():
                dcp_save(
                    dict(snapshot.tensors),
                    storage_writer=FileSystemWriter(partial),
                    process_group=self._group,
                    no_dist=self._group is None,
                )
            (partial / _FACTS.format(_rank())).write_text(json.dumps(snapshot.facts), encoding="utf-8")
            self._barrier()
            if first:
                _write_manifest(partial)
                _replace(partial, target)
                self._prune()
            self._barrier()
        except (OSError, RuntimeError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise ArchcError(self._not_written(target, error)) from error

    def _not_written(self, target: Path, error: Exception) -> str:
        kept = [step for step in self.steps() if not damage(self.path(step))]
        left = f"{self.path(kept[0])} is whole: the run can be resumed from it" if kept else "there is none before it"
        return f"{target}: the checkpoint could not be written: {_reason(error)}; {left}"

    def _agreed(self, path: Path) -> Path:
        """The first process's path, in every process."""
        if self._group is None:
            return path
        told = [path]
        dist.broadcast_object_list(told, src=0, group=self._group)
        return told[0]

    def _barrier(self) -> None:
        if self._group is not None:
            dist.barrier(group=self._group)

    def _prune(self) -> None:
        """Remove all but the latest, and what killed writes left."""
        for step in self.steps()[self.keep :]:
            doomed = self.path(step)
            away = doomed.with_name(f".{doomed.name}{_PARTIAL}")
            shutil.rmtree(away, ignore_errors=True)
            doomed.rename(away)
        for path in self.folder.glob(f".*{_PARTIAL}"):
            shutil.rmtree(path, ignore_errors=True)

    # -- reading -------------------------------------------------------------------------------------------------------

    def latest(self) -> tuple[int | None, list[str]]:
        """The latest step whose checkpoint is whole, and what is wrong with those after it.

        Raises ArchcError where there are checkpoints and none is whole."""
        problems: list[str] = []
        for step in self.steps():
            found = damage(self.path(step))
            if not found:
                return step, problems
            problems.append(f"{self.path(step)} is damaged: {found}")
        if problems:
            raise ArchcError("\n".join(["no checkpoint of the run is whole:", *problems]))
        return None, []

    def load(self, step: int, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read a checkpoint into `tensors`, in place; gives what is no tensor. Raises ArchcError, naming the file."""
        folder = self.path(step)
        try:
            with _plain_errors():
                dcp_load(
                    dict(tensors),
                    storage_reader=FileSystemReader(folder),
                    process_group=self._group,
                    no_dist=self._group is None,
                )
            mine = folder / _FACTS.format(_rank())
            facts = mine if mine.is_file() else folder / _FACTS.format(0)
            return json.loads(facts.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ArchcError(f"{folder}: the checkpoint cannot be read: {_reason(error)}") from error


def last_facts(folder: Path) -> dict[str, Any] | None:
    """What is no tensor of the latest whole checkpoint in a folder of them, or None where there is none."""
    whole = (step for step in _steps(folder) if not damage(folder / f"{_PREFIX}{step}"))
    step = next(whole, None)
    if step is None:
        return None
    return json.loads((folder / f"{_PREFIX}{step}" / _FACTS.format(0)).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _steps(folder: Path) -> list[int]:
    names = (p.name.removeprefix(_PREFIX) for p in folder.glob(f"{_PREFIX}*"))
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def damage(folder: Path) -> str:
    """What is wrong with the files of a checkpoint; empty where nothing is."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        wrong = [_wrong(folder / name, size) for name, size in sizes.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read: {_reason(error)}"
    return "; ".join(filter(None, wrong))


def _wrong(file: Path, size: int) -> str:
    if not file.is_file():
        return f"{file.name} is missing"
    there = file.stat().st_size
    return f"{file.name} has {there} bytes of {size}" if there != size else ""


def _check_room(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise OSError where the tensors cannot fit the disk: DCP's own error of a full disk does not say so."""
    needed, free = sum(tensor.nbytes for tensor in tensors.values()), free_bytes(folder)
    if needed > free:
        told = f"it takes {format_size(needed)}, {format_size(free)} are free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {told}", str(folder))


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written beside a folder."""
    return shutil.disk_usage(folder).free


def _write_manifest(folder: Path) -> None:
    sizes = {p.name: p.stat().st_size for p in sorted(folder.iterdir())}
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        file.write(json.dumps({"files": sizes}, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _replace(partial: Path, target: Path) -> None:
    """Rename; a checkpoint of the same step, left by a run that went on from an earlier one, gives way."""
    if target.exists():
        target.rename(partial.with_name(f".{target.name}.old{_PARTIAL}"))
    partial.rename(target)


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """DCP's collected errors as the first of them, which is what a person can act on; its remark on one process is not
    news here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            yield
        except CheckpointException as error:
            cause = next(iter(error.failures.values()))[0]
            raise (cause if isinstance(cause, OSError) else RuntimeError(str(cause))) from error


def _reason(error: BaseException) -> str:
    """The first line of an error, or what the file system said."""
    chained: BaseException | None = error
    while chained is not None:
        if isinstance(chained, OSError) and chained.strerror:
            return chained.strerror
        chained = chained.__cause__ or chained.__context__
    first = (str(error).splitlines() or [type(error).__name__])[0]
    # PyTorch's writer of zip files hides the error of the file system behind this one.
    return "a file could not be written to its end: the disk or a quota is full" if "unexpected pos" in first else first
