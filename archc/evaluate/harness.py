"""Tasks of lm-evaluation-harness: by name, or from local YAML files, whose data may lie beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from archc.evaluate.metric import Figure, Metric, Setting, metric, needs_positive
from archc.kernels.errors import ArchcError
from archc.kernels.optional import optional


@metric("harness")
class Harness(Metric):
    """`tasks` are YAML files or names; contexts are cut to `length` tokens; `limit` documents of each task, or all."""

    tasks: tuple[str, ...]
    length: int = 2048
    limit: int = 0

    def __post_init__(self) -> None:
        needs_positive(self, "length")
        if not self.tasks:
            raise ArchcError("harness: `tasks` must name a task, or its YAML file")

    def measure(self, on: Setting) -> tuple[Figure, ...]:
        """What the tasks measure, each with its standard error where it has one."""
        lm_eval = optional("lm_eval", extra="eval", purpose="lm-evaluation-harness")
        from archc.evaluate.harness_model import harness_model

        found: Any = lm_eval.simple_evaluate(
            model=harness_model(on, length=self.length),
            tasks=[task for name in self.tasks for task in _loaded(name)],
            limit=self.limit or None,
            log_samples=False,
            bootstrap_iters=1000,
        )
        return tuple(figure for task, values in found["results"].items() for figure in _figures(task, values))


def _loaded(name: str) -> list[Any]:
    """A task's name as it is; the tasks of a YAML file, read where it lies, as its data are beside it."""
    file = Path(name)
    if file.suffix not in (".yaml", ".yml"):
        return [name]
    if not file.is_file():
        raise ArchcError(f"no such task file: {file}")
    from lm_eval.tasks import TaskManager

    with contextlib.chdir(file.resolve().parent):
        return list(TaskManager(include_defaults=False).load([file.name])["tasks"].values())


def _figures(task: str, values: Mapping[str, Any]) -> Iterator[Figure]:
    """The figures of a task, of which the harness gives `metric,filter` and `metric_stderr,filter`."""
    for key, value in values.items():
        name, _, chosen = key.partition(",")
        if not chosen or not isinstance(value, int | float) or name.endswith("_stderr"):
            continue
        label = name if chosen == "none" else f"{name}@{chosen}"
        error = values.get(f"{name}_stderr,{chosen}")
        spread = f" ± {error:.4f}" if isinstance(error, float) else ""
        yield Figure(f"{task}.{label}", value, f"{task}, {label}", f"{value:.4f}{spread}")
        if isinstance(error, float):
            yield Figure(f"{task}.{label}_stderr", error, "", "")
