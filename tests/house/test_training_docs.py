"""docs/training.md's worked loss and data source are executed: each in a process of its own, since what is registered
stays registered."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import json
from pathlib import Path
from rich.console import Console
from archc.train.recipe_load import load_recipe
from archc.train.run import train

recipe = load_recipe('''archc_recipe: 1
model: tiny-dense
tokenizer: bytes
data: {train: [{stdlib: {part: train}}], held_out: [{stdlib: {part: held_out}}]}
sequence: 16
batch_tokens: 32
budget: {steps: 2}
losses: [next_token, {z_loss: {weight: 1.0e-4}}]
tensorboard: off
''')
train(recipe, Path("run"), console=Console(quiet=True))
for line in Path("run/metrics.jsonl").read_text().splitlines():
    print({name: value for name, value in json.loads(line).items() if "z_loss" in name})
"""


PACK = """
from archc.train.packed import PackedDataset
from archc.train.tokenizers import find_tokenizer

made = PackedDataset.build(Csv(files="my.csv", field="body"), find_tokenizer("bytes"), Path("packed"), on_bad="skip")
print(made.manifest.documents, made.manifest.text_bytes, len(made.manifest.skipped))
"""


def run_of_the_page(file: str, then: str, folder: Path) -> str:
    """What Python prints that runs a worked file of the page and then something more."""
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"^```python\n# {file}\n(.*?)^```", page, re.M | re.S)
    run = subprocess.run([sys.executable, "-c", code + then], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def test_the_worked_source_is_packed(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("id,body\n1,first text\n2,\n3,second\n", encoding="utf-8")
    assert run_of_the_page("archc/train/sources/csv_file.py", PACK, tmp_path).split() == ["2", "16", "1"]


def test_the_worked_loss_trains(tmp_path: Path) -> None:
    printed = run_of_the_page("archc/train/losses/z_loss.py", RUN, tmp_path)
    # Logits of a fresh model are near zero: log Z is that of 320 equal ones, its square about 33.
    told = [float(number) for number in re.findall(r"z_loss': ([\d.]+)", printed)]
    assert told and all(30 < number < 37 for number in told), printed
