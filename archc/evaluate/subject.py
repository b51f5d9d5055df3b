"""The model that is measured: a compiled package, or anything with weights, which is compiled in a scratch folder."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archc.train.tokenizers import Tokenizer


@dataclass(frozen=True)
class Subject:
    """An emitted model, its tokenizer and the size of its vocabulary (of its logits)."""

    name: str
    model: Any
    tokenizer: Tokenizer
    vocab: int
    device: str = "cpu"

    @property
    def mtp_steps(self) -> int:
        """How many tokens beyond the next one the model predicts; 0 without multi-token prediction."""
        return int(getattr(getattr(self.model, "mtp", None), "steps", 0))


def open_subject(
    model: str, *, tokenizer: str | Tokenizer | None = None, device: str = "cpu", dtype: str = "float32"
) -> Subject:
    """Open a compiled package, an archc checkpoint or a Hugging Face folder, with its own tokenizer unless told.

    Raises ArchcError or one of its kin where it has no weights or no tokenizer.
    """
    from archc.emitted import is_emitted
    from archc.train.tokenizers import find_tokenizer

    folder = Path(model)
    if is_emitted(folder):
        network, vocab = _loaded(folder, device, dtype)
    else:
        with tempfile.TemporaryDirectory(prefix="archc-eval-") as scratch:
            network, vocab = _loaded(_compiled(folder, Path(scratch) / "model"), device, dtype)
    text = find_tokenizer(tokenizer or model) if tokenizer is None or isinstance(tokenizer, str) else tokenizer
    return Subject(model, network, text, vocab, device)


def _compiled(folder: Path, out: Path) -> Path:
    """The package of anything that holds weights, streamed into `out`."""
    from archc.codegen import emit_package
    from archc.hub.stream import run_into
    from archc.hub.weights import weights_of

    found = weights_of(folder)
    return emit_package(found.graph, out, fill=lambda made: run_into(made, found.made, found.tensors))


def _loaded(package: Path, device: str, dtype: str) -> tuple[Any, int]:
    from archc.emitted import load_emitted

    config = json.loads((package / "config.json").read_text(encoding="utf-8"))
    return load_emitted(package, device=device, dtype=dtype).eval(), int(config["vocab"])
