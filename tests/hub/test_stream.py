"""Checkpoints on disk: what is read, what is written, what is refused, and how much memory a run takes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archc import progress
from archc.hub import stream
from archc.hub.checkpoint import INDEX, SINGLE, Checkpoint, staged, write_checkpoint
from archc.hub.safetensors_io import Stored
from archc.hub.stream import run
from archc.ir import weight_expr as w
from archc.ir.weight_eval import TORCH_DTYPES
from archc.ir.weight_index import Index
from archc.ir.weight_moves import Bits
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError, WeightError


def random_bits(dtype: str, *shape: int) -> torch.Tensor:
    """Every bit pattern of a storage type, NaNs included."""
    size = torch.empty((), dtype=TORCH_DTYPES[dtype]).element_size()
    raw = torch.randint(0, 2 if dtype == "bool" else 256, (*shape, size), dtype=torch.uint8)
    return raw.view(TORCH_DTYPES[dtype]).reshape(shape)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    raw = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*raw)


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# -- round trips -------------------------------------------------------------------------------------------------------


def test_every_storage_type_keeps_its_bits(tmp_path: Path) -> None:
    tensors = {f"t.{dtype}": random_bits(dtype, 5, 3) for dtype in TORCH_DTYPES}
    tensors |= {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 4, dtype=torch.bfloat16)}
    write_checkpoint(tmp_path / "c", tensors)
    checkpoint = Checkpoint(tmp_path / "c")
    assert set(checkpoint.names) == set(tensors)
    for name, tensor in tensors.items():
        assert same_bits(checkpoint.read(name), tensor)
    run(WeightMap.identity(tensors), checkpoint, tmp_path / "d", shard_bytes=100)
    copied = Checkpoint(tmp_path / "d")
    assert all(same_bits(copied.read(name), tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_files_have_the_mode_that_the_umask_says(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_checkpoint(tmp_path / "c", {"a": torch.ones(10), "b": torch.ones(10)}, shard_bytes=40)
    finally:
        os.umask(before)
    modes = {f.name: f.stat().st_mode & 0o777 for f in (tmp_path / "c").iterdir()}
    assert len(modes) == 3
    assert set(modes.values()) == {mode}


def test_the_safetensors_package_reads_what_we_write_and_we_what_it_writes(tmp_path: Path) -> None:
    tensors = {f"t.{d}": random_bits(d, 5, 3) for d in ("fp32", "bf16", "fp8", "uint8", "int64", "bool")}
    write_checkpoint(tmp_path / "ours", tensors)
    theirs = safetensors.torch.load_file(tmp_path / "ours" / SINGLE)
    assert theirs.keys() == tensors.keys() and all(same_bits(theirs[n], tensors[n]) for n in tensors)
    (tmp_path / "theirs").mkdir()
    safetensors.torch.save_file(tensors, tmp_path / "theirs" / "some.safetensors", metadata={"format": "pt"})
    ours = Checkpoint(tmp_path / "theirs")
    assert all(same_bits(ours.read(n), tensors[n]) for n in tensors)


def test_shards_are_filled_in_order_and_indexed(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.full((10,), float(i)) for i in range(5)}
    write_checkpoint(tmp_path / "c", iter(tensors.items()), shard_bytes=80)
    assert files(tmp_path / "c") == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)] + [INDEX]
    index = json.loads((tmp_path / "c" / INDEX).read_text())
    assert index["metadata"]["total_size"] == 200
    assert index["weight_map"]["t2"] == "model-00002-of-00003.safetensors"
    checkpoint = Checkpoint(tmp_path / "c")
    assert checkpoint.shapes == dict.fromkeys(tensors, (10,))
    assert all(same_bits(checkpoint.read(n), t) for n, t in tensors.items())


def test_several_files_without_an_index(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    safetensors.torch.save_file({"b": torch.ones(3)}, tmp_path / "y.safetensors")
    assert Checkpoint(tmp_path).shapes == {"a": (2,), "b": (3,)}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 6), max_size=9), dtype=st.sampled_from(["bf16", "fp8", "fp32"]))
def test_rows_are_read_in_any_order(tmp_path: Path, rows: list[int], dtype: str) -> None:
    x = random_bits(dtype, 7, 3)
    write_checkpoint(tmp_path / "c", {"pad": torch.ones(3), "x": x}, overwrite=True)
    got = Checkpoint(tmp_path / "c").read("x", Index(rows))
    assert same_bits(got, x.view(torch.uint8).reshape(7, -1)[rows].view(x.dtype).reshape(-1, 3))


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_run_equals_the_map_in_memory_whatever_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    tensors = {f"e{i}": torch.randn(6, 4) for i in range(5)} | {"a": torch.randn(24, 8), "gone": torch.ones(1)}
    a, experts = w.Old("a"), tuple(w.Old(f"e{i}") for i in range(5))
    one = WeightMap(
        {
            "same": a,
            "rows": w.Take(a, 0, [20, 3, 3, 7]),
            "fused": w.Transpose(w.Stack(experts, 0), (0, 2, 1)),
            "flipped": w.Transpose(a, (1, 0)),
            "mixed": w.Cast(w.Linear((a, w.Take(a, 0, range(23, -1, -1))), (0.25, 0.75)), "bf16"),
            "split": w.Take(w.Reshape(a, (4, 6, 8)), 1, [5, 0]),
            "product": w.MatMul(a, w.Transpose(a, (1, 0))),
            "joined": w.Take(w.Concat(experts, 0), 0, range(0, 30, 3)),
            "fresh": w.Init(1, "normal", (9, 3), "bf16", (0.02,), "fresh"),
            "scalar": w.Const(2.0, (), "fp32"),
        },
        frozenset({"gone"}),
    )
    expected = one.apply(tensors)
    write_checkpoint(tmp_path / "c", tensors)
    for block_bytes in (1, 100, 2**20):
        monkeypatch.setattr(stream, "BLOCK_BYTES", block_bytes)
        made = run(one, Checkpoint(tmp_path / "c"), tmp_path / f"out{block_bytes}", shard_bytes=300)
        assert set(made.names) == set(expected)
        assert all(same_bits(made.read(n), t) for n, t in expected.items())


def test_only_needed_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"up": torch.randn(100, 8), "experts": torch.randn(10, 4, 8), "gate": torch.randn(50, 8)}
    write_checkpoint(tmp_path / "c", made)
    checkpoint = Checkpoint(tmp_path / "c")
    read: list[tuple[str, Index | None]] = []
    original = Stored.read_bits

    def spy(self: Stored, rows: Index | None = None) -> Bits:
        read.append((self.name, rows))
        return original(self, rows)

    monkeypatch.setattr(Stored, "read_bits", spy)
    one = WeightMap({
        "up": w.Take(w.Old("up"), 0, range(0, 100, 10)),
        "experts": w.Take(w.Transpose(w.Old("experts"), (0, 2, 1)), 0, [7]),
        "gate": w.Cast(w.Take(w.Old("gate"), 0, [3, 9]), "bf16"),
    })  # fmt: skip
    run(one, checkpoint, tmp_path / "out")
    wanted = {"up": Index(range(0, 100, 10)), "experts": Index([7]), "gate": Index([3, 9])}
    assert dict(read) == wanted and len(read) == len(wanted)


def test_fitted_files_are_checked_against_their_hash(tmp_path: Path) -> None:
    fitted = {"bias": torch.randn(4)}
    safetensors.torch.save_file(fitted, tmp_path / "fit.safetensors")
    digest = hashlib.sha256((tmp_path / "fit.safetensors").read_bytes()).hexdigest()
    write_checkpoint(tmp_path / "c", {"a": torch.ones(4)})

    def go(path: str, key: str, sha256: str, out: str, root: Path | None = tmp_path) -> Checkpoint:
        leaf = w.File(path, key, sha256, (4,), "fp32")
        one = WeightMap({"x": w.Linear((w.Old("a"), leaf), (1.0, 1.0))})
        return run(one, Checkpoint(tmp_path / "c"), tmp_path / out, files=root)

    assert same_bits(go("fit.safetensors", "bias", digest, "ok").read("x"), 1 + fitted["bias"])
    for arguments, message in [
        (("fit.safetensors", "bias", "0" * 64), "its sha256 is"),
        (("fit.safetensors", "bia", digest), "did you mean `bias`"),
        (("../fit.safetensors", "bias", digest), "no such file below"),
    ]:
        with pytest.raises(WeightError, match=message):
            go(*arguments, "bad")
    with pytest.raises(WeightError, match="say in which folder"):
        go("fit.safetensors", "bias", digest, "bad", None)
    assert not (tmp_path / "bad").exists()


MEASURED = """
import resource, sys
import torch
from archc.hub.checkpoint import Checkpoint
from archc.hub.stream import run
from archc.ir import weight_expr as w
from archc.ir.weightmap import WeightMap

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

