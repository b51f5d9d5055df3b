"""The Optuna study of a search: candidates as trials, with their figures, budgets as named constraints.

Stored in Optuna's journal file unless a URL says otherwise, so that optuna-dashboard opens it as it is. Budgets are
constraints (`trial.constraints`, Optuna 5) and, since the dashboard does not show these yet, user attributes too.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from archc.kernels.errors import SearchError
from archc.search.budgets import Budget, Objective
from archc.search.choices import Choice, Option
from archc.search.space import Space

FINGERPRINT, WORKER = "archc:search", "worker"
STALE_S = 5  # after which a lock that a killed process held is taken: it is held for milliseconds
CONSTRAINT = "constraints:"  # Optuna's own key of a named constraint


def open_storage(where: str | Path) -> Any:
    """A journal file by its path, a database by its URL. Raises SearchError where it cannot be opened."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    if isinstance(where, Path):
        where.parent.mkdir(parents=True, exist_ok=True)
        # Optuna's lock is a link to the file: of a relative path it dangles, and is never taken from a killed process.
        file = str(where.resolve())
        return JournalStorage(JournalFileBackend(file, JournalFileSymlinkLock(file, grace_period=STALE_S)))
    try:
        return optuna.storages.get_storage(where)
    except ImportError as error:  # the driver of a database
        hint = "pip install 'archc[postgresql]' has PostgreSQL's"
        raise SearchError(f"{_unsecret(where)}: its driver is not installed ({error}): {hint}") from error
    except Exception as error:  # SQLAlchemy's own, of many kinds
        cause = str(error).partition("\n")[0]
        raise SearchError(f"{_unsecret(where)}: cannot be opened as a storage of studies: {cause}") from error


