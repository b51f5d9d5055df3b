"""Tokenizers: bytes, and the files of Hugging Face, SentencePiece and tiktoken. One file per kind, in the order
that a folder is searched for them."""

from __future__ import annotations

from archc.train.tokenizers import bytes_file, huggingface, sentencepiece, tiktoken
from archc.train.tokenizers.base import (
    BYTES_NAME,
    TextStream,
    Tokenizer,
    find_tokenizer,
    load_tokenizer,
    tokenizer_format,
    tokenizer_formats,
)

__all__ = [
    "BYTES_NAME",
    "TextStream",
    "Tokenizer",
    "bytes_file",
    "find_tokenizer",
    "huggingface",
    "load_tokenizer",
    "sentencepiece",
    "tiktoken",
    "tokenizer_format",
    "tokenizer_formats",
]
