"""Small models to measure."""

from __future__ import annotations

import pytest

from archc.evaluate.subject import Subject
from archc.train.bytes import ByteTokenizer
from tests.evaluate.models import VOCAB, emitted


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject("small", emitted(tmp_path_factory.mktemp("small"), seed=0), ByteTokenizer(), VOCAB)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject("other", emitted(tmp_path_factory.mktemp("other"), seed=1), ByteTokenizer(), VOCAB)
