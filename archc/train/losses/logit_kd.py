"""Distillation from a teacher's logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from torch import Tensor
from typing_extensions import Doc

from archc.kernels.errors import ArchcError
from archc.train.batch import Batch
from archc.train.losses.base import Loss, Needs, Setting, TeacherNeeds, Value, loss
from archc.train.losses.chunked import chunked_sums, flat, shifted
from archc.train.losses.step import Step

Divergence = Literal["forward_kl", "reverse_kl", "mixture", "js"]


@loss("logit_kd")
class LogitKD(Loss):
    """Divergence of the student's next-token distribution from a teacher's, in nats.

    `forward_kl` is KL(teacher || student) (Hinton et al. 2015; Minitron 2024 trains with it alone); `reverse_kl` is
    KL(student || teacher) (MiniLLM, Gu et al. 2024); `mixture` is `mix` of the forward and 1 - `mix` of the reverse;
    `js` is Jensen-Shannon with the teacher's share `mix` (GKD, Agarwal et al. 2024). At a `temperature` both sides are
    softened, and the loss is scaled by its square. Positions weigh as the token that they predict does.

    Of several teachers, one `logit_kd` each: the weighted sum of forward KLs has the gradient of the KL from the
    teachers' weighted mean.
    """

    teacher: Annotated[str, Doc("whose logits; none: those of the only teacher")] = ""
    divergence: Annotated[Divergence, Doc("how far two distributions lie apart")] = "forward_kl"
    mix: Annotated[float, Doc("of `mixture` and `js`: the teacher's share")] = 0.5
    temperature: Annotated[float, Doc("that both sides' logits are divided by")] = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ArchcError(f"`temperature` must be above 0: got {self.temperature}")
        if not 0 < self.mix < 1:
            raise ArchcError(f"`mix` must lie between 0 and 1: got {self.mix}")

    def needs(self, setting: Setting) -> Needs:
        name, teacher = setting.teacher(self.teacher)
        own = setting.student.dims["vocab"].size
        if teacher.vocab != own:
            raise ArchcError(
                "`logit_kd` compares distributions over one vocabulary:"
                f" the student {setting.student.name} has {own} tokens, the teacher `{name}` has {teacher.vocab}"
            )
        return Needs(teachers={name: TeacherNeeds(temperatures=frozenset({self.temperature}))})

    def count(self, batch: Batch, setting: Setting) -> Tensor:
        return shifted(batch, 1)[1].sum()

    def __call__(self, step: Step) -> Value:
        taught, between = step.taught(self.teacher), DIVERGENCES[self.divergence]
        _, weights = shifted(step.batch, 1)

        def summed(h: Tensor, weight: Tensor, *rows: Tensor) -> tuple[Tensor]:
            targets = taught.targets(*rows)
            student = targets.bucketed(step.model.logits(h), self.temperature)
            return ((between(targets.log_probs(self.temperature), student, self.mix) * weight).sum(),)

        h, *rows = (flat(one, weights.shape[1]) for one in (step.h, *taught.rows))
        (total,) = chunked_sums(summed, h, weights.flatten(), *rows, width=step.setting.student.dims["vocab"].size)
        return Value(self.temperature**2 * total, self.count(step.batch, step.setting))


def temperatures(losses: Iterable[Loss], teacher: str) -> tuple[float, ...]:
    """At which a teacher's logits are wanted: what a cache of them must keep."""
    return tuple(
        sorted({one.temperature for one in losses if isinstance(one, LogitKD) and one.teacher in ("", teacher)})
    )


# -- divergences of log-probabilities [rows, buckets], teacher p and student q, one number a row -----------------------


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of log-probabilities; what p holds impossible adds nothing."""
    return torch.where(p > -torch.inf, p.exp() * (p - q), 0.0).sum(-1)


def forward_kl(p: Tensor, q: Tensor, mix: float) -> Tensor:
    """KL(p || q)."""
    return kl(p, q)


def reverse_kl(p: Tensor, q: Tensor, mix: float) -> Tensor:
    """KL(q || p)."""
    return kl(q, p)


def mixture(p: Tensor, q: Tensor, mix: float) -> Tensor:
    """`mix` KL(p || q) + (1 - `mix`) KL(q || p)."""
    return mix * kl(p, q) + (1 - mix) * kl(q, p)


def js(p: Tensor, q: Tensor, mix: float) -> Tensor:
    """Generalised Jensen-Shannon: `mix` KL(p || m) + (1 - `mix`) KL(q || m), with m = `mix` p + (1 - `mix`) q."""
    m = torch.logaddexp(p + math.log(mix), q + math.log(1 - mix))
    return mix * kl(p, m) + (1 - mix) * kl(q, m)


DIVERGENCES: Mapping[Divergence, Callable[[Tensor, Tensor, float], Tensor]] = MappingProxyType(
    {"forward_kl": forward_kl, "reverse_kl": reverse_kl, "mixture": mixture, "js": js}
)
