"""Emitted packages against eager transformers, same weights, side by side: `python benchmarks/emitted.py`.

Small random nemotron_h models (Mamba-2, attention and MLP; the same with experts) are saved by transformers, imported
and compiled. Prefill, decode and a training step (forward, loss, backward, AdamW) of both are timed on one thread in
alternating rounds, as CPU time of the process; the least counts. The exit status says whether the emitted package was
slower anywhere.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers

from archc.compilation import compile_model
from archc.emitted import load_emitted
from archc.hub.import_ import import_checkpoint

PREFILL, CONTEXT, DECODED, BATCH, LENGTH = 512, 256, 32, 2, 256
SIZES: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 1024,
    "mamba_num_heads": 16,
    "mamba_head_dim": 32,
    "n_groups": 4,
    "ssm_state_size": 64,
    "conv_kernel": 4,
    "chunk_size": 128,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 128,
    "moe_shared_expert_intermediate_size": 256,
}
PATTERNS = {"hybrid": "M-M-*-M-M-*-", "hybrid with experts": "MEME*EMEME*E"}

Timed = Callable[[], float]


def main() -> None:
    """Print both times of every model and mode, and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    slower = False
    print(f"{'':48}{'transformers':>14}{'emitted':>12}{'ratio':>8}")
    for name, pattern in PATTERNS.items():
        with tempfile.TemporaryDirectory() as folder:
            theirs, mine = pair(pattern, Path(folder))
        check(theirs, mine)
        for mode, calls in modes(theirs, mine):
            their_s, my_s = alternated(*calls, rounds=rounds)
            slower |= my_s > their_s
            print(
                f"{name + ', ' + mode:48}{their_s * 1e3:11.2f} ms{my_s * 1e3:9.2f} ms{my_s / their_s:8.2f}", flush=True
            )
    sys.exit(slower)


def pair(pattern: str, folder: Path) -> tuple[Any, Any]:
    """A random transformers model and the emitted package with its weights."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("nemotron_h", hybrid_override_pattern=pattern, **SIZES)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.float().eval()
    model.save_pretrained(folder / "hf")
    checkpoint = import_checkpoint(folder / "hf", folder / "checkpoint")
    return model, load_emitted(compile_model(checkpoint.graph, folder / "made", weights=checkpoint.directory))


def check(theirs: Any, mine: Any) -> None:
    """Both compute the same."""
    given = tokens(1, PREFILL)
    with torch.no_grad():
        torch.testing.assert_close(mine(given), theirs(given).logits, rtol=1e-4, atol=1e-4)


def modes(theirs: Any, mine: Any) -> Iterator[tuple[str, tuple[Timed, Timed]]]:
    """Each mode with a function of either model that runs it and says how long it took."""
    yield f"prefill of {PREFILL}", (lambda: their_prefill(theirs), lambda: my_prefill(mine))
    yield f"decode at {CONTEXT}, a token", (lambda: their_decode(theirs), lambda: my_decode(mine))
    yield (
        f"training step on {BATCH} x {LENGTH}",
        (
            trainer(theirs, lambda given: theirs(given, use_cache=False).logits),
            trainer(mine, mine),
        ),
    )


@torch.no_grad()
def their_prefill(model: Any) -> float:
    """Seconds until the logits after the prompt are there."""
    given = tokens(1, PREFILL)
    return spent(lambda: model(given, use_cache=True, logits_to_keep=1))


def my_prefill(model: Any) -> float:
    """Seconds until the logits after the prompt are there."""
    given = tokens(1, PREFILL)
    return spent(lambda: model.prefill(given, model.new_state(1, PREFILL)))


@torch.no_grad()
def their_decode(model: Any) -> float:
    """Seconds a token."""
    past = model(tokens(1, CONTEXT), use_cache=True, logits_to_keep=1).past_key_values
    given = torch.split(tokens(1, DECODED), 1, dim=1)
    return spent(lambda: [model(t, past_key_values=past, use_cache=True) for t in given]) / DECODED


def my_decode(model: Any) -> float:
    """Seconds a token."""
    state = model.new_state(1, CONTEXT + DECODED)
    model.prefill(tokens(1, CONTEXT), state)
    given = torch.split(tokens(1, DECODED), 1, dim=1)
    return spent(lambda: [model.decode(t, state) for t in given]) / DECODED


def trainer(model: Any, logits: Callable[[torch.Tensor], torch.Tensor]) -> Timed:
    """Seconds of a step of AdamW on the loss of the next token."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    given = tokens(BATCH, LENGTH + 1)

    def step() -> None:
        loss = F.cross_entropy(logits(given[:, :-1]).flatten(0, 1), given[:, 1:].flatten())
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    return lambda: spent(step)


def alternated(theirs: Timed, mine: Timed, *, rounds: int) -> tuple[float, float]:
    """The least seconds of each, over rounds that run both; the first round only warms up."""
    measured = [(theirs(), mine()) for _ in range(rounds + 1)][1:]
    return min(t for t, _ in measured), min(m for _, m in measured)


def spent(run: Callable[[], object]) -> float:
    """Seconds of CPU time that a call takes."""
    start = time.process_time()
    run()
    return time.process_time() - start


def tokens(batch: int, length: int, *, seed: int = 0) -> torch.Tensor:
    """Random tokens [B, L]."""
    return torch.randint(0, SIZES["vocab_size"], (batch, length), generator=torch.Generator().manual_seed(seed))


if __name__ == "__main__":
    main()
