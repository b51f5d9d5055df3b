"""An emitted model as lm-evaluation-harness asks its models: likelihoods of continuations and texts, and answers.

`Answers` does it, without the harness; `harness_model` gives it the harness's own interface, its class `LM`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from archc.evaluate.metric import Setting
from archc.evaluate.scoring import token_nats
from archc.evaluate.texts import encode
from archc.evaluate.windows import Window, batches, windows
from archc.generate import Sampling, generate
from archc.kernels.errors import UnsupportedError
from archc.kernels.optional import optional
from archc.train.corpus import Document

MAX_GENERATED = 256  # tokens, where a task does not say: as the harness's own models
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Answers:
    """Scores and continues text; contexts are cut on the left to `length` tokens.

    A context begins as a document does, with the tokenizer's `begin` where it has one.
    """

    on: Setting
    length: int

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        """Of each context and continuation, the log-likelihood of the latter, and whether it is the greedy one."""
        scored = self._scored([self._window(*pair) for pair in pairs])
        return [(-float(nats.sum()), bool(likeliest.all())) for nats, likeliest in scored]

    def _window(self, context: str, continuation: str) -> Window:
        """Spaces that end the context begin the continuation, as in the harness, since tokens begin with them."""
        kept, tokenizer = context.rstrip(), self.on.model.tokenizer
        # Where nothing begins a document, an empty context is the end of another.
        first = tokenizer.begin if tokenizer.begin is not None or kept else tokenizer.end
        begun = [] if first is None else [first]
        before = [*begun, *tokenizer.encode(kept)]
        whole = [*begun, *tokenizer.encode(context + continuation)]
        count = len(whole) - len(before)
        if not before or count < 1:
            raise UnsupportedError("harness: this tokenizer gives no tokens before, or none for, a continuation")
        if count > self.length:
            raise UnsupportedError(f"harness: a continuation has {count} tokens: raise `length` from {self.length}")
        tokens = torch.tensor(whole[-(self.length + 1) :])
        return Window(tokens, range(len(tokens) - count, len(tokens)))

    @torch.inference_mode()
    def _scored(self, found: Sequence[Window]) -> list[tuple[Tensor, Tensor]]:
        """Nats of the scored tokens of each window, and whether each was the likeliest."""
        answers: dict[int, tuple[Tensor, Tensor]] = {}
        with self.on.progress("harness", len(found)) as advance:
            for batch in batches(found, batch_tokens=self.on.batch_tokens):
                sizes = [len(found[n].scored) for n in batch.numbers]
                nats, likeliest = token_nats(self.on.model, batch)
                parts = zip(batch.numbers, torch.split(nats, sizes), torch.split(likeliest, sizes), strict=True)
                answers |= {n: (of_one, hits) for n, of_one, hits in parts}
                advance(len(batch.inputs))
        return [answers[n] for n in range(len(found))]

    def rolling(self, texts: Sequence[str]) -> list[float]:
        """The log-likelihood of each text, in windows that do not overlap, but for the last."""
        answers = []
        for text in texts:
            made = encode(Document("", text), self.on.model.tokenizer)
            found = windows(made.tokens, first=made.first, length=self.length, stride=self.length)
            answers.append(-sum(float(nats.sum()) for nats, _ in self._scored(list(found))))
        return answers

    def continued(self, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """What the model says after each context, up to a stop string."""
        answers = []
        with self.on.progress("harness", len(requests)) as advance:
            for context, options in requests:
                answers.append(self._said(context, sampling(options)))
                advance(1)
        return answers

    def _said(self, context: str, how: Sampling) -> str:
        room, model = self.length - how.max_tokens, self.on.model
        if room < 1:
            raise UnsupportedError(f"harness: an answer of {how.max_tokens} tokens: raise `length` from {self.length}")
        tokens = model.tokenizer.encode(context)
        kept = context if len(tokens) <= room else model.tokenizer.decode(tokens[-room:])
        return "".join(generate(model.model, model.tokenizer, kept, how, device=model.device))


def sampling(options: Mapping[str, Any]) -> Sampling:
    """How a task wants its answers: greedy unless it says `do_sample`, up to one of `until`.

    >>> sampling({"until": ["\\n", ""], "max_gen_toks": 8, "temperature": 0.7})
    Sampling(temperature=0.0, top_p=1.0, seed=0, max_tokens=8, stop=('\\n',))
    """
    until = options.get("until") or []
    return Sampling(
        temperature=float(options.get("temperature", 1.0)) if options.get("do_sample") else 0.0,
        top_p=float(options.get("top_p") or 1.0),
        max_tokens=next((int(options[name]) for name in _LIMITS if options.get(name) is not None), MAX_GENERATED),
        stop=tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop),
    )


def harness_model(on: Setting, *, length: int) -> Any:
    """A model of lm-evaluation-harness, an `LM`, that answers with an emitted one."""
    optional("lm_eval", extra="eval", purpose="lm-evaluation-harness")
    from lm_eval.api.model import LM

    class EmittedLM(LM):  # type: ignore[misc]
        """Hands requests on to Answers."""

        def __init__(self) -> None:
            super().__init__()
            self.answers = Answers(on, length)

        def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            return self.answers.likelihoods([request.args for request in requests])

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
            return self.answers.rolling([text for (text,) in (request.args for request in requests)])

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            return self.answers.continued([request.args for request in requests])

    return EmittedLM()
