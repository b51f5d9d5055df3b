"""docs/training.md's worked loss is executed: in a process of its own, since a loss is registered for good."""

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


def test_the_worked_loss_trains(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n# archc/train/losses/z_loss.py\n(.*?)^```", page, re.M | re.S)
    run = subprocess.run([sys.executable, "-c", code + RUN], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    # Logits of a fresh model are near zero: log Z is that of 320 equal ones, its square about 33.
    told = [float(number) for number in re.findall(r"z_loss': ([\d.]+)", run.stdout)]
    assert told and all(30 < number < 37 for number in told), run.stdout
