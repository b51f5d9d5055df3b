"""Every registered pass keeps the pass contract, over every op that it can touch."""

import pytest

from archc.ir.op import registered_ops
from archc.testing.pass_contract import MODELS, IdleContract, PassContract, cases, idle_cases, model


@pytest.mark.parametrize("case", cases(), ids=str)
class TestPasses(PassContract): ...


@pytest.mark.parametrize("case", idle_cases(), ids=str)
class TestIdle(IdleContract): ...


def test_the_models_have_every_op_that_the_zoo_is_made_of() -> None:
    kinds = {node.op.kind for name in MODELS for node in model(name).nodes}
    lacking = {cls.kind for cls in registered_ops()} - kinds
    assert lacking == set()
