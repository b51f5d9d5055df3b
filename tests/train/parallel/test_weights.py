"""What a rank reads and holds: its share of a checkpoint, a block at a time; nothing while it is being made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import archc
from archc.hub.checkpoint_dir import write_checkpoint_dir
from archc.hub.weights import weights_of
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.weight_index import Index
from archc.kernels.errors import ArchcError, UnsupportedError
from archc.train.parallel import plan
from archc.train.parallel.model import ParallelModel, _on_meta
from archc.train.parallel.plan import Plan
from archc.train.parallel.state import state_dict
from archc.train.parallel.weights import FromCheckpoint, InMemory, Reader, source_of

TINY = Path(__file__).parent / "tiny.yaml"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return archc.load(str(TINY))


class Counting:
    """A source that counts the bytes read of it, and the largest read."""

    def __init__(self, source: FromCheckpoint) -> None:
        self.made, self.stored, self.source = source.made, source.stored, source
        self.total, self.largest = 0, 0

    def read(self, name: str, rows: Index | None = None) -> Tensor:
        found = self.source.read(name, rows)
        self.total += found.nbytes
        self.largest = max(self.largest, found.nbytes)
        return found


def assembled(made: Plan, at: dict[str, int], source: Counting | InMemory, copies: int = 1) -> dict[str, Tensor]:
    """The pieces of a rank, read as `ParallelModel` reads them, `copies` of the model sharing the rows."""
    reader, found, starts = Reader(source, made.shard(at)[1]), {}, dict.fromkeys((p.key for p in made.pieces), 0)
    for piece in made.pieces:
        size = piece.local(made.degrees)
        start = starts[piece.key]
        starts[piece.key] += size[piece.axis]
        rows = range(-(-size[0] // copies))
        blocks = list(reader.blocks(piece.key, piece.axis, range(start, starts[piece.key]), rows))
        found[piece.name] = torch.cat(blocks)
    return found


@pytest.mark.parametrize(("tp", "ep", "copies"), [(2, 1, 1), (1, 2, 1), (2, 2, 1), (2, 2, 4)])
def test_a_rank_reads_its_share(tp: int, ep: int, copies: int, graph: Graph, tmp_path: Path) -> None:
    write_checkpoint_dir(tmp_path / "c", graph, init_weights(graph, seed=1), {"what": "test"})
    made = plan(graph, tp=tp, ep=ep)
    source = Counting(FromCheckpoint(weights_of(tmp_path / "c")))
    found = assembled(made, {"ep": ep - 1, "tp": tp - 1}, source, copies)
    whole = sum(t.nbytes for t in init_weights(graph).values())
    held = sum(t.nbytes for t in found.values())
    assert held <= whole * made.share * (1.2 if copies > 1 else 1) / copies + 1e-6
    assert source.total < 1.5 * held  # rows are read whole where columns are kept


def test_large_parameters_are_read_in_blocks(graph: Graph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("archc.train.parallel.weights.BLOCK_BYTES", 1024)
    weights = init_weights(graph, seed=1)
    write_checkpoint_dir(tmp_path / "c", graph, weights, {"what": "test"})
    made, at = plan(graph, tp=2, ep=2), {"ep": 1, "tp": 1}
    source = Counting(FromCheckpoint(weights_of(tmp_path / "c")))
    blockwise = assembled(made, at, source)
    assert source.largest <= 4096
    for name, whole in assembled(made, at, InMemory(weights)).items():
        assert torch.equal(blockwise[name], whole), name


def test_fresh_weights_do_not_depend_on_the_mesh(graph: Graph) -> None:
    made, at = plan(graph, tp=2, ep=2), {"ep": 0, "tp": 1}
    drawn = assembled(made, at, source_of(7, graph))  # type: ignore[arg-type]
    given = assembled(made, at, InMemory(init_weights(graph, seed=7)))
    assert all(torch.equal(drawn[name], given[name]) for name in given)


def test_models_are_made_without_memory(graph: Graph) -> None:
    part, _ = plan(graph, tp=2, ep=2).shard({"ep": 0, "tp": 0})
    assert all(p.is_meta for p in _on_meta(part, torch.float32).parameters())


def test_one_process_is_the_emitted_model(graph: Graph) -> None:
    model = ParallelModel(plan(graph), init_weights(graph, seed=2), dtype=torch.float64)
    assert {k: tuple(t.shape) for k, t in model.full_parameters()} == graph.weight_shapes()
    for key, tensor in model.full_parameters():
        assert torch.equal(tensor.float(), init_weights(graph, seed=2)[key]), key
    tokens = torch.randint(0, 65, (2, 9))
    with torch.no_grad():
        h, taps = model.hidden(tokens, taps=("layers.1.mixer.router_choice",))
        assert torch.equal(model(tokens), model.logits(h))
        assert len(model.mtp(h, tokens)) == 2
    assert taps["layers.1.mixer.router_choice"].shape == (18, 2)
    assert "model.layers.0.mixer.in_proj.dt" in state_dict(model)


def test_more_is_asked_than_there_is(graph: Graph) -> None:
    with pytest.raises(UnsupportedError, match="1 processes do not divide by tp=2 x ep=1: start a multiple of 2"):
        ParallelModel(plan(graph, tp=2), 0)
    with pytest.raises(ArchcError, match="takes torchrun"):
        ParallelModel(plan(graph), 0, compute=torch.bfloat16)
