"""lm-evaluation-harness runs local tasks over an emitted model, offline."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from archc.evaluate.harness import Harness
from archc.evaluate.harness_model import Answers
from archc.evaluate.metric import Setting
from archc.evaluate.subject import Subject
from archc.kernels.errors import ArchcError, MissingPackage
from tests.evaluate.models import values

TASKS = Path(__file__).parent / "tasks"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples/tasks/docstrings.yaml"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_the_example_is_scored_as_by_hand(small: Subject) -> None:
    found = values(small, Harness(tasks=(str(EXAMPLE),), length=128))
    answers, right = Answers(Setting(small), length=128), []
    for doc in lines(EXAMPLE.with_suffix(".jsonl")):
        pairs = [(str(doc["text"]), f" {choice}") for choice in doc["choices"]]  # type: ignore[attr-defined]
        scores = [score for score, _ in answers.likelihoods(pairs)]
        right.append(scores.index(max(scores)) == doc["answer"])
    assert found["docstrings.acc"] == pytest.approx(sum(right) / len(right))
    assert found["docstrings.acc_stderr"] > 0


@pytest.mark.slow
def test_local_tasks_of_every_kind(small: Subject) -> None:
    tasks = (str(TASKS / "lines.yaml"), str(TASKS / "say.yaml"))
    found = values(small, Harness(tasks=tasks, length=16))
    texts = [str(doc["text"]) for doc in lines(TASKS / "lines.jsonl")]
    nats = -sum(Answers(Setting(small), length=16).rolling(texts))
    size = sum(len(text.encode()) for text in texts)
    assert found["lines.bits_per_byte"] == pytest.approx(nats / math.log(2) / size)
    assert found["say.exact_match"] == 0.0


def test_a_task_file_that_is_not_there_is_named(small: Subject, tmp_path: Path) -> None:
    with pytest.raises(ArchcError, match="no such task file"):
        values(small, Harness(tasks=(str(tmp_path / "none.yaml"),)))


def test_the_extra_is_named_where_it_is_missing(small: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingPackage, match=r"needs `lm_eval`: pip install 'archc\[eval\]'"):
        values(small, Harness(tasks=("a",)))
