"""Moved to `archc.train.tokenizers`."""

from __future__ import annotations

from archc.train.tokenizers import BYTES_NAME, TextStream, Tokenizer, find_tokenizer, load_tokenizer

__all__ = ["BYTES_NAME", "TextStream", "Tokenizer", "find_tokenizer", "load_tokenizer"]
