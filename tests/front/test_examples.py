"""Every file of examples/ works."""

from pathlib import Path

import pytest

from archc.hardware import load_hardware
from archc.resolve import load
from archc.sheet import cost

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEVICES = {"device.yaml"}


@pytest.mark.parametrize("file", sorted(p.name for p in EXAMPLES.glob("*.yaml") if p.name not in DEVICES))
def test_specs_load_and_cost(file: str) -> None:
    assert cost(load(EXAMPLES / file), context="8k").params.total > 10**8


@pytest.mark.parametrize("file", sorted(DEVICES))
def test_devices_load(file: str) -> None:
    sheet = cost("tiny-hybrid", hardware=load_hardware(str(EXAMPLES / file)), context="8k")
    assert sheet.latency is not None and sheet.latency.decode_s_per_token > 0
