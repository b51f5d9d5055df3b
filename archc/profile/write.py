"""Writing a measured profile as the YAML that `archc.hardware` reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from archc.hardware import HardwareFile


def write_profile(profile: HardwareFile, path: Path) -> None:
    """Write a profile to `path`, whole or not at all; laws stand on a line each, parts that are zero left out."""
    data = profile.model_dump(exclude_defaults=True)
    for modes in data.get("measured", {}).values():
        for laws in modes.values():
            for kind, law in laws.items():
                laws[kind] = _line(law)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{os.getpid()}")
    yaml = YAML()
    yaml.width = 200
    try:
        with made.open("w", encoding="utf-8") as file:
            yaml.dump(data, file)
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)


def _line(law: dict[str, Any]) -> CommentedMap:
    line = CommentedMap(law)
    line.fa.set_flow_style()
    return line
