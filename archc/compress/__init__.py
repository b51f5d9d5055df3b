"""Compression: a recipe of passes applied to a checkpoint, its weights carried along from disk to disk."""
