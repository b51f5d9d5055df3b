"""`python -m archc` is the `archc` command."""

from __future__ import annotations

from archc.cli import main

if __name__ == "__main__":
    main()
