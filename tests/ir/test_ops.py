"""Every registered op keeps the op contract."""

import pytest

from archc.testing import OpContract
from archc.testing.contracts import example_ops, op_id


@pytest.mark.parametrize("op", example_ops(), ids=op_id)
class TestOps(OpContract): ...
