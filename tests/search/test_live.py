"""What a search shows while it runs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from archc.hardware import load_hardware
from archc.ir.workload import Workload
from archc.search.budgets import Measured, Objective
from archc.search.figures import Figure, Score, Setting
from archc.search.ladder import Candidate, Report, Rung, climb
from archc.searching.live import Live, RungWatch, SweepWatch, TrialWatch


class Clock:
    """A clock that stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def console(**options: object) -> Console:
    return Console(file=io.StringIO(), width=80, highlight=False, **options)  # type: ignore[arg-type]


def printed(out: Console) -> list[str]:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


def test_a_log_has_a_line_now_and_then_with_the_time_left() -> None:
    clock, out = Clock(), console()
    with Live("nano", 1000, out=out, clock=clock) as live:
        for done in range(0, 1001, 10):
            live.update(done, feasible=0.5, front=done // 100)
            clock.now += 0.5
    shown = printed(out)
    assert shown[0] == "nano: 40 of 1,000, 50% within the budgets, 0 on the front, 48 s left"
    assert len(shown) == 5 and shown[-1] == "nano: 840 of 1,000, 50% within the budgets, 8 on the front, 8 s left"


def test_what_is_quick_says_nothing() -> None:
    for out in (console(), console(force_terminal=True)):
        clock = Clock()
        with Live("nano", 10, out=out, clock=clock) as live:
            live.update(5)
            clock.now += 1.9
            live.update(10)
        assert printed(out) == []


def test_time_left_counts_what_is_done_now() -> None:
    clock = Clock()
    live = Live("nano", 100, out=console(), clock=clock, done=50)
    clock.now += 10
    live.update(60, feasible=1.0)
    assert live.line == "nano: 60 of 100, 100% within the budgets, 40 s left"
    live.begin("zero_shot", 8)
    clock.now += 3600
    live.update(2)
    assert live.line == "nano zero_shot: 2 of 8, 100% within the budgets, 3.0 h left"


def test_a_terminal_has_a_bar_and_the_best() -> None:
    clock, out = Clock(), console(force_terminal=True, color_system=None, legacy_windows=False)
    with Live("[x]", 10, out=out, clock=clock) as live:
        clock.now += 3
        live.update(5, feasible=0.25, front=3, best=["[a] 1.0", "b " + "x" * 200])
    text = "\n".join(printed(out))
    for words in ("[x]", "5/10", "25% within the budgets, 3 on the front, 3 s left", "[a] 1.0", "…", "━"):
        assert words in text
    assert out.file.getvalue().count("\x1b[?25h") == 1, "the cursor is back"  # type: ignore[attr-defined]


@pytest.mark.parametrize("blocks", [1, 4])
def test_a_sweep_tells_of_its_front(blocks: int) -> None:
    at = Setting(Workload.of(context=1024), hardware=load_hardware("a10g"))
    objectives = [Objective(Figure(f, at), "minimize") for f in ("params.total", "latency.decode")]
    values = np.array([[1.0, 2, 3, 4, 4, 5, 9, 0], [4.0, 3, 3, 1, 1, 0, 9, 0]])
    over = np.array([[0.0, 0, 0, 0, 0, 0, 0, 1]])
    clock = Clock()
    live = Live("nano", 8, out=console(), clock=clock)
    watch = SweepWatch(live, objectives)
    for part in np.array_split(np.arange(8), blocks):
        clock.now += 60
        watch(Measured({}, over[:, part], values[:, part]), len(part) // 2)
    assert (live.done, live.front, live.feasible) == (8, 4, 0.5)


def test_trials_tell_of_the_front_and_of_the_best() -> None:
    at = Setting(Workload.of(context=1024), hardware=load_hardware("a10g"))
    objectives = [Objective(Figure("params.total", at), "maximize"), Objective(Score("loss"), "minimize")]

    def trial(number: int, values: list[float] | None, over: float = -1.0) -> SimpleNamespace:
        return SimpleNamespace(number=number, values=values, user_attrs={"violations": {"params.active": over}})

    clock = Clock()
    live = Live("tpe", 8, out=console(), clock=clock, done=2)
    watch = TrialWatch(live, objectives, [trial(0, [10.0, 3.0]), trial(1, [20.0, 4.0])])
    clock.now += 10
    for one in (trial(2, [15.0, 2.5]), trial(3, [99.0, 0.1], over=1.0), trial(4, None), trial(5, [15.0, 9.0])):
        watch(one)
    assert (live.done, live.front) == (6, 2)
    assert live.line == "tpe: 6 of 8, 80% within the budgets, 2 on the front, 5 s left"
    assert list(live.best) == [f"{objectives[0]}: 20 (trial 1)", f"{objectives[1]}: 2.5 (trial 2)"]


def test_rungs_are_counted_one_by_one() -> None:
    out, clock = console(), Clock()
    clock_steps: list[str] = []
    with Live("ladder", 3, out=out, clock=clock) as live:
        rungs = [Rung(Lengths(name), keep) for name, keep in (("proxy", 2), ("zero_shot", 1))]
        watch = RungWatch(live, {"proxy": 3, "zero_shot": 2})

        def tell(rung: Rung, candidate: Candidate) -> None:
            watch(rung, candidate)
            clock_steps.append(live.line.partition(",")[0])

        climb([Candidate(name, {}, name, "") for name in ("bbb", "a", "cc")], rungs, Nothing(), tell)
    of_zero_shot = [f"ladder zero_shot: {n} of 2" for n in (1, 2)]
    assert clock_steps == [*(f"ladder proxy: {n} of 3" for n in (1, 2, 3)), *of_zero_shot]
    assert list(live.best) == ["proxy: 1 (a)", "zero_shot: 1 (a)"]


@dataclass
class Lengths:
    """A scorer: how long a candidate's name is."""

    name: str
    identity: str = ""

    def score(self, candidate: Candidate, report: Report) -> float:
        return float(len(candidate.name))


class Nothing:
    """A cache that keeps nothing."""

    def get(self, key: str) -> float | None:
        return None

    def put(self, key: str, score: float) -> None:
        pass
