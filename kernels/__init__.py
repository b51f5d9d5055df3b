"""Primitives (torch references and faster implementations) and the error tree: the lowest room."""
