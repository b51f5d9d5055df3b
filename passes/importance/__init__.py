"""Importance: how much units and blocks matter, by estimators that run the model. One file per family."""

from __future__ import annotations

from archc.passes.importance import activation, expert, influence, iterative, removal, taylor, weight_norm
from archc.passes.importance.base import Batch, Estimator, estimator, parse_estimators, registered_estimators
from archc.passes.importance.measuring import measure

__all__ = [
    "Batch",
    "Estimator",
    "activation",
    "estimator",
    "expert",
    "influence",
    "iterative",
    "measure",
    "parse_estimators",
    "registered_estimators",
    "removal",
    "taylor",
    "weight_norm",
]
