"""One file per command of the `archc` command line; the table in archc/cli.py names them."""
