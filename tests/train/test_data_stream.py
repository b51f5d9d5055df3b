"""Streams: a sample is a function of its number alone; an epoch has every token once; mixtures keep their shares."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.kernels.errors import ArchcError
from archc.train.batch import Batch
from archc.train.bytes import ByteTokenizer
from archc.train.packed import PackedDataset
from archc.train.permutation import key, permuted
from archc.train.sources.rows import Jsonl
from archc.train.sources.text import Text
from archc.train.stream import PERIOD, Stream, quotas

BYTES = ByteTokenizer()


def dataset(folder: Path, name: str, *texts: str) -> PackedDataset:
    file = folder / f"{name}.txt"
    file.write_text("\n".join(texts))
    return PackedDataset.build(Text(files=str(file), documents_are="lines"), BYTES, folder / name)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[PackedDataset]:
    """Three datasets of 5 to 40 documents, all of whose texts differ."""
    folder = tmp_path_factory.mktemp("datasets")
    return [
        dataset(folder, name, *(f"{name}{i} " * (1 + i % 7) for i in range(count)))
        for name, count in (("a", 5), ("b", 17), ("c", 40))
    ]


def same(a: Batch, b: Batch) -> bool:
    ones = torch.ones(a.tokens.shape)
    pairs = [(a.tokens, b.tokens), (a.segments, b.segments), (a.index, b.index)]
    pairs.append(tuple(ones if w is None else w for w in (a.weights, b.weights)))  # type: ignore[arg-type]
    return all(torch.equal(x, y) for x, y in pairs)  # type: ignore[arg-type]


# -- permutations ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_a_permutation_has_every_number_once(size: int, secret: int) -> None:
    assert sorted(permuted(np.arange(size), size, secret).tolist()) == list(range(size))


@given(st.integers(2**33, 2**62), st.integers(0, 2**64 - 1))
def test_permutations_of_large_sets_stay_inside_and_apart(size: int, secret: int) -> None:
    places = np.unique(np.linspace(0, size - 1, 500).astype(np.int64).clip(max=size - 1))
    found = permuted(places, size, secret)
    assert int(found.max()) < size
    assert len(np.unique(found)) == len(places)


def test_permutations_are_spread_evenly() -> None:
    seen = Counter(tuple(permuted(np.arange(3), 3, key("p", i)).tolist()) for i in range(6000))
    assert len(seen) == 6
    assert min(seen.values()) > 800
    firsts = Counter(int(permuted(np.array([0]), 10, key(i))[0]) for i in range(10_000))
    assert min(firsts.values()) > 880


# -- samples -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(data=st.data(), length=st.integers(2, 50), seed=st.integers(0, 5), count=st.integers(1, 3))
def test_a_sample_depends_on_its_number_alone(
    datasets: list[PackedDataset], data: st.DataObject, length: int, seed: int, count: int
) -> None:
    chosen = datasets[:count]
    weights = data.draw(st.lists(st.floats(0.01, 10), min_size=count, max_size=count))
    numbers = data.draw(st.lists(st.integers(0, 5 * PERIOD), min_size=1, max_size=12))
    whole = Stream(chosen, weights, length=length, seed=seed).batch(numbers)
    again = Stream([PackedDataset.open(one.folder) for one in chosen], weights, length=length, seed=seed)
    for row, number in enumerate(numbers):
        assert same(whole.rows(row, row + 1), again.batch([number]))
    assert whole.index.tolist() == numbers


@settings(deadline=None)
@given(length=st.integers(2, 80), seed=st.integers(0, 100), epoch=st.integers(0, 3), which=st.integers(0, 2))
def test_an_epoch_has_every_token_of_every_document_once(
    datasets: list[PackedDataset], length: int, seed: int, epoch: int, which: int
) -> None:
    one = datasets[which]
    stream = Stream([one], length=length, seed=seed)
    count = stream.windows[0]
    batch = stream.batch(range(epoch * count, (epoch + 1) * count))
    assert batch.segments is not None
    weights = torch.ones(batch.tokens.shape) if batch.weights is None else batch.weights
    windows = stream.place(np.arange(epoch * count, (epoch + 1) * count))[1]
    order = torch.from_numpy(np.argsort(windows))
    kept = weights[order].flatten() > 0
    assert batch.tokens[order].flatten()[kept].tolist() == one.tokens(0, len(one)).tolist()
    assert int(kept.sum()) == len(one)

    # Segments change exactly where documents start, and where padding does.
    changes = (batch.segments[order].diff(dim=1) != 0).nonzero().tolist()
    starts = {(start // length, start % length - 1) for start in [*one.starts.tolist(), len(one)] if start % length}
    assert {tuple(place) for place in changes} == starts


def test_epochs_seeds_and_datasets_are_shuffled_differently(datasets: list[PackedDataset]) -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        stream = Stream([datasets[2]], length=8, seed=seed)
        count = stream.windows[0]
        return tuple(stream.place(np.arange(epoch * count, (epoch + 1) * count))[1].tolist())

    orders = {order(seed, epoch) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    assert tuple(range(len(order(0, 0)))) not in orders
    twice = Stream([datasets[2]] * 2, length=8)
    which, windows = twice.place(np.arange(PERIOD))
    count = twice.windows[0]
    assert windows[which == 0][:count].tolist() != windows[which == 1][:count].tolist()


@settings(deadline=None, max_examples=20)
@given(weights=st.lists(st.floats(0.01, 10), min_size=3, max_size=3), seed=st.integers(0, 3), start=st.integers(0, 9))
def test_mixtures_keep_their_shares_and_every_dataset_its_epochs(
    datasets: list[PackedDataset], weights: list[float], seed: int, start: int
) -> None:
    stream = Stream(datasets, weights, length=16, seed=seed)
    which, windows = stream.place(np.arange(start * PERIOD, (start + 1) * PERIOD))
    shares = np.bincount(which, minlength=3) / PERIOD
    assert np.abs(shares - np.array(weights) / sum(weights)).max() <= 1 / PERIOD
    first_half = np.bincount(which[: PERIOD // 2], minlength=3) / (PERIOD // 2)
    assert np.abs(first_half - shares).max() < 0.03
    which, windows = stream.place(np.arange(2 * PERIOD))
    for d, size in enumerate(stream.windows):
        mine = windows[which == d]
        for epoch in range(len(mine) // size):
            assert sorted(mine[epoch * size : (epoch + 1) * size].tolist()) == list(range(size))


def test_ranks_together_see_what_one_process_sees(datasets: list[PackedDataset]) -> None:
    stream = Stream(datasets, [3, 2, 1], length=16, seed=1)
    whole = stream.batch(range(40))
    for rank in range(4):
        mine = stream.batch(range(rank, 40, 4))
        assert torch.equal(mine.tokens, whole.tokens[rank::4])


def test_quotas_add_up() -> None:
    assert quotas([0.5, 0.3, 0.2], 10).tolist() == [5, 3, 2]
    assert quotas([1, 1, 1], 10).sum() == 10


def test_hashes_tell_streams_apart(datasets: list[PackedDataset]) -> None:
    streams = [
        Stream(datasets[:2], length=16),
        Stream(datasets[:2], length=17),
        Stream(datasets[:2], length=16, seed=1),
        Stream(datasets[:2], [2, 1], length=16),
        Stream(datasets[1:], length=16),
        Stream(datasets[1::-1], length=16),
    ]
    assert len({stream.hash for stream in streams}) == len(streams)
    assert Stream(datasets[:2], [5, 5], length=16).hash == streams[0].hash


def test_weights_of_the_loss_are_those_of_answers(tmp_path: Path) -> None:
    chat = '{"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]}\n'
    (tmp_path / "a.jsonl").write_text(chat * 2)
    roles = {"user": "{content}", "assistant": "{content}"}
    packed = PackedDataset.build(Jsonl(files=str(tmp_path / "a.jsonl"), template=roles), BYTES, tmp_path / "out")
    batch = Stream([packed], length=14).batch([0])
    assert batch.tokens.tolist() == [[256, 97, 98, 99, 100, 257] * 2 + [0, 0]]
    assert batch.weights is not None
    assert batch.weights.tolist() == [[0, 0, 0, 1, 1, 1] * 2 + [0, 0]]
    assert batch.segments is not None
    assert batch.segments.tolist() == [[0] * 6 + [1] * 6 + [2] * 2]
    assert (batch.tokens.dtype, batch.segments.dtype, batch.weights.dtype) == (torch.int64, torch.int32, torch.float32)


def test_batches_move_and_are_cut(datasets: list[PackedDataset]) -> None:
    batch = Stream(datasets, length=16).batch(range(6))
    assert len(batch) == 6
    assert batch.to("meta").tokens.device.type == "meta"
    assert batch.rows(2, 4).index.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("weights", "length", "message"),
    [
        ([1], 8, "a mixture of 3 datasets needs as many weights: got 1"),
        ([1, 1, 0], 8, "must be positive"),
        ([1, 1, 1e-9], 8, "at least 1/16384 of their sum"),
        ([1, 1, float("nan")], 8, "must be positive"),
        (None, 1, "needs two tokens"),
    ],
)
def test_wrong_streams_are_errors(
    datasets: list[PackedDataset], weights: list[float] | None, length: int, message: str
) -> None:
    with pytest.raises(ArchcError, match=message):
        Stream(datasets, weights, length=length)


def test_tokenizers_do_not_mix(datasets: list[PackedDataset], tmp_path: Path) -> None:
    class Other(ByteTokenizer):
        hash = "another"  # type: ignore[assignment]

    (tmp_path / "a.txt").write_text("a")
    other = PackedDataset.build(Text(files=str(tmp_path / "a.txt")), Other(), tmp_path / "out")
    with pytest.raises(ArchcError, match=r"must share a tokenizer: got .*out another"):
        Stream([datasets[0], other], length=8)
    with pytest.raises(ArchcError, match="needs a dataset"):
        Stream([], length=8)