a, b, experts = w.Old("a"), w.Old("b"), [w.Old(f"e{i}") for i in range(16)]
one = WeightMap({
    "same": a,
    "pruned": w.Take(w.Take(b, 0, range(0, 20480, 2)), 1, range(1, 2560, 2)),
    "fused": w.Transpose(w.Stack(tuple(experts[:12]), 0), (0, 2, 1)),
    "mixed": w.Affine(w.Take(a, 0, range(20479, -1, -1)), 1.0, -1.0),
}, frozenset(f"e{i}" for i in range(12, 16)))
source = Checkpoint(sys.argv[1])
torch.ones(4).to(torch.bfloat16) @ torch.ones(4).to(torch.bfloat16)
before = peak()
run(one, source, sys.argv[2])
print(source.total_bytes, peak() - before)
"""


def test_without_writes_past_the_page_cache_the_files_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "c", {"a": random_bits("bf16", 3000, 1000)})
    halved = WeightMap({"a": w.Take(w.Old("a"), 1, range(0, 1000, 2))})
    run(halved, Checkpoint(tmp_path / "c"), tmp_path / "with")
    plain = os.pwritev

    def refusing(file: int, data: Any, start: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "as an older kernel or another file system says it")
        return plain(file, data, start)

    monkeypatch.setattr(os, "pwritev", refusing)
    run(halved, Checkpoint(tmp_path / "c"), tmp_path / "without")
    assert (tmp_path / "with" / SINGLE).read_bytes() == (tmp_path / "without" / SINGLE).read_bytes()


def test_memory_is_bounded_by_blocks_not_by_the_checkpoint(tmp_path: Path) -> None:
    """About 380 MB in, 360 MB out, tensors of 100 MB: within 64 MiB above what the process had."""
    shapes = {"a": [20480, 2560], "b": [20480, 2560]} | {f"e{i}": [2048, 2560] for i in range(16)}
    sparse_checkpoint(tmp_path / "c", shapes)
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "c"), str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    total, grown = map(int, done.stdout.split())
    assert total > 370e6
    assert grown < 64 * 2**20
    assert Checkpoint(tmp_path / "out").shapes["fused"] == (12, 2560, 2048)


def sparse_checkpoint(folder: Path, shapes: dict[str, list[int]]) -> None:
    """bf16 zeros that take no disk."""
    at, header = 0, {}
    for name, shape in shapes.items():
        end = at + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    folder.mkdir()
    text = json.dumps(header).encode()
    with (folder / SINGLE).open("wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        f.truncate(8 + len(text) + at)


# -- whole or not at all -----------------------------------------------------------------------------------------------


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", {"a": torch.ones(4), "b": torch.ones(4)})
    with pytest.raises(WeightError, match="neither used nor dropped: `b`"):
        run(WeightMap({"x": w.Old("a")}), Checkpoint(tmp_path / "c"), tmp_path / "new" / "deep" / "out")

    def stops() -> Iterator[tuple[str, torch.Tensor]]:
        yield "a", torch.ones(4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "out", stops(), shard_bytes=1)
    assert files(tmp_path) == ["c"]


def test_all_that_does_not_fit_is_one_error(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", {"a": torch.ones(4)})
    one = WeightMap({"x": w.Take(w.Old("a"), 0, [4]), "y": w.Reshape(w.Old("a"), (3,))})
    with pytest.raises(WeightError, match=r"(?s)`x`: .*no position 4.*`y`: .*cannot become \[3\]"):
        run(one, Checkpoint(tmp_path / "c"), tmp_path / "out")


def test_an_existing_target_is_kept_unless_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_checkpoint(out, {"a": torch.ones(1)})  # an empty folder may be filled
    with pytest.raises(ArchcError, match="not empty"):
        write_checkpoint(out, {"a": torch.zeros(1)})
    (out / "old.txt").write_text("")
    write_checkpoint(out, {"a": torch.zeros(1)}, overwrite=True)
    assert files(out) == [SINGLE]
    assert Checkpoint(out).read("a").item() == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchcError, match="not a folder"):
        write_checkpoint(tmp_path / "file", {}, overwrite=True)
    assert files(tmp_path) == ["file", "out"]


def test_an_overwrite_that_fails_keeps_what_was_there(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "out", {"a": torch.ones(1)})
    with pytest.raises(RuntimeError), staged(tmp_path / "out", overwrite=True) as folder:
        (folder / "half").write_text("")
        raise RuntimeError
    assert Checkpoint(tmp_path / "out").read("a").item() == 1
    assert files(tmp_path) == ["out"]


def test_a_folder_one_stands_in_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for target in (tmp_path / "here", tmp_path, Path.home()):
        with pytest.raises(ArchcError, match="current or the home folder"):
            write_checkpoint(target, {}, overwrite=True)


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightError, match="`a` comes twice"):
        write_checkpoint(tmp_path / "out", [("a", torch.ones(1)), ("a", torch.ones(1))])


def test_a_run_shows_progress_on_a_terminal_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    write_checkpoint(tmp_path / "c", {"a": torch.ones(4)})
    one = WeightMap.identity("a")
    monkeypatch.setattr(progress, "PATIENCE_S", -1.0)
    run(one, Checkpoint(tmp_path / "c"), tmp_path / "quiet")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(one, Checkpoint(tmp_path / "c"), tmp_path / "shown")
    assert "weights" in capsys.readouterr().err


# -- hostile files -----------------------------------------------------------------------------------------------------


def header_file(file: Path, header: Any, data: int = 0) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


EMPTY = json.dumps(entry([0], 0, 0)).encode()


@pytest.mark.parametrize(
    ("header", "data", "messages"),
    [
        (b"{", 0, ["corrupted header"]),
        (b"\xff\xfe{}", 0, ["corrupted header"]),
        (b"[" * 50000, 0, ["corrupted header"]),
        (b"[]", 0, ["expected a JSON object"]),
        (b'{"a": 1' + b"0" * 5000 + b"}", 0, ["corrupted header"]),
        ({"a": entry([2], 0, 8)}, 4, ["truncated: expected 77 bytes, has 73"]),
        ({"a": entry([2], 0, 8)}, 9, ["longer than its header says"]),
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, 12, ["`b` overlaps"]),
        ({"a": entry([2], 0, 8), "b": entry([2], 12, 20)}, 20, ["`b` leaves a hole"]),
        ({"a": entry([2], 0, 4)}, 4, [r"`a`: F32 \[2\] takes 8 bytes, data_offsets \[0, 4\] hold 4"]),
        ({"a": entry([2**62, 2**62], 0, 0)}, 0, ["`a`: sizes overflow"]),
        ({"a": entry([0, 2**62, 2**62], 0, 0)}, 0, ["`a`: sizes overflow"]),
        ({"a": entry([1] * 100000, 0, 4)}, 4, ["`a`: sizes overflow"]),
        ({"a": entry([2], 2**70, 2**70 + 8)}, 8, ["`a`: sizes overflow"]),
        ({"a": entry([-2], 0, 8)}, 8, ["`a`: shape and data_offsets are lists of integers from 0"]),
        ({"a": entry([True], 0, 4)}, 4, ["`a`: shape and data_offsets"]),
        ({"a": entry([2], 0, 8, "F4")}, 8, ["`a`: storage type 'F4' is not among"]),
        ({"a": {"dtype": "F32"}, "b": 3}, 0, ["`a`: expected dtype", "`b`: expected dtype"]),
        ({"a\u001b[2J": entry([2], 0, 8)}, 8, ["'a.x1b.2J': a name is made of printable"]),
        (b'{"a":%b,"a":%b}' % (EMPTY, EMPTY), 0, ["`a` stands twice"]),
    ],
    ids=lambda v: str(v)[:40],
)  # fmt: skip
def test_a_bad_header_is_one_error_that_names_the_file(
    tmp_path: Path, header: Any, data: int, messages: list[str]
) -> None:
    header_file(tmp_path / SINGLE, header, data)
    with pytest.raises(WeightError) as e:
        Checkpoint(tmp_path)
    lines = str(e.value).splitlines()
    assert all(line.startswith(str(tmp_path / SINGLE)) for line in lines)
    for message in messages:
        with pytest.raises(WeightError, match=message):
            raise e.value


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 7, b"\xff" * 8, (2**40).to_bytes(8, "little") + b"{}", b"not a header at all"]
)
def test_what_is_no_safetensors_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / SINGLE).write_bytes(data)
    with pytest.raises(WeightError, match="not a safetensors file, or truncated"):
        Checkpoint(tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 400), flip=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_damaged_file_is_a_weight_error_or_still_the_same_tensors(
    tmp_path: Path, cut: int, flip: int, byte: int
) -> None:
    """Whatever byte is changed and wherever the file ends: never another exception, never a crash on reading."""
    write_checkpoint(tmp_path / "c", {"a": torch.ones(3, 2), "b": torch.ones(5, dtype=torch.bfloat16)}, overwrite=True)
    file = tmp_path / "c" / SINGLE
    data = bytearray(file.read_bytes())
    data[min(flip, len(data) - 1)] = byte
    file.write_bytes(data[: len(data) - cut] if cut < 50 else data)
    try:
        checkpoint = Checkpoint(tmp_path / "c")
    except WeightError as e:
        assert SINGLE in str(e)
        return
    assert sum(checkpoint.read(n).numel() > 0 for n in checkpoint.names) == 2


X = "x.safetensors"


def with_index(folder: Path, weight_map: Any) -> None:
    safetensors.torch.save_file({"a": torch.ones(2), "b": torch.ones(2)}, folder / "x.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    ("weight_map", "messages"),
    [
        ({"a": "../x.safetensors", "b": "/etc/x.safetensors"}, ["'../x.safetensors' is", "'/etc/x.safetensors' is"]),
        ({"a": "..\\x.safetensors"}, ["is not the name"]),
        ({"a": "x.bin", "b": 3}, ["'x.bin' is not the name", "'3' is not the name"]),
        ({"a": X, "b": "y.safetensors", "c": "z.safetensors"}, ["the shard y.safetensors", "the shard z.safetensors"]),
        ({"a": X, "b": X, "c": X}, ["names `c` in x.safetensors, which does not"]),
        ({"a": X}, ["x.safetensors: has `b`, which"]),
        ([], ["expected an object `weight_map`"]),
    ],
    ids=lambda v: str(v)[:40],
)  # fmt: skip
def test_a_bad_index_lists_everything(tmp_path: Path, weight_map: Any, messages: list[str]) -> None:
    with_index(tmp_path, weight_map)
    with pytest.raises(WeightError) as e:
        Checkpoint(tmp_path)
    assert all(message in str(e.value) for message in messages)
    assert len(str(e.value).splitlines()) == len(messages)


def test_duplicates_over_files_and_problems_of_all_files_are_listed(tmp_path: Path) -> None:
    for name in ("x", "y"):
        safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(
        WeightError, match=r"(?s)x.safetensors: tensor `a` stands in 2 files.*y.safetensors: tensor `a`"
    ):
        Checkpoint(tmp_path)
    for name in ("x", "y"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(WeightError, match=r"(?s)x.safetensors: not a.*y.safetensors: not a"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda f: f.rmdir(), "no such folder"),
        (lambda f: None, "expected model.safetensors"),
        (lambda f: (f / INDEX).write_text("{"), "corrupted"),
    ],
)
def test_a_folder_that_is_no_checkpoint(tmp_path: Path, prepare: Callable[[Path], object], message: str) -> None:
    (tmp_path / "c").mkdir()
    prepare(tmp_path / "c")
    with pytest.raises(WeightError, match=message):
        Checkpoint(tmp_path / "c")


def test_a_single_file_beside_an_index_of_others_is_ambiguous(tmp_path: Path) -> None:
    with_index(tmp_path, {"a": X, "b": X})
    assert Checkpoint(tmp_path).shapes == {"a": (2,), "b": (2,)}
    header_file(tmp_path / SINGLE, {})
    with pytest.raises(WeightError, match="has both"):
        Checkpoint(tmp_path)


def test_a_file_cut_after_opening_is_an_error_on_reading(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", {"a": torch.ones(100)})
    checkpoint = Checkpoint(tmp_path / "c")
    os.truncate(tmp_path / "c" / SINGLE, 200)
    with pytest.raises(WeightError, match="ended while reading `a`"):
        checkpoint.read("a")


def test_an_unknown_tensor_suggests(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", {"layers.0.up": torch.ones(1)})
    with pytest.raises(WeightError, match=r"did you mean `layers.0.up`"):
        Checkpoint(tmp_path / "c").read("layers.0.uo")
