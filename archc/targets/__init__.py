"""Which graphs a runtime can load: a table of machine-checked rules (`archc check`, and what search asks)."""

from archc.hub.fit import Rule, Violation
from archc.targets.fitting import Fit, check, fit
from archc.targets.table import TARGETS

__all__ = ["TARGETS", "Fit", "Rule", "Violation", "check", "fit"]
