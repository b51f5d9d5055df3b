"""What an emitted model refuses: one clear ValueError, and a state as it was before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

TOKENS = torch.arange(16).view(2, 8)
PACKED = torch.zeros(2, 1, dtype=torch.long)

Call = Callable[[Any, Any], object]
REFUSED: dict[str, tuple[Call, str]] = {
    "decode past the end": (lambda m, s: m.decode(TOKENS[:, 0], s), "holds 8 tokens: got 8 and 1 more"),
    "prefill past the end": (lambda m, s: m.prefill(TOKENS[:, :3], s), "holds 8 tokens: got 8 and 3 more"),
    "another batch": (lambda m, s: m.prefill(TOKENS[:1], s), "state of 2 sequences: got tokens of 1"),
    "decode another batch": (lambda m, s: m.decode(TOKENS[0, :3], s), "state of 2 sequences: got tokens of 3"),
    "decode many tokens": (lambda m, s: m.decode(TOKENS, s), r"one token of each sequence, .*: got \[2, 8\]"),
    "no tokens": (lambda m, s: m.prefill(TOKENS[:, :0], s), r"must be \[B, L\], with at least one .*: got \[2, 0\]"),
    "no sequences": (lambda m, s: m(TOKENS[:0]), r"must be \[B, L\], with at least one .*: got \[0, 8\]"),
    "tokens of one sequence": (lambda m, s: m(TOKENS[0]), r"must be \[B, L\], with at least one .*: got \[8\]"),
    "segments of another shape": (lambda m, s: m(TOKENS, PACKED), r"segments must be \[2, 8\] .*: got \[2, 1\]"),
    "packed with a state": (lambda m, s: m.hidden(TOKENS[:, :1], PACKED, state=s), "segments and a state"),
    "an unknown tap": (
        lambda m, s: m.hidden(TOKENS, taps=["norm", "layers.99", "nonsense"], state=s),
        r"cannot tap layers.99, nonsense: taps are embedding, layers.N, layers.N.norm, layers.N.mixer.*, norm \(N < ",
    ),
    "taps that do not run": (
        lambda m, s: m.hidden(TOKENS, taps=["mtp", "layers", "", "lm_head"]),
        "cannot tap mtp, layers, , lm_head: taps are",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refused_call_changes_nothing(compiled: Any, call: Call, message: str) -> None:
    model = compiled.model
    state = model.new_state(2, 8)
    model.prefill(TOKENS, state)
    before = state.clone()
    with pytest.raises(ValueError, match=message):
        call(model, state)
    assert state.length == 8
    for now, then in zip(tree_leaves(state), tree_leaves(before), strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=0)


def test_multi_token_prediction_takes_batches(compiled: Any) -> None:
    if not hasattr(compiled.model, "mtp"):
        pytest.skip("no multi-token prediction")
    h = compiled.model.hidden(TOKENS)
    with pytest.raises(ValueError, match=r"tokens must be \[B, L\]"):
        compiled.model.mtp(h, TOKENS[0])


def test_every_tap_runs(compiled: Any) -> None:
    """What the message names as taps is what `hidden` gives."""
    model = compiled.model
    inside = {name.partition(".")[0] for name in dict(model.named_children())} - {"mtp", "lm_head"}
    taps = [n for n, _ in model.named_modules() if n.partition(".")[0] in inside and n != "layers"]
    _, found = model.hidden(TOKENS, taps=taps)
    assert found.keys() == set(taps)
