"""Losses: what a model is trained to make small. One file each."""

from __future__ import annotations

from archc.train.losses import block_kd, hidden_kd, load_balance, logit_kd, mtp, next_token
from archc.train.losses.base import Loss, Needs, Setting, TeacherNeeds, Value, loss, loss_class, registered_losses
from archc.train.losses.combined import Losses, Values
from archc.train.losses.step import Step

__all__ = [
    "Loss",
    "Losses",
    "Needs",
    "Setting",
    "Step",
    "TeacherNeeds",
    "Value",
    "Values",
    "block_kd",
    "hidden_kd",
    "load_balance",
    "logit_kd",
    "loss",
    "loss_class",
    "mtp",
    "next_token",
    "registered_losses",
]
