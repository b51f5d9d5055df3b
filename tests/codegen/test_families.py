"""Every foreign family, imported and compiled, against transformers: full forward, chunked prefill, decode in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from archc.compilation import compile_model
from archc.emitted import load_emitted
from archc.hub.import_ import import_checkpoint
from tests.hub.oracles import ORACLES, save

# Of logits whose standard deviation is 1.5 to 3.
TIGHT: dict[str, Any] = {"rtol": 0.0, "atol": 5e-5}


@pytest.mark.parametrize("name", ORACLES)
def test_logits(name: str, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    reference = save(ORACLES[name], tmp_path / "hf")
    checkpoint = import_checkpoint(tmp_path / "hf", tmp_path / "ckpt")
    model = load_emitted(compile_model(checkpoint.graph, tmp_path / "made", weights=checkpoint.directory))
    tokens = torch.randint(0, 150, (2, 19))
    with torch.no_grad():
        right = reference(tokens).logits
        torch.testing.assert_close(model(tokens), right, **TIGHT)
    state = model.new_state(2, 19)
    for start, end in ((0, 7), (7, 12)):
        torch.testing.assert_close(model.prefill(tokens[:, start:end], state), right[:, end - 1], **TIGHT)
    for t in range(12, 19):
        torch.testing.assert_close(model.decode(tokens[:, t], state), right[:, t], **TIGHT)
