"""What may be written over: outputs of archc that one asks to replace, and never what is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from archc.compress.run import compress
from archc.hub.checkpoint import staged, write_checkpoint
from archc.hub.checkpoint_dir import write_checkpoint_dir
from archc.hub.export import export_checkpoint
from archc.hub.import_ import import_checkpoint
from archc.ir.init import init_weights
from archc.kernels.errors import ArchcError
from archc.passes import Pipeline
from archc.resolve import load

NARROWER = Pipeline.parse("prune{dim=d_ff, keep=0.5, by=first}")


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    """A checkpoint in a folder that holds another file too."""
    graph = load("tiny-dense")
    write_checkpoint_dir(tmp_path / "in/ckpt", graph, init_weights(graph, seed=0), {"step": "made"})
    (tmp_path / "in/other").write_text("")
    return tmp_path / "in/ckpt"


def tree(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def test_a_folder_of_other_files_is_never_replaced(ckpt: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.txt").write_text("")
    before = tree(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(ArchcError, match=r"is not empty, and holds no model"):
            compress(ckpt, NARROWER, tmp_path / "precious", overwrite=overwrite)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("out", "why"), [("in", "holds"), ("in/ckpt", "is what is read"), ("in/ckpt/small", "lies in")]
)
def test_what_is_read_is_never_replaced(out: str, why: str, ckpt: Path, tmp_path: Path) -> None:
    export_checkpoint(ckpt, tmp_path / "hf")
    before = tree(tmp_path)
    with pytest.raises(ArchcError, match=why):
        compress(ckpt, NARROWER, tmp_path / out, overwrite=True)
    with pytest.raises(ArchcError, match=why):
        export_checkpoint(ckpt, tmp_path / out, overwrite=True)
    with pytest.raises(ArchcError, match="is what is read"):
        import_checkpoint(tmp_path / "hf", tmp_path / "hf", overwrite=True)
    assert tree(tmp_path) == before


def test_outputs_are_replaced_where_one_asks_for_it(ckpt: Path, tmp_path: Path) -> None:
    export_checkpoint(ckpt, tmp_path / "out")
    with pytest.raises(ArchcError, match="replace it with --overwrite"):
        compress(ckpt, NARROWER, tmp_path / "out")
    compress(ckpt, NARROWER, tmp_path / "out", overwrite=True)
    export_checkpoint(ckpt, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/config.json").is_file() and not (tmp_path / "out/model.ir").exists()


def test_shards_and_tokenizers_are_outputs(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "shards", {"a": torch.ones(1), "b": torch.ones(1)}, shard_bytes=4)
    (tmp_path / "words").mkdir()
    (tmp_path / "words/tokenizer.json").write_text("{}")
    for name in ("shards", "words"):
        with staged(tmp_path / name, overwrite=True) as folder:
            (folder / "new").write_text("")
        assert tree(tmp_path / name) == ["new"]