def _unsecret(url: str) -> str:
    """A URL without its password.

    >>> _unsecret("postgresql://me:secret@host/studies")
    'postgresql://me:***@host/studies'
    """
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def open_study(
    storage: Any, name: str, objectives: Sequence[Objective], fingerprint: Mapping[str, str], pruner: Any = None
) -> Any:
    """The study, which prunes nothing without a `pruner`, made where it is not there.

    `fingerprint` identifies the search, part by part. Raises SearchError where the storage holds another one of that
    name, and says in which parts it differs."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[o.sense for o in objectives],
        sampler=optuna.samplers.RandomSampler(seed=0),  # trials are proposed elsewhere
        pruner=pruner or optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    stored = study.user_attrs.get(FINGERPRINT)
    if stored is None and not study.trials:
        study.set_user_attr(FINGERPRINT, dict(fingerprint))
        with warnings.catch_warnings():  # said to be experimental
            warnings.simplefilter("ignore")
            study.set_metric_names([_metric(o) for o in objectives])
    elif stored != fingerprint:
        before = stored if isinstance(stored, dict) else {}
        other = [part for part in fingerprint if before.get(part) != fingerprint[part]]
        told = f"of other {', '.join(other)}" if before else "of another search"
        raise SearchError(f"the storage holds another study `{name}`, {told}: choose another name or folder")
    return study


def fingerprinted(parts: Mapping[str, Any]) -> dict[str, str]:
    """What identifies a search, a hash of each part."""
    return {part: hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16] for part, value in parts.items()}


def record(
    study: Any,
    space: Space,
    budgets: Sequence[Budget],
    rows: Sequence[tuple[Mapping[str, int], Sequence[float], Sequence[float]]],
    attributes: Sequence[Mapping[str, Any]],
) -> None:
    """Add finished trials: points, their values of the objectives, by how much they break each budget."""
    from optuna.trial import TrialState, create_trial

    distributions = {c.name: distribution(c) for c in space.choices}
    trials = []
    for (point, values, violations), more in zip(rows, attributes, strict=True):
        named = {name: float(v) for name, v in zip(constraint_names(budgets), violations, strict=True)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trials.append(
                create_trial(
                    state=TrialState.COMPLETE,
                    values=[float(v) for v in values],
                    params={c.name: encoded(c, point[c.name]) for c in space.choices},
                    distributions=distributions,
                    user_attrs={"point": dict(point), "violations": named, **more},
                    system_attrs={CONSTRAINT + name: v for name, v in named.items()},
                )
            )
    study.add_trials(trials)


def begin(study: Any, space: Space, point: Mapping[str, int], notes: Mapping[str, Any], worker: str) -> Any:
    """A running trial of a point, written at once, so that one that is never finished is noticed."""
    import optuna
    from optuna.trial import TrialState, create_trial

    template = create_trial(
        state=TrialState.RUNNING,
        params={c.name: encoded(c, point[c.name]) for c in space.choices},
        distributions={c.name: distribution(c) for c in space.choices},
        user_attrs={"point": dict(point), WORKER: worker},
        system_attrs=dict(notes),
    )
    storage = study._storage
    return optuna.trial.Trial(study, storage.create_new_trial(study._study_id, template_trial=template))


def finish(
    study: Any, trial: Any, budgets: Sequence[Budget], values: Sequence[float], violations: Sequence[float]
) -> None:
    """The values of a running trial, and by how much it breaks each budget."""
    _constrain(trial, budgets, violations)
    study.tell(trial, [float(v) for v in values])


def prune(study: Any, trial: Any, budgets: Sequence[Budget], violations: Sequence[float]) -> None:
    """A running trial that was stopped on its way."""
    from optuna.trial import TrialState

    _constrain(trial, budgets, violations)
    study.tell(trial, state=TrialState.PRUNED)


def _constrain(trial: Any, budgets: Sequence[Budget], violations: Sequence[float]) -> None:
    named = {name: float(v) for name, v in zip(constraint_names(budgets), violations, strict=True)}
    for name, value in named.items():
        trial.set_constraint(name, value)
    trial.set_user_attr("violations", named)


def fail(study: Any, trial: Any, cause: str) -> None:
    """A running trial that came to nothing, and why."""
    from optuna.trial import TrialState

    trial.set_user_attr("error", cause)
    study.tell(trial, state=TrialState.FAIL)


def abandoned(study: Any, alive: Callable[[str], bool]) -> list[Mapping[str, int]]:
    """Points of running trials whose worker is gone, each marked as failed: they are to be tried again."""
    from optuna.trial import TrialState

    found: list[Mapping[str, int]] = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if alive(str(trial.user_attrs.get(WORKER, ""))):
            continue
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, RuntimeError):  # another worker was faster
            continue
        if "point" in trial.user_attrs:
            found.append(dict(trial.user_attrs["point"]))
    return found


def constraint_names(budgets: Sequence[Budget]) -> list[str]:
    """What each budget is called among a trial's constraints: its figure, with the setting where two have the same."""
    figures = [budget.figure.name for budget in budgets]
    return [b.figure.name if figures.count(b.figure.name) == 1 else str(b) for b in budgets]


def distribution(choice: Choice) -> Any:
    """Ordered, as the values are: whole numbers in their steps, or positions where these differ. Options that are no
    numbers are categories."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    values = choice.values
    if _is_category(choice):
        return CategoricalDistribution([str(choice.shown(value)) for value in values])
    step = _step(values)
    return IntDistribution(values[0], values[-1], step=step) if step else IntDistribution(0, len(values) - 1)


def encoded(choice: Choice, value: int) -> int | str:
    """A value as its distribution has it."""
    if _is_category(choice):
        return str(choice.shown(value))
    return value if _step(choice.values) else choice.values.index(value)


def decoded(choice: Choice, param: int | str) -> int:
    """The value that a parameter of a trial stands for."""
    if isinstance(param, str):
        return next(value for value in choice.values if choice.shown(value) == param)
    return param if _step(choice.values) else choice.values[param]


def _is_category(choice: Choice) -> bool:
    return isinstance(choice, Option) and bool(choice.meanings)


def _step(values: Sequence[int]) -> int:
    """The step of values that are evenly spaced, else 0."""
    steps = {b - a for a, b in itertools.pairwise(values)}
    return steps.pop() if len(steps) == 1 else int(not steps)


def _metric(objective: Objective) -> str:
    return f"{objective.sense} {objective.figure.name}"
