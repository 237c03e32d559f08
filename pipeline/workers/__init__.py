"""One function over many tasks: in processes of this machine, or as tasks of a Ray cluster."""
