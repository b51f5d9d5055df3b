"""One stream of calibration batches through the model, for all estimators together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archc import __version__
from archc.ir.execute import Reading, check_weights, execute
from archc.ir.graph import Graph
from archc.kernels.errors import PassError
from archc.passes.importance.base import Batch, Estimator, Measurement, Subject, parse_estimators
from archc.passes.importance.removals import removals, results
from archc.passes.scores import Scores

if TYPE_CHECKING:
    from torch import Tensor


def measure(
    graph: Graph,
    weights: Mapping[str, Tensor],
    batches: Iterable[Tensor | Mapping[str, Tensor] | Batch],
    estimators: str | Sequence[Estimator],
    *,
    about: Mapping[str, Any] | None = None,
) -> Scores:
    """Scores of a model's units and blocks by each of the estimators, over batches of tokens.

    A batch is tokens [B, L], or a mapping with `tokens` and `segments` [B, L]. It runs once, however many estimators
    watch; those that compare the model with itself without a block run that, too. Memory holds one batch and running
    sums, so batches may be a generator. How samples are cut into batches changes nothing but rounding. An estimator's
    scores stand under its name, under its text where two have one name. `about` joins what the scores say of
    themselves. Raises PassError for batches that are none, or where there are none and an estimator needs some.
    """
    chosen = parse_estimators(estimators) if isinstance(estimators, str) else tuple(estimators)
    check_weights(graph, weights)
    subject = Subject(graph, weights)
    names = _names(chosen)
    running = [one.start(subject) for one in chosen]
    samples, tokens = 0, 0
    if any(one.needs_data for one in chosen):
        for batch in map(_batch, batches):
            _run(subject, batch, running)
            samples, tokens = samples + batch.shape[0], tokens + batch.tokens.numel()
        if not samples:
            needing = ", ".join(f"`{one}`" for one in chosen if one.needs_data)
            raise PassError(f"no batch of tokens was given, which {needing} needs")
    return Scores(
        graph.short_hash,
        {name: units for name, one in zip(names, running, strict=True) if (units := one.units())},
        {name: blocks for name, one in zip(names, running, strict=True) if (blocks := one.blocks())},
        {
            "estimators": {name: str(one) for name, one in zip(names, chosen, strict=True)},
            "samples": samples,
            "tokens": tokens,
            "archc": __version__,
            **(about or {}),
        },
    )


def _names(chosen: Sequence[Estimator]) -> list[str]:
    if not chosen:
        raise PassError("no estimator was given")
    times = Counter(one.name for one in chosen)
    names = [one.name if times[one.name] == 1 else str(one) for one in chosen]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise PassError(f"estimators given twice: {', '.join(twice)}")
    return names


def _batch(given: Tensor | Mapping[str, Tensor] | Batch) -> Batch:
    """A batch as estimators take it. Raises PassError for what is none."""
    from torch import Tensor

    if isinstance(given, Mapping) and "tokens" in given and given.keys() <= {"tokens", "segments"}:
        given = Batch(given["tokens"], given.get("segments"))
    made = Batch(given) if isinstance(given, Tensor) else given
    if not isinstance(made, Batch):
        raise PassError(
            f"a batch is tokens [B, L], or a mapping of `tokens` and `segments`: got {type(given).__name__}"
        )
    tokens = made.tokens
    if tokens.ndim != 2 or tokens.is_floating_point() or not tokens.numel():
        raise PassError(f"a batch is whole numbers [B, L]: got {tokens.dtype} {list(tokens.shape)}")
    if made.segments is not None and made.segments.shape != tokens.shape:
        raise PassError(f"segments must be {list(tokens.shape)} like the tokens: got {list(made.segments.shape)}")
    return made


def _run(subject: Subject, batch: Batch, running: Sequence[Measurement]) -> None:
    """What the estimators need of one batch: a run that they watch, runs without each block, runs of their own."""
    import torch

    watching, removing = ([one for one in running if one.watches], [one for one in running if one.removes])

    def watch(reading: Reading) -> None:
        for one in watching:
            one.read(reading, batch)

    with torch.no_grad():
        if removing:
            full = results(subject, batch, watch=watch if watching else None, whole=bool(watching))
            for block, found in removals(subject, batch):
                for one in removing:
                    one.without(block, full, found, batch)
        elif watching:
            execute(subject.graph, subject.weights, batch.inputs, watch=watch)
    for one in running:
        one.batch(batch)
