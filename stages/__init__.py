"""One module a DVC stage: read params, call pipeline, write outs."""

from matchnet.garbage import few_collections

few_collections()
