"""Contract kits and hypothesis strategies: what everything registered is held to, and other people's may be too."""

from archc.testing.contracts import OpContract, example_ops, one_op_graph
from archc.testing.strategies import graphs

__all__ = ["OpContract", "example_ops", "graphs", "one_op_graph"]
