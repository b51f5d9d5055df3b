"""Run llama.cpp's converter on a Hugging Face folder without a tokenizer: convert.py LLAMA_CPP FOLDER OUT.gguf.

nemotron_h's config is handed over as it stands in the file: transformers 5 would fill a dense one with the defaults of
experts, which the converter (made with an older transformers) takes for a model with experts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(llama_cpp: Path, folder: Path, out: Path) -> None:
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    import gguf
    import torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    config = json.loads((folder / "config.json").read_text())
    if config["model_type"].startswith("nemotron_h"):
        ModelBase.load_hparams = staticmethod(lambda *_, **__: dict(config))
    made = get_model_class(get_model_architecture(config, ModelType.TEXT))
    made.set_vocab = made._set_vocab_none
    with torch.inference_mode():
        made(folder, gguf.LlamaFileType.ALL_F32, out, eager=True).write()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
