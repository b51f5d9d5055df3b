"""Metrics as text, and what they are handed."""

from __future__ import annotations

import pytest

from archc.evaluate.metric import Setting, evaluate, metric, metrics, parse_metric
from archc.evaluate.metrics import Drafts, Harness, NGram, Perplexity, Recall
from archc.evaluate.report import as_json, table
from archc.evaluate.subject import Subject
from archc.kernels.errors import ArchcError, ParseError
from archc.train.corpus import Document
from tests.evaluate.models import TEXTS

OPTIONS = {
    "harness": Harness(tasks=("a.yaml", "b"), limit=3),
    "recall": Recall(distances=(1, 2)),
    "ngram": NGram(order=3),
}


@pytest.mark.parametrize("name", metrics())
def test_every_metric_reads_back(name: str) -> None:
    made = OPTIONS.get(name, metrics()[name]) if name == "harness" else metrics()[name]()  # harness needs its tasks
    assert parse_metric(str(made)) == made
    assert made.__doc__


@pytest.mark.parametrize("made", OPTIONS.values(), ids=str)
def test_options_read_back(made: object) -> None:
    assert parse_metric(str(made)) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recal", "1:1: unknown metric `recal`: did you mean `recall`?"),
        ("recall{distance=(1)}", "unknown field `distance`: did you mean `distances`?"),
        ("recall{pairs=many}", "`pairs`: input should be a valid integer, got 'many'"),
        ("recall perplexity", "1:8: unexpected `perplexity`"),
        ("harness", "`harness` needs `tasks`"),
        ("", "expected a metric"),
    ],
)
def test_errors_point_at_their_place(text: str, message: str) -> None:
    with pytest.raises(ParseError) as raised:
        parse_metric(text)
    assert message in str(raised.value)


def test_a_metric_is_registered_once() -> None:
    with pytest.raises(ArchcError, match="`recall` is registered twice"):
        metric("recall")(Recall)


def test_a_model_is_asked_for_before_anything_runs() -> None:
    with pytest.raises(ArchcError, match=r"recall, drafts\{prompts=2\}: measures a model"):
        evaluate([NGram(order=99), Recall(), Drafts(prompts=2)], Setting(texts=TEXTS))


def test_a_baseline_wants_text_to_learn_from() -> None:
    with pytest.raises(ArchcError, match="--learn FILES"):
        evaluate([NGram()], Setting(texts=TEXTS))


def test_what_was_measured_is_told(small: Subject) -> None:
    measured = evaluate([Perplexity(length=8), NGram(order=2)], Setting(small, TEXTS, (Document("l", "learn this"),)))
    found = as_json(measured)
    assert [m["as"] for m in found] == ["perplexity{length=8}", "ngram{order=2}"]
    assert found[0]["bytes"] == found[1]["bytes"]
    assert table(measured).row_count == 10
