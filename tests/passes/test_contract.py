"""Every registered pass keeps the pass contract."""

import pytest

from archc.testing.pass_contract import PassContract, example_passes


@pytest.mark.parametrize("one", example_passes(), ids=str)
class TestPasses(PassContract): ...
