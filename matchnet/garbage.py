"""Python's looks for garbage, of which a second of each command can be saved.

It looks again and again while torch is imported, and among all modules when a process ends. No module is garbage.
"""

import atexit
import gc

OBJECTS_BETWEEN_LOOKS = 50_000
USUAL = gc.get_threshold()


def few_collections() -> None:
    """Call it before torch is imported: it saves half a second then, and as much at the end of the process."""
    gc.set_threshold(OBJECTS_BETWEEN_LOOKS)
    atexit.register(gc.freeze)


def usual_collections() -> None:
    """Call it when all is imported: what is there now is never looked at again."""
    gc.freeze()
    gc.set_threshold(*USUAL)
