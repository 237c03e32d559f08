"""One module a dataset: how its raw files are read (or drawn)."""
