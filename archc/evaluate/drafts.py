"""Multi-token prediction as a draft model: how often the model itself goes on as its MTP steps said it would.

The model goes on greedily from prompts of held-out text. Its steps' likeliest tokens are held against what it then
said, pass by pass, as greedy speculative decoding accepts them: a draft counts only if those before it were right, and
the next pass begins behind the last one accepted. How fast that would be is another matter, and not measured.
"""

from __future__ import annotations

import torch
from torch import Tensor

from archc.evaluate.metric import Figure, Metric, Setting, metric, needs_positive
from archc.evaluate.scoring import chunks
from archc.evaluate.subject import Subject
from archc.kernels.errors import ArchcError, UnsupportedError


@metric("drafts")
class Drafts(Metric):
    """Continuations of `tokens` tokens behind `prompts` prompts of `prompt` tokens each, spread over the texts."""

    prompts: int = 32
    prompt: int = 64
    tokens: int = 64

    def __post_init__(self) -> None:
        needs_positive(self, "prompts", "prompt", "tokens")

    @torch.inference_mode()
    def measure(self, on: Setting) -> tuple[Figure, ...]:
        """How often each step is accepted once those before it were, the tokens that a pass of the model gives, and how
        often each step agrees with the model on the texts themselves."""
        steps = on.model.mtp_steps
        if not steps:
            raise UnsupportedError(f"drafts: {on.model.name} has no multi-token prediction")
        if steps >= min(self.tokens, self.prompt):
            raise ArchcError(f"drafts: `prompt` and `tokens` must be above the {steps} steps of the model")
        given, right = self.chosen(on), []
        rows = max(on.batch_tokens // (self.prompt + self.tokens), 1)
        with on.progress("drafts", len(given)) as advance:
            for part in torch.split(given, rows):
                right.append(agreements(on.model, continued(on.model, part, self.tokens)))
                advance(len(part))
        whole = torch.cat(right)
        return tuple(self.figures(whole[:, self.prompt - 1 :], whole[:, : self.prompt - steps]))

    def chosen(self, on: Setting) -> Tensor:
        """Prompts `[n, prompt]` spread over the documents that are long enough."""
        size = self.prompt
        starts = [(e.tokens, at) for e in on.encoded for at in range(0, len(e.tokens) - size + 1, size)]
        if not starts:
            raise ArchcError(f"drafts: no text has {size} tokens to go on from")
        count = min(self.prompts, len(starts))
        picked = [starts[i * len(starts) // count] for i in range(count)]
        return torch.stack([tokens[at : at + size] for tokens, at in picked])

    def figures(self, own: Tensor, text: Tensor) -> list[Figure]:
        """The figures of agreements `[n, L, steps]` behind the prompts, and within them."""
        offered, accepted = walked(own)
        passes, steps = int(offered[0]), own.shape[-1]
        per_pass = 1 + int(accepted.sum()) / passes
        made = []
        for k in range(steps):
            share = int(accepted[k]) / max(int(offered[k]), 1)
            words = f"drafts of step {k + 1} accepted" + (", once those before were" if k else "")
            made.append(Figure(f"acceptance.{k + 1}", share, words, f"{share:.1%} of {int(offered[k]):,}"))
        made.append(Figure("tokens_per_pass", per_pass, "tokens a pass of the model", f"{per_pass:.3f}"))
        for k, share in enumerate(text.double().mean((0, 1)).tolist(), start=1):
            made.append(Figure(f"agreement.{k}", share, f"step {k} agrees with the model on the text", f"{share:.1%}"))
        return [*made, Figure("passes", passes, "passes", f"{passes:,}")]


def continued(subject: Subject, prompts: Tensor, count: int) -> Tensor:
    """Prompts `[n, P]`, each with the model's `count` likeliest next tokens, one after the other: `[n, P + count]`."""
    state = subject.model.new_state(len(prompts), prompts.shape[1] + count)
    logits = subject.model.prefill(prompts.to(subject.device), state)
    said = []
    for number in range(count):
        said.append(logits[:, : subject.tokenizer.vocab_size].argmax(-1))
        if number < count - 1:
            logits = subject.model.decode(said[-1], state)
    return torch.cat([prompts, torch.stack(said, 1).cpu()], 1)


def agreements(subject: Subject, tokens: Tensor) -> Tensor:
    """Whether step k at position t gives the token that the model gives at t + k: `[n, L - steps, steps]`."""
    given = tokens.to(subject.device)
    h = subject.model.hidden(given)
    model = likeliest(subject, h)
    drafts = [likeliest(subject, step) for step in subject.model.mtp(h, given)]
    length = tokens.shape[1] - len(drafts)
    return torch.stack([d[:, :length] == model[:, k : k + length] for k, d in enumerate(drafts, start=1)], -1).cpu()


def likeliest(subject: Subject, h: Tensor) -> Tensor:
    """The likeliest token `[n, L]` for hidden states `[n, L, D]`; never padding of the vocabulary."""
    rows, known = h.flatten(0, 1), subject.tokenizer.vocab_size
    parts = [
        subject.model.logits(rows[None, part])[0, :, :known].argmax(-1) for part in chunks(len(rows), subject.vocab)
    ]
    return torch.cat(parts).view(h.shape[:2])


def walked(right: Tensor) -> tuple[Tensor, Tensor]:
    """How often each step was offered a draft, and how often it was accepted, `[steps]` each, for agreements
    `[n, L, steps]`: pass by pass, each behind the tokens that the one before gave."""
    steps = right.shape[-1]
    chains = right.long().cumprod(-1).sum(-1)  # accepted in a row
    offered, accepted = torch.zeros(steps, dtype=torch.int64), torch.zeros(steps, dtype=torch.int64)
    for row in chains.tolist():
        at = 0
        while at < len(row):
            offered[: min(row[at] + 1, steps)] += 1
            accepted[: row[at]] += 1
            at += row[at] + 1
    return offered, accepted
