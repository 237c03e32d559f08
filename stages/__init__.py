"""One module a DVC stage: read params, call pipeline, write outs."""

import atexit
import gc

# Python looks for garbage again and again while torch is imported, and among all modules when a process ends. There is
# none, and each takes half a second.
gc.set_threshold(50_000)
atexit.register(gc.freeze)
