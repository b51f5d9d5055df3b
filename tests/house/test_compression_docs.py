"""docs/compression.md is true: its recipes and commands run, on an untrained model of the same shape and less text."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from archc.cli import app
from archc.hub.checkpoint_dir import load_checkpoint, write_checkpoint_dir
from archc.importance import load_scores
from archc.ir.init import init_weights
from archc.resolve import load
from archc.train.bytes import ByteTokenizer

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "compression.md").read_text(encoding="utf-8")
LESS = {
    "stdlib": "text.txt",
    "16k": "512",
    "64k": "512",
    "sequence 256": "sequence 64",
    "sequence: 256": "sequence: 64",
}


def less(text: str) -> str:
    """The same over a small text."""
    for more, instead in LESS.items():
        text = text.replace(more, instead)
    return text


def recipes() -> dict[str, str]:
    """The recipes of the page by file; one that is shown without its head has that of the first."""
    head = "archc_compress: 1\nimportance: scores.safetensors\n"
    found = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
    passes = [text if "archc_compress" in text else head + text for text in found if "passes:" in text]
    named = [re.match(r"# (\S+)\n", text) for text in passes]
    return {
        name[1] if name else f"{i}.yaml": less(text) for i, (name, text) in enumerate(zip(named, passes, strict=True))
    }


def commands() -> list[str]:
    """The commands of the page but those that train."""
    found = re.findall(r"^    (archc .*?)(?:  +#.*)?$", PAGE, re.M)
    return [less(one) for one in found if one.split()[1] not in ("distill", "eval")]


def run(command: str) -> Result:
    return CliRunner().invoke(app, shlex.split(command)[1:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command of the page has run."""
    made = tmp_path_factory.mktemp("page")
    graph = load(str(ROOT / "benchmarks/reference/hybrid.yaml"))
    write_checkpoint_dir(made / "CKPT", graph, init_weights(graph, seed=0), {"step": "made"})
    ByteTokenizer().save(made / "CKPT")
    (made / "text.txt").write_text("\n".join(f"line {n} is {n * n}" for n in range(200)))
    for name, text in recipes().items():
        (made / name).write_text(text)
    return made


@pytest.mark.slow
def test_what_the_page_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    printed = {}
    for command in commands():
        done = run(command)
        name = command.split()[1]
        # 1 says of these that models differ, and that a runtime cannot load one
        assert done.exit_code in ((0, 1) if name in ("diff", "check") else (0,)), f"{command}: {done.exception}"
        printed[name] = done.output
    assert len(list(Path("plots").iterdir())) > 3
    shown = [line for line in printed["diff"].splitlines() if not line.startswith("1 ")]
    for line in ("2  d_model 192 -> 128 everywhere", "3  n_heads 6 -> 4 in 4 of 4 mamba2 layers"):
        assert line in shown and line in PAGE
    assert "weights are what the pipeline makes" in printed["verify"]
    for name in recipes():
        done = run(f"archc compress CKPT --recipe {name} -o out/{name}")
        assert done.exit_code == 0, f"{name}: {done.exception}"
        assert run(f"archc verify out/{name} --parent CKPT").exit_code == 0
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    given = {"graph": load_checkpoint("CKPT").graph, "scores": load_scores("scores.safetensors")}
    exec(code, given)
    assert len(given["made"].blocks["layers"]) == 11


@pytest.mark.slow
def test_the_question_of_migrate_is_the_one_asked() -> None:
    (command, told) = next(
        (first, rest) for first, _, rest in re.findall(r"^```text\n\$ (.*?)(\n)(.*?)^```", PAGE, re.M | re.S)
    )
    assert f"error: {run(command).exception}\n" == told
