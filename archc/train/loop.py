"""A simple training loop over an emitted model: AdamW, warm-up and cosine, next-token and MTP losses, held-out loss.

The run has a budget in seconds or in steps; by steps it is reproducible from its seed, by seconds its length depends
on the machine. SIGINT ends it after the current step, and the checkpoint is saved as at any other end.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from archc.kernels.errors import ArchcError
from archc.train.data import TokenData, random_windows, spread_windows


class TrainableModel(Protocol):
    """The part of an emitted model that training uses (design: the emitted interface)."""

    def hidden(self, tokens: Tensor) -> Tensor:
        """Final hidden states `[B, L, D]` of tokens `[B, L]`."""

    def logits(self, h: Tensor) -> Tensor:
        """Logits `[B, L, V]` of hidden states."""

    def mtp(self, h: Tensor, tokens: Tensor) -> Sequence[Tensor]:
        """One hidden `[B, L, D]` per MTP step; step k at position t predicts token t + k + 1."""


@dataclass(frozen=True)
class TrainOptions:
    """How to train. Exactly one of `seconds` and `steps` is the budget."""

    seconds: float | None = 120.0
    steps: int | None = None
    batch: int = 4
    length_tokens: int = 128
    learning_rate: float = 3e-3
    warmup_share: float = 0.03
    final_rate_share: float = 0.1
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    mtp_weight: float = 0.3
    eval_every_s: float = 15.0
    eval_windows: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            given = f"got seconds={self.seconds}, steps={self.steps}"
            raise ArchcError(f"a run has a budget of seconds or of steps: {given}")
        for name in ("seconds", "steps", "batch", "length_tokens", "learning_rate", "clip_norm", "eval_windows"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ArchcError(f"`{name}` must be positive: got {value}")
        if self.length_tokens < 2:
            raise ArchcError(f"a sequence needs two tokens, one to predict from: got {self.length_tokens}")


@dataclass(frozen=True)
class Record:
    """One step, or one measurement on held-out text (`held_out_loss`), of a run. Losses are nats per token."""

    step: int
    elapsed_s: float
    progress: float
    tokens: int
    tokens_per_s: float
    learning_rate: float
    loss: float | None = None
    mtp_loss: float | None = None
    held_out_loss: float | None = None


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    steps: int
    tokens: int
    elapsed_s: float
    first_held_out_loss: float
    held_out_loss: float
    interrupted: bool


def learning_rate_share(progress: float, *, warmup: float, final: float) -> float:
    """Linear warm-up over `warmup` of the run, then a cosine down to `final`; `progress` runs from 0 to 1.

    >>> [round(learning_rate_share(p, warmup=0.1, final=0.1), 3) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.55, 0.1]
    """
    if progress < warmup:
        return progress / warmup
    rest = (progress - warmup) / max(1.0 - warmup, 1e-9)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(rest, 1.0)))


def token_losses(model: TrainableModel, tokens: Tensor, *, mtp: bool) -> tuple[Tensor, Tensor | None]:
    """Next-token loss and mean MTP loss of windows `[B, L]`, in nats; the MTP loss is None without `mtp`."""
    h = model.hidden(tokens)
    loss = _shifted_loss(model.logits(h), tokens, ahead=1)
    if not mtp:
        return loss, None
    steps = [
        _shifted_loss(model.logits(step), tokens, ahead=k + 1) for k, step in enumerate(model.mtp(h, tokens), start=1)
    ]
    return loss, torch.stack(steps).mean()


def _shifted_loss(logits: Tensor, tokens: Tensor, *, ahead: int) -> Tensor:
    """Cross entropy of logits `[B, L, V]` at t against tokens `[B, L]` at t + ahead; positions past the end are out."""
    kept = logits[:, : tokens.shape[1] - ahead]
    return cross_entropy(kept.flatten(0, 1).float(), tokens[:, ahead:].flatten())


@torch.no_grad()
def held_out_loss(model: TrainableModel, windows: Tensor, *, batch: int) -> float:
    """Mean next-token loss of windows `[N, L]`, in nats, `batch` of them at a time."""
    total = 0.0
    for part in torch.split(windows, batch):
        total += float(token_losses(model, part, mtp=False)[0]) * len(part)
    return total / len(windows)


def optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves vectors (norms, biases, A_log, D) alone."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95), fused=True)


def train(
    model: nn.Module,
    data: TokenData,
    options: TrainOptions,
    *,
    mtp: bool = False,
    report: Sequence[Callable[[Record], None]] = (),
    save: Callable[[Summary], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Summary:
    """Train `model` (an emitted model) in place until the budget is spent or SIGINT or SIGTERM comes, then call `save`.

    `mtp` says that the model has an MTP region; every Record goes to each of `report`.
    Raises ArchcError as soon as the loss is not finite, or where a window does not fit the data.
    """
    run = _Run(model, data, options, mtp=mtp, report=report, clock=clock)
    with _interrupts() as interrupted:
        summary = run.until(interrupted)
    if save is not None:
        save(summary)
    return summary


class _Run:
    """One training run in progress."""

    def __init__(
        self,
        model: nn.Module,
        data: TokenData,
        options: TrainOptions,
        *,
        mtp: bool,
        report: Sequence[Callable[[Record], None]],
        clock: Callable[[], float],
    ) -> None:
        self.model, self.data, self.options, self.mtp = model, data, options, mtp
        self.report, self.clock = report, clock
        self.optimizer = optimizer(model, options)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.windows = spread_windows(data.held_out, count=options.eval_windows, length=options.length_tokens)
        self.step = 0
        self.began = clock()

    def until(self, interrupted: threading.Event) -> Summary:
        first = last = self.measure()
        measured_s, measured_step = self.elapsed_s, self.step
        while self.progress < 1.0 and not interrupted.is_set():
            self.train_step()
            if self.elapsed_s - measured_s >= self.options.eval_every_s:
                last = self.measure()
                measured_s, measured_step = self.elapsed_s, self.step
        if self.step > measured_step:
            last = self.measure()
        return Summary(self.step, self.tokens, self.elapsed_s, first, last, interrupted.is_set())

    @property
    def elapsed_s(self) -> float:
        return self.clock() - self.began

    @property
    def tokens(self) -> int:
        return self.step * self.options.batch * self.options.length_tokens

    @property
    def progress(self) -> float:
        """The share of the budget that is spent, 0 to 1."""
        if self.options.steps is not None:
            return min(self.step / self.options.steps, 1.0)
        return min(self.elapsed_s / (self.options.seconds or math.inf), 1.0)

    @property
    def learning_rate(self) -> float:
        """The rate of the step that comes next; the first step's is not zero."""
        options = self.options
        progress = self.progress if options.steps is None else min((self.step + 1) / max(options.steps, 1), 1.0)
        share = learning_rate_share(progress, warmup=options.warmup_share, final=options.final_rate_share)
        return options.learning_rate * share

    def train_step(self) -> None:
        options, rate = self.options, self.learning_rate
        tokens = random_windows(
            self.data.train, batch=options.batch, length=options.length_tokens, generator=self.generator
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        loss, mtp_loss = token_losses(self.model, tokens, mtp=self.mtp)  # type: ignore[arg-type]
        total = loss if mtp_loss is None else loss + options.mtp_weight * mtp_loss
        if not torch.isfinite(total):
            raise ArchcError(
                f"the loss is {total.item()} at step {self.step}: try a learning rate below {options.learning_rate:g}"
            )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), options.clip_norm)
        self.optimizer.step()
        self.step += 1
        self.tell(rate, loss=loss.item(), mtp_loss=None if mtp_loss is None else mtp_loss.item())

    def measure(self) -> float:
        self.model.eval()
        loss = held_out_loss(self.model, self.windows, batch=self.options.batch)  # type: ignore[arg-type]
        self.tell(self.learning_rate, held_out_loss=loss)
        return loss

    def tell(
        self,
        rate: float,
        *,
        loss: float | None = None,
        mtp_loss: float | None = None,
        held_out_loss: float | None = None,
    ) -> None:
        elapsed = self.elapsed_s
        record = Record(
            step=self.step,
            elapsed_s=elapsed,
            progress=self.progress,
            tokens=self.tokens,
            tokens_per_s=self.tokens / elapsed if elapsed > 0 else 0.0,
            learning_rate=rate,
            loss=loss,
            mtp_loss=mtp_loss,
            held_out_loss=held_out_loss,
        )
        for report in self.report:
            report(record)


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; the same signal again acts at once. Only the main thread hears signals."""
    heard = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hear(signum: int, frame: FrameType | None) -> None:
        heard.set()
        signal.signal(signum, previous[signal.Signals(signum)])

    for number in previous:
        signal.signal(number, hear)
    try:
        yield heard
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
