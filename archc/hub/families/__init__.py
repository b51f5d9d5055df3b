"""One file per foreign family: a table of config fields and of tensors."""
