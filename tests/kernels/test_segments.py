"""Runs, positions, shifts, and the state."""

from __future__ import annotations

import pytest
import torch

from archc.kernels.reference import LayerState, segment_positions, segment_runs, shift_left

IDS = torch.tensor([[7, 7, 2, 2, 2, 7], [0, 1, 2, 2, 3, 3]])


def test_runs_and_positions() -> None:
    assert segment_runs(IDS).tolist() == [[0, 0, 1, 1, 1, 2], [0, 1, 2, 2, 3, 3]]
    assert segment_positions(IDS).tolist() == [[0, 1, 0, 1, 2, 0], [0, 0, 0, 1, 0, 1]]


@pytest.mark.parametrize("n", [0, 1, 2, 5, 6, 9])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inner", [(), (3,)])
def test_shift_left(n: int, packed: bool, inner: tuple[int, ...]) -> None:
    x = torch.randint(1, 100, (2, 6, *inner))
    shifted = shift_left(x, n, IDS if packed else None)
    runs = segment_runs(IDS)
    for b in range(2):
        for t in range(6):
            inside = t + n < 6 and (not packed or runs[b, t + n] == runs[b, t])
            expected = x[b, t + n] if inside else torch.zeros_like(x[b, t])
            assert torch.equal(shifted[b, t], expected)
    assert shifted.dtype == x.dtype


def test_shift_left_has_gradients() -> None:
    x = torch.randn(2, 6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: shift_left(x, 2, IDS), x)


def test_state_is_a_pytree_and_copies() -> None:
    state = LayerState(ssm=torch.ones(2, 3), k=torch.ones(4, dtype=torch.bfloat16), length=5)
    assert state.nbytes == 2 * 3 * 4 + 4 * 2
    copy = state.clone()
    copy.ssm.zero_()
    assert state.ssm.sum() == 6 and copy.length == 5 and copy.conv is None
    doubled = torch.utils._pytree.tree_map(lambda leaf: leaf * 2, state)
    assert doubled.length == 10 and doubled.ssm.sum() == 12 and doubled.v is None
