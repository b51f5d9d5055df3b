"""Teachers live from folders, and their likeliest tokens kept on disk: same losses, resumed building, staleness."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from archc.compilation import compile_model
from archc.hub.checkpoint import write_tensors
from archc.hub.checkpoint_dir import new_checkpoint
from archc.hub.safetensors_io import Outgoing
from archc.hub.weights import weights_of
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.kernels.errors import ArchcError, WeightError
from archc.train import topk_cache
from archc.train.batch import Batch
from archc.train.losses import Losses, Setting, TeacherNeeds
from archc.train.losses.hidden_kd import HiddenKD
from archc.train.losses.logit_kd import DIVERGENCES, LogitKD, temperatures
from archc.train.losses.next_token import NextToken
from archc.train.teachers import LiveTeacher, weights_hash
from archc.train.topk_cache import Manifest, TopKCache, cached_teacher
from tests.train.losses_kit import batch_of, gradients, graph_of, mean, model_of

VOCAB, LENGTH, SAMPLES = 24, 9, 7


class Numbered:
    """Samples whose tokens follow from their number."""

    length = LENGTH
    hash = "stream" * 8

    def batch(self, numbers: Sequence[int]) -> Batch:
        each = [batch_of(1, LENGTH, seed=n) for n in numbers]
        parts = [torch.cat([getattr(one, name) for one in each]) for name in ("tokens", "segments", "weights")]
        return Batch(*parts, index=torch.tensor(list(numbers)))


STREAM: Any = Numbered()


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_of("M*", name="teacher")


@pytest.fixture(scope="module")
def weights(graph: Graph) -> dict[str, Tensor]:
    return init_weights(graph, seed=7)


@pytest.fixture(scope="module")
def teacher(graph: Graph, weights: dict[str, Tensor]) -> LiveTeacher:
    return LiveTeacher(graph, model_of(graph, weights))


@pytest.fixture(scope="module")
def student() -> Any:
    return model_of(graph_of("*-"))


WANTED = Manifest(
    teacher="a" * 64, precision="float64", tokenizer="b" * 64, stream="c" * 64, samples=SAMPLES, length=LENGTH,
    vocab=VOCAB, k=5, temperatures=(1.0, 2.0),
)  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, teacher: LiveTeacher) -> TopKCache:
    return TopKCache.build(tmp_path / "kept", WANTED, teacher, STREAM, batch=3)


# -- live teachers -----------------------------------------------------------------------------------------------------


def test_a_teacher_is_opened_from_any_folder(tmp_path: Path, graph: Graph, weights: dict[str, Tensor]) -> None:
    compile_model(graph, tmp_path / "package", weights=weights)
    with new_checkpoint(tmp_path / "checkpoint", graph, {"step": "made"}) as folder:
        write_tensors(folder, (Outgoing.of(k, t) for k, t in weights.items()))
    opened = [LiveTeacher.open(tmp_path / name, dtype="float64") for name in ("package", "checkpoint")]
    batch = batch_of()
    expected = model_of(graph, weights)(batch.tokens, batch.segments)
    for one in opened:
        assert not one.model.training and not any(p.requires_grad for p in one.model.parameters())
        found = one.outputs(batch, TeacherNeeds(frozenset({1.0}), hidden=True, taps=frozenset({"layers.0"})))
        assert found.hidden is not None and not found.hidden.requires_grad
        assert found.taps["layers.0"].shape == (2, 11, 12)
        torch.testing.assert_close(found.targets(*found.rows).log_probs(1.0), expected.log_softmax(-1))
    assert opened[0].hash == opened[1].hash == weights_hash(weights_of(tmp_path / "package"))
    with pytest.raises(WeightError, match="holds no weights"):
        LiveTeacher.open(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-tied-biased", "gpt_oss-mxfp4"])
def test_a_teacher_is_opened_from_a_hugging_face_folder(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tests.hub.oracles import ORACLES, save

    reference = save(ORACLES[name], tmp_path)
    teacher = LiveTeacher.open(tmp_path)
    tokens = torch.arange(22).view(2, 11) % teacher.vocab
    found = teacher.outputs(Batch(tokens, None, None, torch.arange(2)), TeacherNeeds(frozenset({1.0})))
    with torch.no_grad():
        expected = reference(tokens).logits.log_softmax(-1)
    torch.testing.assert_close(found.targets(*found.rows).log_probs(1.0), expected, rtol=1e-4, atol=1e-4)


def test_the_hash_is_of_the_values(tmp_path: Path, graph: Graph, weights: dict[str, Tensor]) -> None:
    other = {**weights, "norm.weight": weights["norm.weight"] + 1e-6}
    compile_model(graph, tmp_path / "one", weights=weights)
    compile_model(graph, tmp_path / "other", weights=other)
    assert weights_hash(weights_of(tmp_path / "one")) != weights_hash(weights_of(tmp_path / "other"))


# -- what is kept ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("divergence", list(DIVERGENCES))
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_with_all_tokens_but_one_kept_the_loss_is_the_live_one(
    tmp_path: Path, teacher: LiveTeacher, student: Any, divergence: Any, temperature: float
) -> None:
    """The rest is then one token."""
    kept = TopKCache.build(tmp_path / "kept", replace(WANTED, k=VOCAB - 1), teacher, STREAM)
    batch, kd = STREAM.batch([5, 2]), LogitKD(divergence=divergence, temperature=temperature)
    losses = [mean(kd, student, batch, Setting(graph_of("*-"), {"big": one})) for one in (teacher, kept)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-7)
    live, cached = (gradients(loss, student) for loss in losses)
    for name in live:
        torch.testing.assert_close(live[name], cached[name], rtol=1e-4, atol=1e-6)


def test_what_is_kept_are_the_likeliest_tokens(cache: TopKCache, teacher: LiveTeacher) -> None:
    batch = STREAM.batch([6, 0, 3])
    logits = teacher.model(batch.tokens, batch.segments).log_softmax(-1)
    ids, values, *_ = cache.outputs(batch, TeacherNeeds(frozenset({1.0}))).rows
    best = logits.topk(5)
    assert torch.equal(ids, best.indices)
    torch.testing.assert_close(values.double(), best.values, rtol=1e-6, atol=1e-6)
    assert sum(file.stat().st_size for file in cache.folder.glob("*.bin")) == SAMPLES * LENGTH * (5 * 6 + 2 * 8)


def test_what_is_not_kept_is_told_before_anything_runs(cache: TopKCache) -> None:
    student = graph_of("*-")
    setting = Setting(student, {"big": cache})
    with pytest.raises(ArchcError, match=r"is kept for temperature 1, 2: got 3"):
        Losses([LogitKD(temperature=3.0)], setting)
    with pytest.raises(ArchcError, match=r"a teacher of which only logits are kept tells nothing of its layers"):
        Losses([HiddenKD(taps={"norm": "norm"})], setting)
    with pytest.raises(ArchcError, match="student has 32 tokens, the teacher `big` has 24"):
        Losses([LogitKD()], Setting(graph_of("*-", vocab=32), {"big": cache}))
    with pytest.raises(ArchcError, match="keeps a teacher's logits only"):
        cache.check(TeacherNeeds(hidden=True))
    assert temperatures([LogitKD(), NextToken(), LogitKD(temperature=2.0, teacher="x")], "x") == (1.0, 2.0)


def test_samples_that_are_not_there(cache: TopKCache) -> None:
    with pytest.raises(ArchcError, match=r"holds samples 0 to 6: got 7"):
        cache.outputs(STREAM.batch([1, 7]), TeacherNeeds())
    with pytest.raises(ArchcError, match=r"holds samples of 9 tokens: got 11"):
        cache.outputs(batch_of(), TeacherNeeds())


# -- building ----------------------------------------------------------------------------------------------------------


class Killed(LiveTeacher):
    """A teacher that is killed at a call."""

    calls = 0
    at = 2

    def outputs(self, batch: Batch, needs: TeacherNeeds) -> Any:
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return super().outputs(batch, needs)


def test_building_goes_on_where_it_was_killed(
    tmp_path: Path, teacher: LiveTeacher, cache: TopKCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk_cache, "_SAVE_S", 0.0)
    folder = tmp_path / "again"
    killed = Killed(teacher.graph, teacher.model)
    with pytest.raises(KeyboardInterrupt):
        TopKCache.build(folder, WANTED, killed, STREAM, batch=3)
    assert not folder.exists() and (tmp_path / ".again.partial/done").read_text() == "3"
    with pytest.raises(ArchcError, match="again: no cache of logits, it has no manifest"):
        TopKCache.open(folder, WANTED)

    killed.at = 0
    TopKCache.build(folder, WANTED, killed, STREAM, batch=3)
    assert killed.calls == 4  # one, the one that was killed, two more
    for name in WANTED.sizes:
        assert (folder / name).read_bytes() == (cache.folder / name).read_bytes()
    TopKCache.build(folder, WANTED, killed, STREAM)
    assert killed.calls == 4 and not (tmp_path / ".again.partial").exists()


def test_the_beginning_of_another_cache_is_not_gone_on_with(
    tmp_path: Path, teacher: LiveTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        TopKCache.build(tmp_path / "kept", WANTED, Killed(teacher.graph, teacher.model), STREAM, batch=3)
    message = r"\.kept\.partial: stale: it was computed with k 5, this run has 6: remove it"
    with pytest.raises(ArchcError, match=message):
        TopKCache.build(tmp_path / "kept", replace(WANTED, k=6), teacher, STREAM)


def test_two_do_not_build_at_once(tmp_path: Path, teacher: LiveTeacher) -> None:
    partial = tmp_path / ".kept.partial"
    partial.mkdir()
    held = os.open(partial, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(ArchcError, match="another process is building it"):
        TopKCache.build(tmp_path / "kept", WANTED, teacher, STREAM)
    os.close(held)
    TopKCache.build(tmp_path / "kept", WANTED, teacher, STREAM)


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, teacher: LiveTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        TopKCache.build(tmp_path / "kept", WANTED, teacher, STREAM)
    monkeypatch.undo()
    TopKCache.build(tmp_path / "kept", WANTED, teacher, STREAM)


def test_logits_are_chunked_when_building(
    tmp_path: Path, teacher: LiveTeacher, cache: TopKCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk_cache, "CHUNK_ELEMENTS", 2 * VOCAB)
    rows = []
    logits = teacher.model.logits
    monkeypatch.setattr(teacher.model, "logits", lambda h: rows.append(len(h)) or logits(h))
    built = TopKCache.build(tmp_path / "chunked", WANTED, teacher, STREAM)
    assert max(rows) == 2 and sum(rows) == SAMPLES * LENGTH
    assert (built.folder / "ids.bin").read_bytes() == (cache.folder / "ids.bin").read_bytes()


# -- staleness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"teacher": "d" * 64}, "teacher aaaaaaaaaaaa, this run has dddddddddddd"),
        ({"tokenizer": "d" * 64}, "tokenizer bbbbbbbbbbbb, this run has dddddddddddd"),
        ({"stream": "d" * 64}, "stream cccccccccccc, this run has dddddddddddd"),
        ({"precision": "bfloat16"}, "precision float64, this run has bfloat16"),
        ({"k": 4}, "k 5, this run has 4"),
        ({"samples": 8, "length": 10}, "samples 7, this run has 8; length 9, this run has 10"),
        ({"temperatures": (1.0, 3.0)}, r"temperatures \(1.0, 2.0\), this run has \(1.0, 3.0\)"),
    ],
)
def test_a_stale_cache_says_what_differs(cache: TopKCache, change: dict[str, Any], told: str) -> None:
    with pytest.raises(ArchcError, match=f"kept: stale: it was computed with {told}: remove it to compute it anew"):
        TopKCache.open(cache.folder, replace(WANTED, **change))


def test_more_than_is_wanted_does_no_harm(cache: TopKCache) -> None:
    assert TopKCache.open(cache.folder, replace(WANTED, samples=3, temperatures=(2.0,))).manifest == WANTED


def test_damage_is_told(cache: TopKCache) -> None:
    (cache.folder / "tails.bin").unlink()
    with (cache.folder / "ids.bin").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(ArchcError, match=r"damaged: ids\.bin has 10 bytes, expected 630; tails\.bin is missing"):
        TopKCache.open(cache.folder, WANTED)
    (cache.folder / "manifest.json").write_text("{")
    with pytest.raises(ArchcError, match=r"manifest\.json: corrupted: .*: remove the folder"):
        TopKCache.open(cache.folder, WANTED)
    (cache.folder / "manifest.json").write_text(json.dumps({"version": 1}))
    with pytest.raises(ArchcError, match=r"corrupted: .*missing 8 required"):
        TopKCache.open(cache.folder, WANTED)


@pytest.mark.parametrize(("change", "told"), [({"k": 24}, "got top_k 24"), ({"samples": 0}, "keeps samples: got 0")])
def test_what_cannot_be_kept(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ArchcError, match=told):
        replace(WANTED, **change)


def test_a_models_logits_are_computed_once(
    tmp_path: Path, graph: Graph, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHC_CACHE", str(tmp_path / "cache"))
    compile_model(graph, tmp_path / "package", weights=weights)
    first = cached_teacher(tmp_path / "package", STREAM, tokenizer="t", samples=4, k=3)
    monkeypatch.setattr(topk_cache, "emitted_of", None)  # it does not run again
    again = cached_teacher(tmp_path / "package", STREAM, tokenizer="t", samples=4, k=3)
    assert again.folder == first.folder and again.hash == first.hash
    other = init_weights(graph, seed=8)
    compile_model(graph, tmp_path / "package", weights=other, overwrite=True)
    with pytest.raises(ArchcError, match="stale: it was computed with teacher"):
        cached_teacher(tmp_path / "package", STREAM, tokenizer="t", samples=4, k=3, folder=first.folder)
