"""One module a DVC stage: read params, call pipeline, write outs."""
