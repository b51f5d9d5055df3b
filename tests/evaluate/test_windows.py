"""Windows score every token once, with the context that the stride promises."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.evaluate.windows import Window, batches, windows


@settings(deadline=None)
@given(
    st.integers(2, 60),
    st.integers(1, 5),
    st.integers(1, 16).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
)
def test_every_token_is_scored_once_with_its_context(count: int, first: int, size: tuple[int, int]) -> None:
    length, stride = size
    tokens = torch.arange(count)
    scored = []
    for window in windows(tokens, first=first, length=length, stride=stride):
        assert window.inputs <= length
        assert window.tokens.tolist() == list(range(int(window.tokens[0]), int(window.tokens[-1]) + 1))
        for place in window.scored:
            token = int(window.tokens[place])
            assert place >= min(token, length - stride + 1)  # tokens of context
            scored.append(token)
    assert scored == list(range(first, count))


@settings(deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=12), st.integers(1, 40))
def test_batches_hold_every_window_within_their_size(lengths: list[int], batch_tokens: int) -> None:
    found = [Window(torch.full((n,), i), range(1, n)) for i, n in enumerate(lengths)]
    seen: list[int] = []
    for batch in batches(found, batch_tokens=batch_tokens):
        assert batch.inputs.numel() <= batch_tokens or len(batch.inputs) == 1
        assert batch.scored.sum() == len(batch.targets) == sum(lengths[n] - 1 for n in batch.numbers)
        assert (batch.inputs[batch.scored] == batch.targets).all()  # each window repeats its number
        seen += batch.numbers
    assert sorted(seen) == list(range(len(lengths)))
