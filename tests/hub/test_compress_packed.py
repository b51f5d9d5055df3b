"""Packed weights through passes: whole blocks bit by bit, others dequantised, taken and quantised anew by opt-in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import transformers
from typer.testing import CliRunner

from archc.cli import app
from archc.compress.recipe import load_recipe
from archc.compress.run import compress
from archc.compress.verify import verify
from archc.hub.checkpoint_dir import CheckpointDir
from archc.hub.export import export_checkpoint
from archc.hub.weights import weights_of
from archc.kernels.errors import ArchcError, UnsupportedError
from archc.passes import Pipeline
from tests.hub.oracles import ORACLES, read_tensors, save

KEY = "layers.1.mixer.down_proj"
FILE = "model.layers.0.mlp.experts.down_proj"
SCATTERED = "prune{dim=d_ff, to=64, by=random}"
Values = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gpt-oss with 7 experts of 96 hidden units, whose 64 x 96 matrices are mxfp4."""
    folder: Path = tmp_path_factory.mktemp("packed") / "hf"
    save(ORACLES["gpt_oss-mxfp4"], folder)
    return folder


LEVELS = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def dequantised(blocks: npt.NDArray[np.uint8], scales: npt.NDArray[np.uint8]) -> Values:
    """The values of mxfp4 parts, as the OCP specification has them."""
    codes = np.stack([blocks & 15, blocks >> 4], -1).reshape(*blocks.shape[:-1], 32)
    values = LEVELS[codes & 7] * np.where(codes & 8, -1.0, 1.0)
    wide: Values = (values * 2.0 ** (scales.astype(float) - 127)[..., None]).reshape(*scales.shape[:-1], -1)
    return wide


def quantised(values: Values) -> Values:
    """What is left of values after quantisation: each the nearest level, of two equally near the even one."""
    blocks = values.reshape(-1, 32)
    largest = np.abs(blocks).max(-1, keepdims=True)
    scale = 2.0 ** (np.floor(np.log2(np.where(largest > 0, largest, 1.0))) - 2)
    far = np.abs(np.abs(blocks / scale)[..., None] - LEVELS)
    order = [*range(0, 8, 2), *range(1, 8, 2)]  # even codes first, for argmin takes the first of equals
    nearest = LEVELS[np.array(order)[far[..., order].argmin(-1)]]
    return (np.sign(blocks) * nearest * scale).reshape(values.shape)


def parts(made: CheckpointDir) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    return made.tensors.read(f"{KEY}.blocks").numpy(), made.tensors.read(f"{KEY}.scales").numpy()


@pytest.mark.parametrize(
    ("passes", "rows", "blocks"),
    [
        ("prune{dim=d_ff, to=64, by=first}", slice(None), slice(0, 2)),
        ("prune{dim=d_model, to=32, by=first}", slice(0, 32), slice(None)),
    ],
)
def test_whole_blocks_in_order_stay_bit_by_bit(
    passes: str, rows: slice, blocks: slice, parent: Path, tmp_path: Path
) -> None:
    made = compress(parent, Pipeline.parse(passes), tmp_path / "out")
    before = read_tensors(parent)
    ours = parts(made)
    for got, name in zip(ours, ("blocks", "scales"), strict=True):
        np.testing.assert_array_equal(got, before[f"{FILE}_{name}"].numpy()[:, rows, blocks])
    assert "requantise" not in made.history[-1]


def test_scattered_units_need_the_flag(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"and 2 more, stored as mxfp4 in blocks of 32.*`--requantise`"):
        compress(parent, Pipeline.parse(SCATTERED), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_quantised_anew_is_dequantise_take_quantise(parent: Path, tmp_path: Path) -> None:
    made = compress(parent, Pipeline.parse(SCATTERED), tmp_path / "out", requantise=True)
    before = read_tensors(parent)
    whole = dequantised(before[f"{FILE}_blocks"].numpy(), before[f"{FILE}_scales"].numpy())  # [7, 64, 96]
    kept = kept_units(parent, made)  # [7, 64], each expert has its own
    taken = np.take_along_axis(whole, kept[:, None, :], 2)
    np.testing.assert_array_equal(dequantised(*parts(made)), quantised(taken))
    gates = [made.tensors.read(f"layers.1.mixer.gate_proj.{part}").numpy() for part in ("blocks", "scales")]
    for got, name in zip(gates, ("blocks", "scales"), strict=True):  # whole rows: not quantised anew
        woven = before[f"model.layers.0.mlp.experts.gate_up_proj_{name}"].numpy()
        np.testing.assert_array_equal(got, np.stack([e[0::2][k] for e, k in zip(woven, kept, strict=True)]))
    assert made.history[-1]["requantise"] is True
    assert not verify(tmp_path / "out", parent).problems


def kept_units(parent: Path, made: CheckpointDir) -> npt.NDArray[np.int64]:
    """The units that each expert keeps in the first layer, read off the bias of the gate."""
    few, every = made.tensors.read("layers.1.mixer.gate_bias"), weights_of(parent).read("layers.1.mixer.gate_bias")
    same = few[:, :, None] == every[:, None, :]
    assert (same.sum(-1) == 1).all()
    return same.int().argmax(-1).numpy()


def test_sizes_that_no_blocks_fit_are_refused_with_the_flag_too(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="would be made no whole number of blocks"):
        compress(parent, Pipeline.parse("prune{dim=d_ff, to=48, by=first}"), tmp_path / "out", requantise=True)
    assert not (tmp_path / "out").exists()


def test_experts_are_dropped_packed_and_transformers_loads_them(parent: Path, tmp_path: Path) -> None:
    made = compress(parent, Pipeline.parse("drop-experts{units=(1)}"), tmp_path / "out")
    export_checkpoint(made, tmp_path / "hf")
    how = transformers.Mxfp4Config(dequantize=True)
    model = transformers.GptOssForCausalLM.from_pretrained(tmp_path / "hf", quantization_config=how)
    assert model.config.num_local_experts == 6


def test_recipes_and_the_command_have_the_flag(parent: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"archc_compress: 1\nrequantise: true\npasses:\n  - {SCATTERED!r}\n")
    assert load_recipe(recipe).requantise
    command = ["compress", str(parent), "--passes", SCATTERED, "-o", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, ArchcError)
    done = CliRunner().invoke(app, [*command, "--requantise"])
    assert done.exit_code == 0, done.output
