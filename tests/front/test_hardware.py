"""Hardware profiles: what archc ships, several devices, files of one's own and their errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from archc.hardware import HardwareFile, hardware_names, load_hardware
from archc.kernels.errors import SpecErrors, UnknownName, UnsupportedError

OWN = """\
title: My machine
memory: 16GiB
bandwidth_gb_s: 50
peak_tflops: {bf16: 1.5, fp8_e4m3: 3}
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_the_profiles_that_ship() -> None:
    assert {"a10g", "a100", "l40s", "h100", "h200", "b200", "gb200", "rtx-5080", "rtx-pro-6000"} <= set(
        hardware_names()
    )


@pytest.mark.parametrize("name", hardware_names())
def test_a_shipped_profile_loads_and_gives_a_source_for_every_figure(name: str) -> None:
    profile = load_hardware(name)
    assert profile.name == name and profile.devices == 1
    assert {"memory", "bandwidth_gb_s", "peak_tflops", "link_gb_s", "link_latency_us"} <= set(profile.sources)
    assert 0 < profile.reserve_bytes < profile.memory_bytes
    assert profile.bytes_per_s == pytest.approx(0.7 * profile.bandwidth_bytes_s)


def test_the_a10g_is_not_an_a10() -> None:
    a10g = load_hardware("a10g")
    assert a10g.peak_flops["bf16"] == 70e12
    # Nemotron Nano 2: 22.06 GiB - 5% - 1.3 GiB for a vision encoder = 19.66 GiB
    assert (a10g.memory_bytes - a10g.reserve_bytes) / 2**30 - 1.3 == pytest.approx(19.66, abs=0.005)


def test_several_devices() -> None:
    assert load_hardware("4xH100").devices == 4
    assert str(load_hardware("64xh100")) == "64xh100"
    assert load_hardware("4xh100").times(1) == load_hardware("h100")


def test_a_format_without_units_runs_as_bf16() -> None:
    h100, b200 = load_hardware("h100"), load_hardware("b200")
    assert h100.flops_per_s("fp8") == pytest.approx(0.45 * 1979e12)
    assert h100.flops_per_s("nvfp4") == h100.flops_per_s("bf16") == pytest.approx(0.45 * 989.5e12)
    assert b200.compute_format("nvfp4") == "nvfp4"


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    profile = load_hardware(written(tmp_path, OWN + "matmul_efficiency: {bf16: 0.8}\nreserve: 0.1\n"))
    assert profile.name == "mine"
    assert profile.flops_per_s("bf16") == pytest.approx(1.2e12)
    assert profile.flops_per_s("fp8") == pytest.approx(0.45 * 3e12)
    assert profile.reserve_bytes == round(0.1 * 16 * 2**30)
    with pytest.raises(UnsupportedError, match="states no link"):
        profile.times(2)
    with pytest.raises(UnsupportedError, match="2 of them"):
        load_hardware("2x" + written(tmp_path, OWN))


def test_unknown_names_suggest() -> None:
    with pytest.raises(UnknownName, match="unknown hardware `h10`: did you mean `h100`"):
        load_hardware("8xh10")
    with pytest.raises(UnknownName, match="unknown hardware ``"):
        load_hardware("")


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (("bandwidth_gb_s", "bandwith_gb_s"), 3, "did you mean `bandwidth_gb_s`"),
        (("16GiB", "sixteen"), 2, "expected a size such as 19.66GiB"),
        (("bf16: 1.5, ", ""), 4, "expected a rate for `bf16`"),
        (("fp8_e4m3", "fp9"), 4, "unknown format `fp9`"),
        (("1.5", "-1.5"), 4, "expected a rate above 0"),
        (("title: My machine", "sources: {bandwidth: me}"), 1, "unknown field `bandwidth`"),
        (("bandwidth_gb_s: 50\n", ""), 1, "missing field `bandwidth_gb_s`"),
        (("50", "-50"), 3, "expected a number greater than 0, got `-50`"),
        (("1.5", ".inf"), 4, "finite"),
        (("title: My machine", "matmul_efficiency: {bf16: 45}"), 1, "at most 1, for `bf16`: got 45"),
        (("title: My machine", "measured: {fp32: {train: {mlpp: {overhead_us: 1}}}}"), 1, "did you mean `mlp`"),
    ],
)
def test_errors_have_a_place(tmp_path: Path, change: tuple[str, str], line: int, message: str) -> None:
    path = written(tmp_path, OWN.replace(*change))
    with pytest.raises(SpecErrors) as caught:
        load_hardware(path)
    assert f"{path}:{line}:" in str(caught.value) and message in str(caught.value)


def test_a_missing_file_is_one_error() -> None:
    with pytest.raises(SpecErrors, match=r"no-such-machine\.yaml: cannot read the file"):
        load_hardware("no-such-machine.yaml")


def test_the_fields_have_descriptions_for_editors() -> None:
    assert HardwareFile.model_json_schema()["properties"]["memory"]["description"]
