"""The Jinja2 templates of the emitted files, and their environment."""

from __future__ import annotations

import functools
from typing import Any

import jinja2


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("archc.codegen", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Python and Markdown, not HTML
    )


def render_template(template: str, /, **values: Any) -> str:
    """The template `<template>.j2` filled in."""
    return _environment().get_template(f"{template}.j2").render(**values)
