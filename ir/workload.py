"""What a model is asked to do, and in which formats: the values that cost expressions are evaluated on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self

from archc.ir.arithmetic import Number
from archc.ir.formats import FORMATS, get_format
from archc.kernels.errors import UnsupportedError

if TYPE_CHECKING:
    from archc.ir.graph import Graph

PREFILL_CHUNK = 2048
CONTEXT = 8192

# Formats that values are computed in. Models whose weights are in another compute in bf16.
WORKING_FORMATS = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class Workload:
    """Sequences to serve.

    `context` is the tokens of a sequence at which memory and a decode step are taken; `input` are prefilled, in
    calls of at most `prefill_chunk` tokens of the whole batch, and `output` are decoded. `batch` of None is one
    sequence, except that throughput is then taken at the largest batch that fits.
    """

    context: int
    input: int
    output: int = 0
    batch: int | None = None
    prefill_chunk: int = PREFILL_CHUNK

    @classmethod
    def of(
        cls,
        *,
        context: int | None = None,
        input: int | None = None,
        output: int | None = None,
        batch: int | None = None,
        prefill_chunk: int = PREFILL_CHUNK,
    ) -> Self:
        """A workload from what was given: context is the sum of input and output, input without output the context.

        Raises UnsupportedError for numbers below one, or a context that is not that sum.
        """
        given = {"context": context, "input": input, "output": output, "batch": batch, "prefill_chunk": prefill_chunk}
        for name, value in given.items():
            if value is not None and value < 1:
                raise UnsupportedError(f"`{name}` must be at least 1: got {value}")
        if context is None:
            context = CONTEXT if input is None and output is None else (input or 0) + (output or 0)
        if input is None:
            input = context - (output or 0)
        if input < 1 or (output is not None and input + output != context) or input > context:
            raise UnsupportedError(f"context is input + output: got {context=}, {input=}, {output=}")
        return cls(context, input, output or 0, batch, prefill_chunk)

    @property
    def sequences(self) -> int:
        """The batch that memory and latency are taken at."""
        return self.batch or 1

    def call_tokens(self, batch: int) -> int:
        """The most tokens that one call has: a prefill chunk, or a decode step of the batch."""
        return max(min(batch * self.input, self.prefill_chunk), batch)


@dataclass(frozen=True)
class FormatChoice:
    """A format by class. `weights` of None leaves every parameter in the format that the model gives it."""

    weights: str | None = None
    kv: str | None = None
    ssm: str | None = None
    conv: str | None = None
    activations: str | None = None

    def of(self, graph: Graph) -> dict[str, str]:
        """The format of every class: as chosen here, else the graph's own, else the default.

        KV, convolution state and activations are by default in the format that the model works in, that of its
        weights or bf16; the SSM state is in fp32, as serving engines keep it, since every token is summed into it.
        Raises UnknownName for a format that does not exist.
        """
        chosen = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        given = {name: get_format(f).name for name, f in {**dict(graph.formats), **chosen}.items()}
        weights = given.get("weights", "bf16")
        working = weights if weights in WORKING_FORMATS else "bf16"
        defaults = {"weights": weights, "kv": working, "ssm": "fp32", "conv": working, "activations": working}
        return {**defaults, **given}

    @property
    def keeps_own(self) -> bool:
        """Whether parameters keep formats of their own."""
        return self.weights is None


def bytes_env(formats: Mapping[str, str]) -> dict[str, Number]:
    """Bytes of one element by `bytes.<class>` and `bytes.<format>`."""
    by_format: dict[str, Number] = {f"bytes.{f.name}": f.bytes_per_element for f in FORMATS.values()}
    return {**by_format, **{f"bytes.{name}": Fraction(get_format(f).bytes_per_element) for name, f in formats.items()}}
