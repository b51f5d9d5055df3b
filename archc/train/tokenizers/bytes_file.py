"""The file by which the byte tokenizer travels."""

from __future__ import annotations

import json
from pathlib import Path

from archc.kernels.errors import ArchcError, UnsupportedError
from archc.train.bytes import OWN_FILE, ByteTokenizer
from archc.train.tokenizers.base import tokenizer_format


@tokenizer_format("bytes", OWN_FILE, when=lambda head: b'"archc_tokenizer"' in head)
def read_byte_tokenizer(path: Path) -> ByteTokenizer:
    """The byte tokenizer, if that is what the file says."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArchcError(f"{path} is not JSON: {error}") from error
    if stored != ByteTokenizer.FILE:
        expected = json.dumps(ByteTokenizer.FILE)
        raise UnsupportedError(f"{path} is not a byte tokenizer that archc knows: expected {expected}")
    return ByteTokenizer()
