"""Packed documents do not leak: an emitted model gives of a packed batch what it gives of its documents alone, MTP and
gradients included, and a state-space scan that is reset has no NaN, however strong its decay."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from archc.compilation import compile_model
from archc.emitted import import_emitted
from archc.train.bytes import ByteTokenizer
from archc.train.packed import PackedDataset
from archc.train.sources.text import Text
from archc.train.stream import Stream
from tests.codegen.conftest import GRAPHS, MAMBA, compile_graph, model, weights

VOCAB = 101
LENGTHS = ((1, 9, 4, 2, 7), (23,), (2, 1, 1, 19), (8, 8, 7))  # of documents packed into rows of 23 tokens


@pytest.fixture(scope="module", params=GRAPHS)
def emitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Every graph of the code generator's tests, in fp64."""
    return compile_graph(GRAPHS[request.param](), tmp_path_factory.mktemp("leaks")).model


@pytest.fixture(params=["eager", "as compiled"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways through the kernels: the plain one, and the one that torch.compile and torch.export trace."""
    if request.param == "as compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


def packed() -> tuple[Tensor, Tensor]:
    """Tokens and segments [B, L]; ids of segments come back, which tells nothing."""
    tokens = torch.randint(VOCAB, (len(LENGTHS), 23), generator=torch.Generator().manual_seed(0))
    segments = [torch.tensor([i % 2] * n) for row in LENGTHS for i, n in enumerate(row)]
    return tokens, torch.cat(segments).view(tokens.shape).int()


def documents() -> Iterator[tuple[int, slice]]:
    """Row and place of each document."""
    for row, lengths in enumerate(LENGTHS):
        for start, stop in itertools.pairwise([0, *itertools.accumulate(lengths)]):
            yield row, slice(start, stop)


def outputs(emitted: Any, tokens: Tensor, segments: Tensor | None = None) -> list[Tensor]:
    """Logits and the hiddens of MTP, [B, L, ...] each."""
    h = emitted.hidden(tokens, segments)
    drafts = emitted.mtp(h, tokens, segments) if hasattr(emitted, "mtp") else ()
    return [emitted.logits(h), *drafts]


def losses(made: list[Tensor], tokens: Tensor, weights: Tensor) -> Tensor:
    """Summed loss of logits [L, V], and something of the MTP hiddens [L, D], of one document."""
    next_token = cross_entropy(made[0][:-1], tokens[1:], reduction="none")
    return (next_token * weights[1:]).sum() + sum((h * weights[:, None]).sin().sum() for h in made[1:])


@pytest.mark.usefixtures("path")
def test_a_packed_batch_gives_what_its_documents_give_alone(emitted: Any) -> None:
    tokens, segments = packed()
    together = outputs(emitted, tokens, segments)
    for row, place in documents():
        alone = outputs(emitted, tokens[row : row + 1, place])
        for whole, one in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[row : row + 1, place], one, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("path")
def test_gradients_are_the_sums_of_those_of_the_documents_alone(emitted: Any) -> None:
    tokens, segments = packed()
    scale = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parameters = dict(emitted.named_parameters())

    made = outputs(emitted, tokens, segments)
    total = sum(losses([x[r, at] for x in made], tokens[r, at], scale[r, at]) for r, at in documents())
    together = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)

    each = [outputs(emitted, tokens[row : row + 1, place]) for row, place in documents()]
    total = sum(
        losses([x[0] for x in one], tokens[row, place], scale[row, place])
        for one, (row, place) in zip(each, documents(), strict=True)
    )
    alone = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    for name, a, b in zip(parameters, together, alone, strict=True):
        assert (a is None) == (b is None), name
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def test_no_gradient_flows_into_another_document(emitted: Any) -> None:
    """Up to rounding: what a token before a reset adds to two cumulative sums cancels in their difference."""
    segments = packed()[1][:1]
    tokens = torch.arange(23)[None] + 40  # each once, so that its row of the embedding is its own
    row, place = list(documents())[2]
    made = outputs(emitted, tokens, segments)
    drafts = made[1:] or [emitted.hidden(tokens, segments)]
    score = sum(h[row, place].sin().sum() for h in drafts)
    (gradient,) = torch.autograd.grad(score, emitted.embedding.weight)
    reached = gradient.abs().amax(1)
    inside = tokens[0, place]
    assert (reached[inside] > 1e-4).all()
    reached[inside] = 0
    assert reached.max() < 1e-13


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("A_log", "dt_bias"), [(12.0, 8.0), (-20.0, -20.0), (3.0, 30.0), (0.0, 0.0)])
def test_a_reset_scan_has_no_nan_however_strong_the_decay(
    tmp_path: Path, A_log: float, dt_bias: float, dtype: torch.dtype
) -> None:
    graph = model("strong", [MAMBA, MAMBA])
    given = {
        key: torch.full_like(value, A_log) if key.endswith("A_log")
        else torch.full_like(value, dt_bias) if key.endswith("dt_bias") else value
        for key, value in weights(graph, dtype=torch.float32).items()
    }  # fmt: skip
    emitted = import_emitted(compile_model(graph, tmp_path / "strong", weights=given, command="test")).load(dtype=dtype)
    tokens, segments = packed()
    loss = cross_entropy(emitted(tokens, segments).flatten(0, 1).float(), tokens.flatten())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in emitted.parameters())


def test_batches_of_a_stream_are_what_a_model_takes(tmp_path: Path) -> None:
    graph = model("bytes", [MAMBA, MAMBA])
    emitted = compile_graph(graph, tmp_path).model
    (tmp_path / "a.txt").write_text("\n".join("abc" * n for n in range(1, 9)))
    source = Text(files=str(tmp_path / "a.txt"), documents_are="lines")

    class Low(ByteTokenizer):
        """Bytes that fit the model's vocabulary."""

        hash = "low"  # type: ignore[assignment]

    packed = PackedDataset.build(source, Low(begin=98, end=99), tmp_path / "packed")
    batch = Stream([packed], length=32).batch(range(4))
    assert batch.segments is not None and batch.weights is not None
    logits = emitted(batch.tokens, batch.segments)
    for row, tokens in enumerate(batch.tokens):
        for segment in batch.segments[row].unique():
            here = batch.segments[row] == segment
            torch.testing.assert_close(logits[row, here], emitted(tokens[here][None])[0], rtol=1e-9, atol=1e-9)
