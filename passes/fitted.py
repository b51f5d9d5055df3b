"""What passes share whose new weights may be fitted on data: they lie in a file, which the pass names by its hash.

A pass is text, so what was fitted enters a pipeline by name: whoever has the weights and the data fits it between two
passes, writes the file, and puts the pass that names it in the place of the one that does not.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from archc.ir.graph import Graph
from archc.passes.base import Pass

if TYPE_CHECKING:
    from torch import Tensor


class FittedPass(Pass):
    """A pass with weights of `path`, the safetensors file whose sha256 is `sha256`; without one they start anew.

    The path is relative to the folder that the map of weights is run over."""

    path: str
    sha256: str

    @abstractmethod
    def fit(
        self, graph: Graph, weights: Mapping[str, Tensor], batches: Iterable[Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        """The tensors of the file, fitted on inputs of `graph`, as it stands before the pass, with its weights."""
